"""Draw docs/img/architecture.svg, and list all modules at the end of architecture.md: `python docs/architecture.py`."""

import ast
import re
from html import escape
from pathlib import Path

FILE = Path(__file__).parent / "img" / "architecture.svg"
PAGE = Path(__file__).parent / "architecture.md"
PACKAGE = Path(__file__).parent.parent / "ganfleet"
LAST = "## The other modules\n"
INK, GREY, LINE = "#1f2430", "#5b6475", "#8a93a5"
ROOMS = (  # what, what is in it, colour; from those that import to those that are imported
    ("cli, testing, api", "verbs and exit codes; checks for authors; ganfleet.train", "#e8eefc"),
    ("chaos, ascend", "faults on purpose; Ascend's back end without a card", "#e8eefc"),
    ("engine, doctor", "the run, the loop, programs, samplers; checks", "#d5e3ff"),
    ("config", "the schema of a YAML file", "#e8eefc"),
    ("strategies, data, observe", "models; sources and loader; log and grids", "#dff3e6"),
    ("metrics", "what a metric is; networks of features", "#fdeeda"),
    ("text", "frozen text encoders, and a cache of what they make of captions", "#fdeeda"),
    ("store, fleet", "checkpoints and locks; ranks and their sums", "#fdeeda"),
    ("nn", "layers, losses, penalties, optimizers, precision", "#f3e6fb"),
    ("plugins, recipes", "classes by their names; configs that come with it", "#eef0f4"),
    ("document, rng, clock, size", "YAML with places; random streams; time; sizes of images", "#eef0f4"),
    ("errors", "one exception per exit code", "#eef0f4"),
)
WAY = (  # x, y, width, title, what happens there, colour
    (500, 64, 225, "source, loader", "order(seed, epoch), decoding", "#dff3e6"),
    (755, 64, 225, "draw", "rng(seed, phase, step, lane)", "#dff3e6"),
    (
        500,
        172,
        480,
        "phase graph, lane by lane",
        "loss → [gradients, what buffers saw, loss, stats] in one vector",
        "#d5e3ff",
    ),
    (500, 264, 480, "sum over this rank's lanes", "in one fixed tree", "#fdeeda"),
    (500, 356, 480, "ONE collective", "every rank holds the same sum", "#fdeeda"),
    (500, 448, 480, "update graph", "finite? optimizer, after_update, buffers, networks' weights", "#d5e3ff"),
    (500, 556, 225, "end of the step", "averages (EMA), clock.tick", "#d5e3ff"),
    (755, 556, 225, "callbacks", "log, grids, metrics, checkpoints", "#e8eefc"),
)
MODULES = ("data/", "engine/draws.py", "engine/phase.py", "fleet/tree.py", "fleet/", "engine/player.py")
MODULES += ("engine/step.py, trainer.py", "engine/callbacks.py")
BOX, ROOM, GAP = 62, 42, 7  # heights, and what is between two rooms


def text(x: float, y: float, words: str, size: int = 13, colour: str = INK, anchor: str = "start", **style) -> str:
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"{more}>{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}" stroke="{LINE}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1} {y1} L{x2} {y2}" stroke="{INK}" stroke-width="1.5" fill="none" marker-end="url(#head)"/>'


def rooms() -> list[str]:
    drawn = [text(40, 40, "The rooms: each imports only from below", 16, font_weight="bold")]
    for i, (name, about, colour) in enumerate(ROOMS):
        y = 64 + i * (ROOM + GAP)
        drawn += [box(40, y, 390, ROOM, colour), text(56, y + 18, name, 15, font_weight="bold")]
        drawn.append(text(56, y + 35, about, 13, GREY))
    return [*drawn, arrow(22, 64, 22, 64 + len(ROOMS) * (ROOM + GAP) - 14)]


def way() -> list[str]:
    drawn = [text(500, 40, "The way of a batch, on every rank", 16, font_weight="bold")]
    for (x, y, width, title, about, colour), module in zip(WAY, MODULES, strict=True):
        drawn += [box(x, y, width, BOX, colour), text(x + 14, y + 26, title, 15, font_weight="bold")]
        drawn.append(text(x + 14, y + 47, about, 13 if width > 300 else 12, GREY))
        under = width < 300  # there is no room beside the title
        place = (x + 2, y + BOX + 14, "start") if under else (x + width - 14, y + 26, "end")
        drawn.append(text(place[0], place[1], module, 11, GREY, place[2], font_family="monospace"))
    middle = 740
    drawn += [arrow(690, 64 + BOX, 690, 170), arrow(940, 64 + BOX, 940, 170)]
    drawn += [arrow(middle, y + BOX, middle, y + 90) for y in (172, 264, 356)]
    drawn += [arrow(690, 448 + BOX, 690, 554), arrow(725, 587, 753, 587)]
    drawn.append(text(704, 540, "when every due phase has run", 12, GREY))
    return drawn


def svg() -> str:
    head = '<marker id="head" markerWidth="9" markerHeight="9" refX="7" refY="4" orient="auto">'
    head += f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker>'
    size = 'viewBox="0 0 1010 660" font-family="Helvetica, Arial, sans-serif"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<defs>{head}</defs>"]
    parts += ['<rect width="1010" height="660" fill="#ffffff"/>', *rooms(), *way(), "</svg>"]
    return "\n".join(parts) + "\n"


def modules() -> str:
    """A row for each module outside of ``engine/``: the first sentence of its docstring."""
    rows = ["| module | what it is |", "| --- | --- |"]
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.name == "__init__.py" or name.startswith("engine/"):
            continue
        summary = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())
        first = re.split(r"(?<=[\w)`])\. (?=[A-Z`\d])", summary)[0].rstrip(".").replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{name}` | {first} |")
    return "\n".join(rows) + "\n"


def page() -> str:
    """The page, with the list at its end."""
    return f"{PAGE.read_text(encoding='utf-8').partition(LAST)[0]}{LAST}\n{modules()}"


if __name__ == "__main__":
    FILE.write_text(svg(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
