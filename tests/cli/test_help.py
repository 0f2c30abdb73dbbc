"""What ``--help`` prints, for every verb: it fits a terminal, and ends with an example."""

import re
import shlex

import click
import pytest

from ganfleet import cli


def verbs(command=cli.main, words=()):
    """Every command with the words that call it."""
    yield pytest.param(command, words, id=" ".join(words) or "ganfleet")
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from verbs(command.get_command(context, name), (*words, name))


def context_of(words):
    """The context in which the command that ``words`` call runs, all of them understood."""
    group, context = cli.main, cli.main.make_context("ganfleet", list(words))
    while isinstance(group, click.Group) and words:
        name, group, words = group.resolve_command(context, list(words))
        context = group.make_context(name, list(words), parent=context)
    return context


@pytest.mark.parametrize("command, words", list(verbs()))
def test_help_fits_80_columns_and_shows_examples_that_are_understood(command, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    context = click.Context(command, info_name=" ".join(("ganfleet", *words)), help_option_names=["-h", "--help"])
    text = command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80
    shown = re.findall(r"^ +ganfleet (.*)$", text.partition("\n  Example")[2], re.MULTILINE)
    assert shown
    for line in shown:
        typed = shlex.split(line)
        called = context_of(typed).command
        assert tuple(typed[: len(words)]) == words and (called is command or isinstance(command, click.Group))
