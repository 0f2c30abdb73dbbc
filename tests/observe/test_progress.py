"""What the terminal shows, and what a file or a pipe gets."""

import io

import pytest

from ganfleet.observe.progress import Progress, duration

RECORD = {
    "step": 1200,
    "nimg": 38400,
    "kimg": 38.4,
    "resolution": 32,
    "Loss/D": 1.20341,
    "Loss/G": 0.81209,
    "Loss/scores/real": 0.5,
    "nonfinite": 0,
    "sec_per_kimg": 3.42,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A wide terminal that can move its cursor."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


def test_a_file_gets_one_plain_line_per_report():
    stream = io.StringIO()
    progress = Progress(stream)
    progress.advance(38400, goal_nimg=100_000)
    progress.report(RECORD, goal_nimg=100_000)
    progress.say("checkpoint saved [bold]")
    progress.close()
    assert stream.getvalue() == (
        "step 1200  kimg 38.4/100.0  res 32  Loss/D 1.2034  Loss/G 0.8121  3.42 sec/kimg  left 3m31s\n"
        "checkpoint saved [bold]\n"
    )


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_INTERACTIVE"])
def test_a_file_gets_plain_lines_also_where_colours_are_forced(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    stream = io.StringIO()
    Progress(stream).report(RECORD, goal_nimg=100_000)
    assert "\x1b" not in stream.getvalue() and stream.getvalue().count("\n") == 1


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    Progress(stream).report(RECORD, goal_nimg=100_000)
    assert stream.getvalue().startswith("step 1200  kimg") and "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_bar_with_the_same_numbers_and_its_cursor_back(terminal):
    progress = Progress(terminal)
    progress.advance(38400, goal_nimg=100_000)
    progress.report(RECORD, goal_nimg=100_000)
    progress.close()
    shown = terminal.getvalue()
    assert "kimg 38.4/100.0  left 3m31s  3.42 sec/kimg  res 32  Loss/D 1.2034  Loss/G 0.8121" in shown
    assert "Loss/scores" not in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_message_above_the_bar_is_one_whole_line_with_its_brackets(terminal):
    progress = Progress(terminal)
    message = "resumed from [3] " + "/very/long/path" * 20
    progress.say(message)
    progress.close()
    assert message in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (210, "3m30s"), (7500, "2h05m"), (97200, "1d03h"), (864000, "10d00h")],
)
def test_durations_have_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_rank_whose_output_is_shown_on_a_terminal_draws_the_bar(terminal, monkeypatch, capsys):
    Progress().report(RECORD, goal_nimg=100_000)
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("GANFLEET_TERMINAL", "1")
    progress = Progress()
    progress.advance(38400, goal_nimg=100_000)
    progress.close()
    assert "kimg 38.4/100.0" in (shown := capsys.readouterr().out) and "\x1b[?25h" in shown


class Closed(io.StringIO):
    """A terminal that is not there any more."""

    def write(self, _):
        raise OSError(5, "Input/output error")


def test_a_closed_terminal_ends_no_run():
    progress = Progress(Closed())
    progress.report(RECORD, goal_nimg=100_000)
    progress.say("saved")
    progress.close()
