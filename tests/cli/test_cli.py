import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commands import tiny
from fleets import one_at_a_time, run, workers

from ganfleet import __version__, cli, errors
from ganfleet.plugins import STRATEGIES
from ganfleet.store import checkpoint

HERE = Path(__file__).parents[1]
START = "import sys; from ganfleet.cli import main; sys.argv[0] = 'ganfleet'; main()"
HEAVY = ["mindspore", "numpy", "pydantic", "yaml", "rich"]


def ganfleet(*args, cwd=HERE, **variables):
    """The real command in a process of its own, as the console script runs it."""
    command = [sys.executable, "-c", START, *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=os.environ | variables)


def ending(capsys, body):
    """The exit code and what is on stderr when a command with this body ends."""
    with pytest.raises(SystemExit) as ended:
        cli.run(click.Command("body", callback=body), [])
    return ended.value.code, capsys.readouterr().err


def raising(error):
    def body():
        raise error

    return body


def test_help_names_every_verb_and_imports_nothing_heavy():
    look = f"""
import sys
from ganfleet.cli import main
try:
    main(["--help"])
finally:
    print("imported:", [name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0
    assert "imported: []" in done.stdout
    for verb in ("plan", "train", "sample", "ckpt"):
        assert f"\n  {verb} " in done.stdout


def test_version_is_the_packages():
    done = ganfleet("-V")
    assert (done.returncode, done.stdout) == (0, f"ganfleet, version {__version__}\n")


def test_the_package_runs_as_a_module_and_the_working_directory_shadows_nothing(tmp_path):
    (tmp_path / "queue.py").write_text("raise SystemExit('the user's own queue')")
    package = Path(cli.__file__).parents[1]
    for start in (["-m", "ganfleet"], [str(package / "__main__.py")]):
        done = subprocess.run([sys.executable, *start, "--help"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("Usage: ganfleet ")


@one_at_a_time
@pytest.mark.slow
def test_ranks_import_the_users_module_and_no_shadow_of_the_standard_library(tmp_path):
    """``strategies`` is the name of a package of ganfleet's, and ``queue`` of a module of Python's."""
    for name in ("queue", "random", "socket"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    loss = "def d_loss(self, nets, real, noise):\n        return (nets.D(real['image']) ** 2).mean(), {}"
    (tmp_path / "strategies.py").write_text(
        f"from ganfleet.strategies.gan import GAN\n\nclass Mine(GAN):\n    {loss}\n"
    )
    words = ("--config", tiny(tmp_path), "strategy.name=strategies:Mine", "train.steps=1", "run.name=mine")
    ended = run(workers(2, *words), tmp_path)
    assert ended.code == 0, ended.output
    [path] = checkpoint.within(tmp_path / "runs" / "mine")
    assert checkpoint.load(path).config["strategy"]["name"] == "strategies:Mine"


def test_what_lies_beside_a_launch_script_is_not_importable():
    script = HERE.parent / "launch" / "train.py"
    code = f"import sys; from ganfleet.cli import forget_folder; sys.path.insert(0, {str(script.parent)!r}); "
    code += f"forget_folder({str(script)!r}); import train"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True)
    assert "No module named 'train'" in done.stderr


# ── What a launcher leaves in the environment

WORKER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "16"}


@pytest.mark.parametrize(
    "left",
    [
        {"MS_ROLE": "MS_WORKER"},
        {"OMPI_COMM_WORLD_SIZE": "4"},
        {"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "2"},
        WORKER | {"MS_NODE_ID": "3", "RANK_ID": "3", "DEVICE_ID": "3"},
    ],
)
def test_verbs_that_are_no_fleet_ignore_it_and_speak(left, tmp_path):
    version = ganfleet("-V", cwd=tmp_path, **left)
    assert (version.returncode, version.stderr) == (0, "")
    for verb in (["ckpt", "ls", "nowhere"], ["plan", "--config", "nowhere.yaml"], ["plam"]):
        done = ganfleet(*verb, cwd=tmp_path, **left)
        assert done.returncode == 2 and len(done.stderr) > 10, done


@pytest.mark.parametrize("variable", ["MS_ROLE", "OMPI_COMM_WORLD_SIZE"])
def test_training_names_a_variable_that_was_left(variable, tmp_path):
    left = {"MS_ROLE": {"MS_ROLE": "MS_WORKER"}, "OMPI_COMM_WORLD_SIZE": {"OMPI_COMM_WORLD_SIZE": "4"}}[variable]
    done = ganfleet("train", "--config", "any.yaml", cwd=tmp_path, **left)
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1 and f"unset {variable}" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a full disk at hand")
@pytest.mark.parametrize("arguments", [["--version"], ["strategies"], ["configs"]])
def test_output_to_a_full_disk_ends_with_74(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", START, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr.count("ganfleet: error: the disk is full")) == (74, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_workers_are_not_started_by_what_is_a_rank_itself(tmp_path):
    left = WORKER | {"MS_NODE_ID": "0", "DEVICE_ID": "0"}
    done = ganfleet("train", "--workers", "2", "--config", "any.yaml", cwd=tmp_path, **left)
    assert done.returncode == 2
    assert "leave out --workers, or unset MS_ROLE" in done.stderr


@pytest.mark.parametrize(
    "rank, printed",
    [
        ({"MS_NODE_ID": "0", "DEVICE_ID": "0"}, "ganfleet: error: what to do\n"),
        ({"MS_NODE_ID": "1", "DEVICE_ID": "1"}, ""),
        ({"MS_NODE_ID": "8", "DEVICE_ID": "0"}, "ganfleet: error: rank 8 on {host}: what to do\n"),
        ({"RANK_ID": "0", "DEVICE_ID": "1"}, ""),  # no rank is given, and the scheduler's 0 is left
        ({"MS_ROLE": "MS_SCHED", "RANK_ID": "0"}, ""),
    ],
)
def test_one_rank_of_each_node_tells_what_it_meets_before_the_fleet_connects(rank, printed, capsys, monkeypatch):
    for name, value in (WORKER | rank).items():
        monkeypatch.setenv(name, value)
    told = ending(capsys, raising(errors.DataError("what to do")))
    assert told == (65, printed.format(host=socket.gethostname()))


def test_wrong_usage_ends_with_2():
    for args in (["plam"], ["--no-such-option"], ["plan"], ["plan", "--config"]):
        done = ganfleet(*args)
        assert done.returncode == 2
        assert "Error: " in done.stderr and "Traceback" not in done.stderr


def test_five_mistakes_are_five_lines_and_exit_2(tmp_path):
    (tmp_path / "five.yaml").write_text(
        """\
