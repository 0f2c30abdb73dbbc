"""The model card of a run in Markdown: what it was trained on, what was measured, how to draw with it."""

from ganfleet.observe.report.charts import number
from ganfleet.observe.report.page import (
    data_text,
    faults,
    fleet_text,
    parameters,
    resolution_text,
    results_text,
    seconds_text,
    state,
    training_seconds,
)
from ganfleet.observe.report.remains import Remains

UNKNOWN = "not known to ganfleet; write it here"


def card(run: Remains, licence: str | None) -> str:
    """The card of ``run``; ``licence`` is that of the training data, where it is known."""
    strategy = run.config["strategy"]
    source = run.newest.facts.get("source", {}) if run.newest else {}
    lines = [
        "---",
        "library_name: ganfleet",
        f"tags: [gan, mindspore, image-generation, {_word(strategy.get('name'))}]",
        "---",
        "",
        f"# {run.name}",
        "",
        f"{run.start.get('model') or strategy.get('name')}",
        "",
        f"Trained with ganfleet {run.start.get('ganfleet', '')} for {number(run.kimg)} thousand images "
        f"({run.step:,} steps): {state(run)}.",
        "",
        "| | |",
        "| --- | --- |",
    ]
    facts = {
        "strategy": f"`{strategy.get('name')}`",
        "images": f"{resolution_text(strategy.get('resolution'))} pixels" + _channels(source.get("channels")),
        "parameters": ", ".join(f"{player} {count:,}" for player, count in parameters(run).items()),
        "checkpoint": f"`{run.newest.path.name}`" if run.newest else "none",
        "precision": str(run.config.get("train", {}).get("precision", "")),
        "trained on": fleet_text(run.start),
        "time of training": seconds_text(training_seconds(run)),
    }
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value]
    lines += ["", "## Training data", ""]
    lines.append(f"- Source: {data_text(run)}")
    if source.get("classes"):
        names = ", ".join(map(str, source.get("class_names", ())))
        lines.append(f"- Classes: {source['classes']}" + (f" ({names})" if names else ""))
    if source.get("names"):
        lines.append(f"- SHA-256 of the names of the images: `{source['names']}`")
    lines.append(f"- Licence of the data: {licence or UNKNOWN}")
    lines += ["", "## Licence of the weights", "", f"{UNKNOWN[0].upper()}{UNKNOWN[1:]}."]
    lines += ["", "## Results", "", *_results(run)]
    lines += ["", "## Use", "", "```sh", *_commands(run), "```"]
    happened = list(faults(run))
    if happened:
        lines += ["", "## What went wrong on the way", "", *(f"- {each}" for each in happened)]
    lines += ["", "## Config", "", "```yaml", run.text.strip(), "```", ""]
    return "\n".join(lines)


def _results(run: Remains) -> list[str]:
    """The newest evaluation of each kind, or a word that there is none."""
    newest: dict[tuple, dict] = {}
    for each in run.evaluations:
        kind = tuple(each["metrics"]), str(each.get("options")), each.get("direction")
        newest.pop(kind, None)
        newest[kind] = each
    if not newest:
        return ["Nothing has been measured. `ganfleet evaluate` does."]
    rows = []
    for each in newest.values():
        counts = [f"{each.get(key) or 0:,}" for key in ("count", "real")]
        network = (each.get("features") or {}).get("name", "–")
        rows.append(f"| {' | '.join([number(each['kimg']), results_text(each['metrics']), *counts, network])} |")
    return ["| kimg | results | images | real images | features |", "| --- | --- | --- | --- | --- |", *rows]


def _commands(run: Remains) -> list[str]:
    """How images are made with the newest checkpoint."""
    directions = run.start.get("directions") or []
    if directions:
        return [
            f"ganfleet translate --checkpoint {run.path} --direction {each} --input photos --output {each}"
            for each in directions
        ]
    return [f"ganfleet sample --checkpoint {run.path} --out grid.png --seeds 0-63"]


def _channels(count: int | None) -> str:
    kinds = {1: ", grey", 3: ", RGB", 4: ", RGB and alpha"}
    return kinds.get(count, "")


def _word(name) -> str:
    """A strategy's name as a tag."""
    return str(name).split(":")[-1].lower()
