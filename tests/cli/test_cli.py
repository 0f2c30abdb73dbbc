import subprocess
import sys
from pathlib import Path

import click
import pytest

from ganfleet import cli, errors

HERE = Path(__file__).parents[1]
START = "import sys; from ganfleet.cli import main; sys.argv[0] = 'ganfleet'; main()"
HEAVY = ["mindspore", "numpy", "pydantic", "yaml", "rich"]


def ganfleet(*args, cwd=HERE):
    """The real command in a process of its own, as the console script runs it."""
    return subprocess.run([sys.executable, "-c", START, *args], cwd=cwd, capture_output=True, text=True)


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
    assert (done.returncode, done.stdout) == (0, "ganfleet, version 0.1.0\n")


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
    assert heading == "ganfleet: error: 5 problems in the configuration"
    assert lines[0].startswith("five.yaml:2: strategy.name: unknown strategy 'dcgam', did you mean dcgan?")
    assert lines[1].startswith("five.yaml:4: data.source: unknown source 'foldr', did you mean folder? (known: ")
    assert lines[2:] == [
        "five.yaml:6: train.batchsize: unknown key, did you mean batch_size?",
        'five.yaml:7: train.seed: expected an integer, got "yes"',
        "five.yaml:9: train.lanes: duplicate key, first given at five.yaml:8",
    ]


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.ConfigError, 2),
        (errors.DataError, 65),
        (errors.CheckpointDamaged, 65),
        (errors.PeerLost, 69),
        (errors.RunInUse, 73),
        (errors.StorageError, 74),
        (errors.Stopped, 75),
        (errors.NonFinite, 80),
        (errors.ReplicasDiverged, 82),
        (errors.Hang, 83),
        (errors.CheckpointMismatch, 85),
        (errors.RestartsSpent, 86),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_exit_code(capsys, error, code):
    assert ending(capsys, raising(error("what to do"))) == (code, "ganfleet: error: what to do\n")


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
    assert process.stderr.read() == "ganfleet: error: the output was closed before its end\n"
    assert process.wait() == 74
