"""``ganfleet ascend check``: what it passes and what it refuses, on MindSpore's own Ascend back end."""

import json
import os
import shutil

import pytest
from commands import ganfleet, one_error
from fleets import REPOSITORY

from ganfleet.ascend import check as checks
from ganfleet.ascend import stubs
from ganfleet.ascend.lines import mark, read
from ganfleet.errors import ConfigError

HERE = REPOSITORY / "tests" / "ascend"
PID = 4711
CONTROLS = [
    {"event": "section", "stage": "controls", "section": "MatrixPower"},
    "kernel_select_ascend.cc:240] TryBackoffCpu] Try to use backoff CPU kernel, node:Default/MatrixPower-op0",
    {"event": "twice backward", "error": "RuntimeError: ConvolutionGrad's bprop not defined"},
]
DEVICE = {"event": "device", "name": "Ascend"}
STEP = {"event": "step", "stage": "8", "waits": 0, "copies": 1, "prepared": 0}
DONE = {"event": "done"}
PHASE_D = {"event": "section", "stage": "8", "section": "D"}
AGAIN = {"event": "section", "stage": "8", "section": "second step"}
SECTION_END = {"event": "section", "stage": "8", "section": "end"}


def sent(*collectives):
    return {"event": "phase", "stage": "8", "section": "D", "sent": list(collectives), "planned": 1, "bytes": 2**20}


def kernel(operator, kind):
    return f"ascend_kernel_executor.cc:175] GenerateKernelMod] kernel opname:{operator}, kernel type:{kind}"


def log(*what, pid=PID):
    """What a child prints: its own lines, and those of MindSpore's C++ code."""
    begin = f"[INFO] DEVICE({pid},7f5a629f2b80,python):2026-11-26-18:46:40.305.359 [mindspore/ccsrc/plugin/ascend/x/"
    lines = [mark("n0", each) if isinstance(each, dict) else f"{begin}{each}\n".encode() for each in what]
    return b"".join(lines)


def judged(*what, world_size=1, code=0, pid=PID, nonce="n0"):
    """The result of a child that has printed ``what``, between controls that went as they should."""
    subject = checks.Subject("some/tiny.yaml", world_size=world_size)
    return checks.judge(subject, *read(log(*what, pid=pid), nonce, PID), code, controls=True)


GOOD = (DEVICE, *CONTROLS, PHASE_D, kernel("Mul", "opapi_kernel"), kernel("Mul", "opapi_kernel"))
CHOSEN = (kernel("Conv2D", "acl_kernel"), kernel("Reshape", "rt_kernel"), kernel("NarrowView", "host_kernel"))
REST = (*CHOSEN, sent(), AGAIN, STEP, SECTION_END, DONE)


def test_kernels_are_counted_by_type_and_nothing_is_wrong_with_a_good_log():
    result = judged(*GOOD, *REST)
    assert result.findings == []
    [part] = result.parts
    assert part.kernels == {"aclnn": {"Mul": 2}, "aclop": {"Conv2D": 1}, "view": {"NarrowView": 1, "Reshape": 1}}
    assert result.aclop_share == 1 / 3 and result.copies == {"8": 1}


def test_a_section_that_goes_on_after_another_is_one_part():
    part = {"event": "section", "stage": "8", "section": "step"}
    result = judged(DEVICE, *CONTROLS, part, kernel("Cut", "rt_kernel"), *GOOD[4:], sent(), part, *REST[:1], *REST[4:])
    assert [(each.name, each.count()) for each in result.parts] == [("D", 2), ("step", 2)]
    assert result.findings == []