strategy:
  name: dcgam
data:
  source: foldr
train:
  batchsize: 32
  seed: yes
  lanes: 2
  lanes: 4
"""
    )
    done = ganfleet("plan", "--config", "five.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    heading, *lines = done.stderr.splitlines()
    assert heading == "ganfleet: error: 5 problems in the config"
    assert lines[0].startswith("five.yaml:2: strategy.name: unknown strategy 'dcgam', did you mean dcgan?")
    assert lines[1].startswith("five.yaml:4: data.source: unknown source 'foldr', did you mean folder? (known: ")
    assert lines[2:] == [
        "five.yaml:6: train.batchsize: unknown key, did you mean batch_size?",
        'five.yaml:7: train.seed: expected an integer, got "yes"',
        "five.yaml:9: train.lanes: duplicate key, first given at five.yaml:8",
    ]


@pytest.mark.parametrize("error", [errors.ConfigError, errors.Stopped, errors.CheckpointMismatch])
def test_an_error_of_ours_is_one_line_and_its_exit_code(capsys, error):
    assert ending(capsys, raising(error("what to do"))) == (error.exit_code, "ganfleet: error: what to do\n")


def test_any_other_exception_keeps_its_traceback_and_ends_with_70(capsys):
    code, printed = ending(capsys, raising(KeyError("w_avg")))
    assert code == 70
    first, *_, cause, last = printed.splitlines()
    assert first.startswith("Traceback")
    assert cause == "KeyError: 'w_avg'"
    assert last.startswith("ganfleet: internal error: KeyError")


def test_an_interrupt_ends_with_130(capsys):
    assert ending(capsys, raising(KeyboardInterrupt()))[0] == 130


def test_a_command_that_returns_ends_with_0(capsys):
    assert ending(capsys, lambda: None) == (0, "")
    assert ending(capsys, lambda: click.get_current_context().exit(3))[0] == 3


@pytest.mark.parametrize("verb", [["strategies"], ["plan", "--config", "../configs/gan_fashion.yaml"]])
def test_a_reader_that_has_read_enough_is_no_internal_error(verb):
    """As in ``ganfleet plan … | head -0``."""
    command = [sys.executable, "-u", "-c", START, *verb]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)
    process.stdout.close()
    assert process.stderr.read() == "ganfleet: error: the output was closed before its end: read all of it\n"
    assert process.wait() == 74


def started(arguments, cwd, closed):
    """The exit code of a command whose standard streams ``closed`` are closed, as ``<&-`` and ``>&-`` do."""
    command = [sys.executable, "-m", "ganfleet", *arguments]
    return subprocess.run(command, cwd=cwd, preexec_fn=lambda: [os.close(number) for number in closed]).returncode


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_command_whose_streams_are_closed_ends_as_with_them(closed, tmp_path):
    path = tiny(tmp_path)
    assert started(["plan", "--config", path], tmp_path, closed) == 0
    assert started(["plan", "--config", path, "train.lanes=5"], tmp_path, closed) == 2


@pytest.mark.slow
@one_at_a_time
def test_a_fleet_whose_streams_are_closed_trains(tmp_path):
    arguments = ["launch", "-n", "2", "--", "--config", tiny(tmp_path), "run.name=closed", "train.steps=2"]
    assert started(arguments, tmp_path, (0, 1, 2)) == 0
    assert checkpoint.newest_valid(tmp_path / "runs" / "closed" / "checkpoints")[0].name == "step-00000002"


@pytest.mark.parametrize("encoding, shown", [("gbk", "数据 \\xf6 \\udcc4"), ("latin-1", "\\u6570\\u636e ö \\udcc4")])
def test_what_a_terminal_cannot_show_is_escaped(encoding, shown):
    """Characters that its encoding lacks, and bytes of a file name that are no text."""
    code = "import click; from ganfleet.cli import run; "
    code += "run(click.Command('c', callback=lambda: print('\\u6570\\u636e \\xf6 \\udcc4')), [])"
    environ = os.environ | {"PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environ)
    assert (done.returncode, done.stdout.decode(encoding)) == (0, f"{shown}\n")


def test_every_strategy_of_ganfleets_own_is_listed_with_its_paper():
    listed = [each for each in STRATEGIES.listed() if each.origin == "ganfleet"]
    assert len(listed) > 7
    assert [each.name for each in listed if not re.match(r"[^()]+ \(arXiv:\d{4}\.\d{4,5}\)", each.summary)] == []
