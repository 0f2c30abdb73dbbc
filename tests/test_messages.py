"""Every message that ganfleet can raise, read from its source, keeps a few rules: it leads somewhere that exists."""

import ast
import configparser
import re

import click
from fleets import REPOSITORY

from ganfleet import cli, errors
from ganfleet import config as configs
from ganfleet.plugins import SOURCES, STRATEGIES

FINISHED = {name for name, each in vars(errors).items() if isinstance(each, type)}  # classes whose text a user reads
SECTIONS = tuple(configs.Config.model_fields)
NO_KEYS = {"jsonl", "py", "yaml"}  # what follows a section's name in the name of a file
HOLE = "\N{WHITE SQUARE}"  # in place of what is only known when the message is made


def text_of(node):
    """What an expression says, as far as its source tells; None where it tells nothing."""
    match node:
        case ast.Constant(value=str()):
            return node.value
        case ast.JoinedStr():
            return "".join(text_of(part) or HOLE for part in node.values)
        case ast.BinOp(op=ast.Add()):
            return (text_of(node.left) or HOLE) + (text_of(node.right) or HOLE)
        case ast.IfExp():
            return f"{text_of(node.body) or HOLE} {text_of(node.orelse) or HOLE}"
        case ast.FormattedValue(value=ast.IfExp() as choice):
            return text_of(choice)


def raised():
    """The messages of all raise sites: a pair of where, and what."""
    for path in sorted((REPOSITORY / "ganfleet").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {*FINISHED, "ValueError"} and node.args:
                text = text_of(node.args[0])
                if text:
                    yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", node.func.id, text


MESSAGES = list(raised())


def commands(group=cli.main):
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def keys():
    known = set(configs.schema_keys())
    for section, registry in (("data", SOURCES), ("strategy", STRATEGIES)):
        for name in registry.builtin:
            known |= {f"{section}.{key}" for key in registry.find(name).Options.model_fields}
    return known


def breaking(rule):
    return [f"{where}: {text}" for where, _, text in MESSAGES if rule(text)]


def test_most_raise_sites_are_read():
    assert len(MESSAGES) > 200


def test_every_key_that_a_message_names_exists():
    known = keys()

    def names_another(text):
        found = re.findall(rf"(?<![\w./])({'|'.join(SECTIONS)})\.(\w+)", text)
        return [key for section, key in found if f"{section}.{key}" not in known and key not in NO_KEYS]

    assert breaking(names_another) == []


def test_every_option_command_and_extra_that_a_message_names_exists():
    options = {
        option for command in commands() for each in command.params for option in each.opts + each.secondary_opts
    }
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    others = {"--worker_num", "--local_worker_num", "--join"}  # msrun's

    def names_another(text):
        missing = [each for each in re.findall(r"(?<!\w)--[a-z][\w-]*", text) if each not in options | others]
        missing += [each for each in re.findall(r"[`(]ganfleet (\w+)", text) if each not in cli.VERBS]
        missing += [
            each for each in re.findall(r"ganfleet\[(\w+)\]", text) if not setup["options.extras_require"].get(each)
        ]
        return missing

    assert breaking(names_another) == []


EMPTY = (
    r"please|try again|something went wrong|an? (unknown )?error occurred|contact|see the (docs|documentation)|sorry"
)


def test_no_message_has_empty_advice_or_is_a_word_alone():
    assert breaking(lambda text: re.search(rf"\b({EMPTY})\b", text, re.IGNORECASE)) == []
    assert breaking(lambda text: len(text.split()) < 3 and HOLE not in text) == []


def test_no_message_has_a_doubled_stop_or_blank():
    doubled = rf"(?<!\.)\.\.(?!\.)|  (?!{HOLE})|!|(?<!\.)\. *[;:,]"
    assert breaking(lambda text: re.search(doubled, text)) == []
    for text in ("it is gone.", "it is gone"):
        assert f"{errors.ConfigError(text)}. Look" == "it is gone. Look"


DOES = (
    "accept|add|begin|bring|chain|change|choose|complete|convert|copy|correct|delete|expected|fetch|free|give|install|keep|leave|"
    "let|list|load|lower|make|mount|move|must|name|needs?|open|pass|put|raise|read|remove|rename|restore|return|run|set|start|stop|"
    "take|tell|test|unset|unpack|unlock|update|upgrade|use|wait|write|did you mean|known"
)
PARTS = {"CheckpointDamaged"}  # of one of several checkpoints: what follows it says what is done, or can be


def test_every_finished_message_says_what_to_do_or_what_is_expected():
    """As far as words tell: an order, what must be, or a cause at the end that is another message."""
    words = rf"\b({DOES})\b|{HOLE}\)?$"
    silent = [
        f"{where}: {text}"
        for where, kind, text in MESSAGES
        if kind in FINISHED - PARTS and not re.search(words, text, re.I)
    ]
    assert silent == [], "\n".join(silent)