@pytest.mark.parametrize(
    "what, finding",
    [
        pytest.param(({**DEVICE, "name": "CPU"}, *GOOD[1:], *REST), "no Ascend device, but CPU", id="device"),
        pytest.param((DEVICE, CONTROLS[0], *CONTROLS[2:], PHASE_D, *REST), "MatrixPower has no kernel", id="control"),
        pytest.param((DEVICE, *CONTROLS[:2], {**CONTROLS[2], "error": None}, PHASE_D, *REST), "must not", id="second"),
        pytest.param((*GOOD, kernel("Sort", "host_kernel"), *REST), "D: runs Sort 1 as host", id="host"),
        pytest.param((*GOOD, kernel("Sort", "aicpu_kernel"), *REST), "D: runs Sort 1 as aicpu_kernel", id="type"),
        pytest.param((*GOOD, CONTROLS[1], *REST), "D: runs MatrixPower 1 on the CPU", id="back-off"),
        pytest.param((*GOOD, kernel("AllReduce", "hccl_kernel"), *REST), "not the engine's", id="collective"),
        pytest.param((*GOOD, *REST[:5], GOOD[-1], *REST[5:]), "compiles again", id="again"),
        pytest.param((*GOOD, *REST[:5], {**STEP, "waits": 1}, *REST[6:]), "waits for the device 1 times", id="waits"),
        pytest.param((*GOOD, *REST[:5], {**STEP, "copies": 2}, *REST[6:]), "the host copies 2 tensors", id="copies"),
        pytest.param((*GOOD, *REST[:-1]), "the process ended with code 0 in 8/end", id="ended"),
        pytest.param(
            (*GOOD, {"event": "failed", "message": "RuntimeError: no bprop", "trace": ""}),
            "compiling failed in 8/D: RuntimeError: no bprop",
            id="failed",
        ),
    ],
)
def test_what_is_wrong_is_found(what, finding):
    found = judged(*what).findings
    assert len([each for each in found if finding in each]) == 1, found


def test_a_log_without_mindspores_lines_proves_nothing():
    """As where the log level is off, and where Python or another process prints what looks like them."""
    quiet = [each for each in (*GOOD, *REST) if isinstance(each, dict)]
    silent = "MindSpore's log names no kernel: nothing is known, whatever compiled"
    assert silent in judged(*quiet).findings
    assert silent in judged(*GOOD, *REST, pid=PID + 1).findings
    assert silent in judged(DEVICE, {"event": "x", "text": kernel("Mul", "opapi_kernel")}, *REST[3:]).findings
    assert judged(*GOOD, *REST, nonce="another").parts == []


@pytest.mark.parametrize(
    "collectives, compiled, finding",
    [
        ((), 0, "8/D: the engine sends 0 collectives, and 1 is planned"),
        ((["AllReduce", 40],), 1, None),
        ((["AllReduce", 40], ["AllReduce", 40]), 1, "8/D: the engine sends 2 collectives, and 1 is planned"),
        ((["AllReduce", 40],), 2, "8/D: AllReduce 2: more collectives than the engine sends"),
    ],
)
def test_each_phase_of_a_fleet_has_one_collective(collectives, compiled, finding):
    chosen = [kernel("AllReduce", "hccl_kernel")] * compiled
    found = judged(*GOOD, *chosen, *REST[:3], sent(*collectives), *REST[4:], world_size=8).findings
    assert found == ([finding] if finding else [])


def test_a_table_of_kernels_tells_what_has_changed(tmp_path):
    wheel, other = stubs.Wheel(tmp_path, "2.10.0", "a" * 64), stubs.Wheel(tmp_path, "2.9.0", "b" * 64)
    path = tmp_path / "kernels.json"
    result = judged(*GOOD, *REST)
    assert checks.differences(result, checks.read_table(path), wheel) == []
    path.write_text(checks.updated([result], {}, wheel))
    known = checks.read_table(path)
    assert checks.differences(result, known, wheel) == []
    changed = judged(*GOOD, kernel("Mul", "opapi_kernel"), *REST)
    assert checks.differences(changed, known, wheel) == ["8 / D / aclnn / Mul: 2 in the table, 3 now"]
    assert checks.differences(changed, known, other) == []
    both = json.loads(checks.updated([changed], known, other))
    assert set(both) == {"a" * 64, "b" * 64} and both["a" * 64] == known["a" * 64]
    known["a" * 64]["configs"].clear()
    assert "does not have this config" in checks.differences(result, known, wheel)[0]


def test_without_a_compiler_or_a_plug_in_it_says_not_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    arguments = ("ascend", "check", "--config", str(HERE / "dcgan.yaml"))
    assert "not checked: there is no " in one_error(ganfleet(*arguments), 2)
    monkeypatch.setattr(stubs, "PLUGIN", "lib/plugin/no_such.so")
    assert "not checked: this MindSpore has no Ascend plug-in" in one_error(ganfleet(*arguments), 2)


# ── With MindSpore's plug-in

needs_compiler = pytest.mark.skipif(
    not shutil.which("g++") or os.uname().sysname != "Linux", reason="needs g++ on Linux"
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working directory for what a dry run leaves there; the strategies in this folder are found from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)


