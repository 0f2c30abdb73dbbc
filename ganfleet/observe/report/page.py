"""The report as one HTML file: every picture is in it, and a policy in its head forbids the browser any request."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from string import Template

from PIL import Image

from ganfleet import __version__
from ganfleet.observe.progress import duration
from ganfleet.observe.report.charts import Curve, Mark, chart, number
from ganfleet.observe.report.remains import PACE, Remains
from ganfleet.size import Size

GRIDS = 40  # of more, so many are shown, evenly over time
LARGEST = 1280  # pixels of a side of a picture in the page
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
ELSEWHERE = ("Memory/", "Progress/")  # curves that other sections tell of
ERROR = "_stderr"  # the end of the name of a metric's standard error
KILLED = "killed"


def page(run: Remains) -> str:
    """The report on ``run``."""
    sections = [
        ("samples", "Samples over time", _samples(run)),
        ("curves", "Losses and other numbers", _curves(run)),
        ("metrics", "Metrics", _metrics(run)),
        ("figures", "Figures", _pictures(run)),
        ("timings", "Timings and memory", _timings(run)),
        ("faults", "Faults survived", _faults(run)),
        ("environment", "Environment", _environment(run)),
        ("checkpoints", "Checkpoints", _checkpoints(run)),
        ("config", "Config", f"<details><summary>config.yaml</summary><pre>{escape(run.text)}</pre></details>"),
    ]
    sections = [each for each in sections if each[2]]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _ in sections)
    body = "".join(
        f'<section id="{anchor}"><h2>{title}</h2>\n{content}\n</section>\n' for anchor, title, content in sections
    )
    content = f'<header>{_head(run)}</header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}</main>'
    template = Template(files("ganfleet.observe.report").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=escape(f"{run.name} – ganfleet"), content=content)


def state(run: Remains) -> str:
    """How far the run is, and whether it has ended."""
    last = run.history[-1] if run.history else None
    if last is None:
        return "how it ended is not recorded"
    if last["event"] == "start":
        return "it still runs, or was killed"
    if not last.get("error"):
        return "reached its end"
    return _ending(last)


def _head(run: Remains) -> str:
    config, train = run.config, run.config.get("train", {})
    facts = {
        "Strategy": str(config["strategy"].get("name", "–")),
        "Resolution": resolution_text(config["strategy"].get("resolution")),
        "Trained": f"{number(run.kimg)} of {number(train.get('kimg'))} kimg, {run.step:,} steps",
        "State": state(run),
        "Data": data_text(run),
        "Parameters": ", ".join(f"{player} {count:,}" for player, count in parameters(run).items()) or "–",
        "Fleet": fleet_text(run.start) or "not recorded",
        "Time of training": seconds_text(training_seconds(run)),
    }
    made = f'<p class="note">Written by ganfleet {escape(__version__)}.'
    if run.unreadable:
        lines = ", ".join(f"{count} in {name}" for name, count in run.unreadable.items())
        made += f" Lines that a kill has torn, and that are left out: {escape(lines)}."
    lead = f'<p class="lead">{escape(run.start["model"])}</p>' if run.start.get("model") else ""
    return f"<h1>{escape(run.name)}</h1>{lead}{_facts(facts)}{made}</p>"


# ── What other modules say in the same words


def resolution_text(given) -> str:
    """``32×48`` for what a config or a log says; a dash where it says nothing."""
    if given is None:
        return "–"
    if isinstance(given, dict):
        given = [given.get("height"), given.get("width")]
    height, width = Size.of(given)
    return f"{height}×{width}"


def data_text(run: Remains) -> str:
    """How many images the run was trained on, and where they come from."""
    data = run.config.get("data", {})
    where = " ".join(str(data[key]) for key in ("source", "path") if data.get(key))
    source = run.newest.facts.get("source", {}) if run.newest else {}
    return f"{source['images']:,} images, {where}" if "images" in source else where or "–"


def parameters(run: Remains) -> dict[str, int]:
    """How many numbers each player trains, in the newest checkpoint."""
    return run.newest.parameters if run.newest else {}


def fleet_text(start: dict) -> str:
    """The ranks of a start; empty where they are not recorded."""
    if "ranks" not in start:
        return ""
    ranks = f"{start['ranks']} rank{'s' if start['ranks'] > 1 else ''}"
    return f"{ranks} on {start.get('device', '?')}, {start.get('backend', '?')}"


def training_seconds(run: Remains) -> float | None:
    """Of all stretches together, without compilation, grids, metrics and checkpoints."""
    found = [each.seconds for each in run.stretches if each.seconds is not None]
    return sum(found) if found else None


def seconds_text(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


# ── Sections


def _samples(run: Remains) -> str:
    chosen = _evenly(run.samples, GRIDS)
    shown = []
    for kimg, path in chosen:
        size = run.resolution_at(kimg)
        label = f"{number(kimg)} kimg" + (f", {resolution_text(size)} pixels" if size else "")
        uri = _embedded(path)
        if uri:
            shown.append((label, uri))
    if not shown:
        return '<p class="note">The run has drawn no samples.</p>'
    images = "".join(
        f'<img src="{uri}" alt="{escape(f"Grid of samples at {label}")}" data-label="{escape(label)}"'
        f"{'' if i == len(shown) - 1 else ' hidden'}>"
        for i, (label, uri) in enumerate(shown)
    )
    controls = ""
    if len(shown) > 1:
        last = len(shown) - 1
        controls = (
            '<div class="controls" hidden><label for="grid">Time</label>'
            f'<input id="grid" type="range" min="0" max="{last}" step="1" value="{last}">'
            f'<output for="grid">{escape(shown[-1][0])}</output><button type="button">Play</button></div>'
        )
    note = "Each place of the grid shows the same latents over time."
    if len(run.samples) > len(shown):
        note += f" {len(shown)} of {len(run.samples)} grids are shown."
    return f'<figure class="grids">{controls}{images}</figure><p class="note">{note}</p>'


def _curves(run: Remains) -> str:
    """All numbers of training: one chart for the losses of the phases, and one for others whose names begin alike.
    What never changes is said in words.
    """
    groups: dict[str, list[Curve]] = {}
    constant = []
    for name, points in sorted(run.curves.items(), key=lambda each: not _is_loss(each[0])):
        if name in PACE or name.startswith(ELSEWHERE):
            continue
        values = {y for _, y in points}
        if len(values) == 1 and len(points) > 1:
            constant.append(f"{name} {number(values.pop())}")
        else:
            group, _, last = name.rpartition("/")
            title = "Loss of each phase" if _is_loss(name) else group or name
            groups.setdefault(title, []).append(Curve(last, points))
    if not run.log:
        return _note("The log has no line of training yet.")
    charts = [chart(title, curves, marks=_marks(run), end=run.kimg) for title, curves in groups.items()]
    note = f"Each point is the mean over {run.config.get('log', {}).get('every_steps', '?')} steps."
    if constant:
        note += f" The same throughout: {', '.join(constant)}."
    return _charts(charts) + _note(note)


def _metrics(run: Remains) -> str:
    charts = []
    for name, points in run.metrics.items():
        if name.endswith(ERROR) and name.removesuffix(ERROR) in run.metrics:
            continue
        errors = dict(run.metrics.get(name + ERROR, ()))
        curve = Curve(name, points, [errors.get(x) for x, _ in points])
        charts.append(chart(name, [curve], marks=_marks(run), end=run.kimg))
    if not charts and not run.evaluations:
        return _note("Nothing has been measured. The run does with metrics.names, and `ganfleet evaluate` does.")
    note = "Where images grow, numbers before and after compare images of different sizes."
    return _charts(charts) + (_note(note) if charts and len(run.stretches) > 1 else "") + _evaluations(run)


def _evaluations(run: Remains) -> str:
    if not run.evaluations:
        return ""
    head = ["checkpoint", "kimg", "results", "images", "real", "first seed", "features", "ganfleet"]
    rows = []
    for each in run.evaluations:
        features = each.get("features") or {}
        options = " ".join(f"{key}={value}" for key, value in (each.get("options") or {}).items())
        where = " ".join(
            str(word) for word in (each.get("checkpoint") or "the run", each.get("direction"), options) if word
        )
        rows.append(
            [
                where,
                number(each["kimg"]),
                results_text(each["metrics"]),
                f"{each.get('count') or 0:,}",
                f"{each.get('real') or 0:,}",
                str(each.get("seed", "–")),
                str(features.get("name", "–")),
                str(each.get("ganfleet", "–")),
            ]
        )
    table = _table("What was measured, and with what", head, rows, text=(0, 2, 6, 7))
    return f"<details><summary>{len(rows)} evaluations, with all that they depend on</summary>{table}</details>"


def results_text(values: dict[str, float | None]) -> str:
    """Results by name, each with its standard error where there is one."""
    shown = []
    for name, value in values.items():
        if name.endswith(ERROR) and name.removesuffix(ERROR) in values:
            continue
        error = values.get(name + ERROR)
        shown.append(f"{name} {number(value)}" + (f" ± {number(error)}" if error is not None else ""))
    return ", ".join(shown)


def _pictures(run: Remains) -> str:
    shown = []
    for path in run.pictures:
        uri = _embedded(path)
        if uri:
            name = escape(str(path.relative_to(run.path)))
            shown.append(f'<figure><img src="{uri}" alt="{name}"><figcaption>{name}</figcaption></figure>')
    return f'<div class="pictures">{"".join(shown)}</div>' if shown else ""


def _timings(run: Remains) -> str:
    if not run.stretches:
        return ""
    head = ["images of", "from kimg", "to kimg", "training", "seconds per kimg", "images per second", "memory, MiB"]
    rows = []
    for each in run.stretches:
        images = each.last - each.first
        pace = each.seconds / images if each.seconds and images else None
        memory = ", ".join(f"{phase} {number(size)}" for phase, size in each.memory.items())
        rows.append(
            [
                resolution_text(each.resolution),
                number(each.first),
                number(each.last),
                seconds_text(each.seconds),
                number(pace),
                number(pace and 1000 / pace),
                memory or "–",
            ]
        )
    table = _table("Time and memory of each stage", head, rows, text=(0, 6))
    pace = run.curves.get("images_per_sec", [])
    drawn = [chart("Images per second", [Curve("pace", pace)], marks=_marks(run), end=run.kimg)] if pace else []
    note = "Without the time to compile graphs, to draw samples, to measure and to write checkpoints."
    wall = [line.get("seconds") for line in run.history if line["event"] == "end"]
    if wall and 2 * len(wall) == len(run.history) and None not in wall:  # every process that began has said its time
        note += f" With these the run took {duration(sum(wall))}."
    return table + _charts(drawn) + _note(note)


def _faults(run: Remains) -> str:
    found = list(faults(run))
    if not found:
        return "<p>None are recorded.</p>"
    return f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in found)}</ul>"


def faults(run: Remains) -> Iterable[str]:
    """A sentence for each thing that went wrong and did not end the run, as far as the run keeps them."""
    for before, line in pairwise(run.history):
        if line["event"] != "start":
            continue
        at = f"went on from {number(line['kimg'])} kimg"
        if before["event"] == "start":
            yield f"The process that began at {before['time']} was killed, or its host was lost; the run {at}."
        elif before.get("error"):
            yield f"At {before['time']} the run ended after {number(before['kimg'])} kimg ({_ending(before)}); it {at}."
    for name, what in (
        ("Progress/nonfinite", "updates were skipped, because a gradient or a stat was not finite"),
        ("Progress/bad_images", "images could not be decoded, and others took their places"),
    ):
        count = 0
        for kimg, value in run.curves.get(name, ()):
            if value and value > count:
                yield f"By {number(kimg)} kimg, {number(value)} {what}."
                count = value
    for change in run.newest.facts.get("accepted", ()) if run.newest else ():
        yield f"From step {change['step']} on, {change['key']} was {change['is']} instead of {change['was']}."


def _ending(line: dict) -> str:
    """How a process ended, by its line of the history."""
    if line.get("error") == "Stopped":
        return "stopped by a signal"
    return f"{line.get('error')}, exit code {line.get('exit_code')}: {line.get('message')}"


def _environment(run: Remains) -> str:
    if not run.start:
        return _note("An older release of ganfleet made this run, and did not record it.")
    start = run.start
    facts = {
        "ganfleet": start.get("ganfleet"),
        "MindSpore": start.get("mindspore"),
        "Python": start.get("python"),
        "numpy": start.get("numpy"),
        "Device": start.get("device"),
        "Kernels": start.get("kernels"),
        "Reduction": start.get("reduction"),
        "Lanes": start.get("lanes"),
        "Processor of rank 0": _machine(start),
        "System": start.get("system"),
    }
    rows = []
    for line, after in zip(run.history, [*run.history[1:], None], strict=True):
        if line["event"] == "start":
            ended = after if after and after["event"] == "end" else None
            how = "–" if after is None else KILLED
            if ended:
                how = _ending(ended) if ended.get("error") else "end of the run"
            rows.append(
                [
                    line["time"],
                    number(line["kimg"]),
                    number(ended["kimg"]) if ended else "–",
                    fleet_text(line),
                    str(line.get("host", "–")),
                    how,
                ]
            )
    head = ["started", "from kimg", "to kimg", "fleet", "host of rank 0", "ended by"]
    return _facts({name: str(value) for name, value in facts.items() if value}) + _table(
        "Each process that began or went on with the run", head, rows, text=(0, 3, 4, 5)
    )


def _machine(start: dict) -> str:
    """The processor, its cores and the memory, as far as they are recorded."""
    parts = [start.get("processor")]
    parts += [f"{start[key]} {unit}" for key, unit in (("cores", "cores"), ("memory_gib", "GiB")) if start.get(key)]
    return ", ".join(filter(None, parts))


def _checkpoints(run: Remains) -> str:
    if not run.checkpoints:
        return _note("The run has written none.")
    best = (run.best or {}).get("checkpoint")
    rows = []
    for each in run.checkpoints:
        note = f"best {run.best.get('metric')}: {number(run.best.get('value'))}" if each.path.name == best else ""
        rows.append([each.path.name, f"{each.step:,}", number(each.kimg), f"{each.size / 2**20:.1f}", note])
    return _table("Checkpoints that are there", ["name", "step", "kimg", "MiB", ""], rows, text=(0, 4))


# ── Pieces of HTML


def _facts(facts: dict[str, str]) -> str:
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{pairs}</dl>'


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int]) -> str:
    """``text``: the columns of words, which begin at the left."""
    kind = [' class="text"' if i in text else "" for i in range(len(head))]
    heads = "".join(f'<th scope="col"{kind[i]}>{escape(each)}</th>' for i, each in enumerate(head))
    body = "".join(
        f"<tr>{''.join(f'<td{kind[i]}>{escape(cell)}</td>' for i, cell in enumerate(row))}</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _charts(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _marks(run: Remains) -> list[Mark]:
    """Where images grow."""
    return (
        [Mark(each.first, resolution_text(each.resolution)) for each in run.stretches] if len(run.stretches) > 1 else []
    )


def _is_loss(name: str) -> bool:
    return name.startswith("Loss/") and name.count("/") == 1


def _evenly(items: Sequence, most: int) -> list:
    """At most ``most`` of ``items``, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _embedded(path: Path) -> str | None:
    """A picture as a ``data:`` address: as it is, or smaller and as WebP where it is large; None if it is damaged.

    A sample grid is a PNG that was written fast, so that WebP without loss is a third of it.
    """
    try:
        with Image.open(path) as picture:
            content, kind = path.read_bytes(), TYPES[path.suffix.lower()]
            if not getattr(picture, "is_animated", False):
                picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                picture.convert("RGB" if picture.mode not in ("RGBA", "L") else picture.mode).save(
                    buffer, "WEBP", lossless=picture.width * picture.height < 2**19, quality=85
                )
                if len(buffer.getvalue()) < len(content):
                    content, kind = buffer.getvalue(), "image/webp"
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for a file that is no picture
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