def report(*arguments):
    """The check's exit code, and what it reports as JSON."""
    ended = ganfleet("ascend", "check", *arguments, "--json")
    return ended.code, json.loads(ended.output[ended.output.index("{") : ended.output.rindex("}") + 1])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", ["wgan_gp", "stylegan", "cyclegan"])
def test_a_tiny_config_passes_with_the_kernels_of_the_table(name):
    """The process connects twice, and compiles every stage. A DCGAN does so beside a config that cannot run."""
    code, found = report("--config", str(HERE / f"{name}.yaml"))
    [result] = found["configs"]
    assert (code, result["findings"]) == (0, [])
    assert all(count == 1 for count in result["copies"].values())


@pytest.mark.slow
@needs_compiler
def test_ranks_that_share_out_the_optimizer_scatter_the_sum_and_gather_the_weights(tmp_path):
    path = tmp_path / "gan.yaml"
    path.write_text(
        "strategy: {name: gan, resolution: 8, latent: 4, hidden: [8], optimizers: {D: {name: sgd, clip_norm: 1}}}\n"
        "train: {batch_size: 16, lanes: 8}\n"
        "fleet: {shard_optimizer: true}\n"
    )
    code, found = report("--config", str(path), "--world-size", "8")
    [result] = found["configs"]
    assert (code, result["findings"]) == (0, [])
    sent = {part["name"]: [name for name, _ in part["collectives"]] for part in result["parts"] if part["is_phase"]}
    # Clipping needs the whole gradient.
    assert sent == {"D": ["AllReduce", "AllGather"], "G": ["AllReduce", "ReduceScatter", "AllGather"]}


@pytest.mark.slow
@needs_compiler
def test_a_strategy_that_no_card_should_be_given_is_refused():
    small = ("strategy.resolution=8", "strategy.latent=4", "strategy.hidden=[8]")
    code, found = report("--strategy", "faulty_for_ascend:Faulty", "--world-size", "8", *small)
    [result] = found["configs"]
    assert code == 2
    for finding in (
        "/D: runs MatrixPower 1 on the CPU, for want of a kernel",
        "/G: AllReduce 2: more collectives than the engine sends",
        "/again: the engine sends 3 collectives, and 1 is planned",
        "a step waits for the device 2 times",
    ):
        assert [each for each in result["findings"] if finding in each], (finding, result["findings"])


@pytest.mark.slow
@needs_compiler
def test_beside_a_config_that_cannot_run_one_of_eight_cards_sends_one_all_reduce_per_phase(tmp_path):
    (tmp_path / "wrong.yaml").write_text((HERE / "dcgan.yaml").read_text() + "\nfleet: {reduction: often}\n")
    paths = ("--config", str(tmp_path / "wrong.yaml"), "--config", str(HERE / "dcgan.yaml"))
    code, found = report(*paths, "--world-size", "8", "--table", str(HERE / "kernels.json"))
    wrong, right = found["configs"]
    assert (code, found["passed"]) == (2, False)
    [told] = wrong["findings"]
    assert "wrong.yaml:" in told and "reduction" in told
    assert right["findings"] == [] and set(right["copies"].values()) == {1}
    phases = [part for part in right["parts"] if part["is_phase"]]
    assert [name for part in phases for name, _ in part["collectives"]] == ["AllReduce"] * len(phases) and phases
    assert all(part["kernels"]["collective"] == {"AllReduce": 1} for part in phases)


def test_a_table_of_another_form_is_refused(tmp_path):
    for number, text in enumerate(("[]", '{"a": 1}', '{"a": {"configs": {"b": []}}}', "no JSON")):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        with pytest.raises(ConfigError, match="is no table of kernels"):
            checks.read_table(path)


@pytest.mark.slow
@needs_compiler
def test_the_check_fails_where_mindspore_logs_nothing(monkeypatch):
    monkeypatch.setattr(stubs, "LOGGED", {"GLOG_v": "3"})
    small = ("strategy.resolution=8", "strategy.latent=4", "strategy.hidden=[8]")
    code, found = report("--strategy", "gan", *small)
    assert code == 2
    assert "MindSpore's log names no kernel: nothing is known, whatever compiled" in found["configs"][0]["findings"]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("value, told", [("true", "conv 1, matmul 1"), ("false", "conv 0, matmul 0")])
def test_mindspore_is_told_of_hf32_as_the_config_says(value, told):
    ended = ganfleet("ascend", "check", "--strategy", "faulty_for_ascend:Tells", f"fleet.hf32={value}")
    assert ended.code == 2 and f"FAILED faulty_for_ascend:Tells: {told}" in ended.output
