"""Compile configs for Ascend without a card, and judge what came of it.

A pass says that every graph of every stage compiles, that each operator has a kernel on the card, and how often a step
waits for the device. ``NOT_VERIFIED`` is what it cannot say.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ganfleet.ascend import stubs
from ganfleet.ascend.lines import CPU, Section, read
from ganfleet.ascend.stubs import NotChecked, Wheel
from ganfleet.errors import ConfigError

NOT_VERIFIED = (
    "numbers: nothing is computed",
    "speed, and memory beyond what MindSpore's allocator plans",
    "CANN: whether it compiles the aclop kernels, whether aclnn accepts these types and shapes, and which of them run "
    "on AI CPU instead of AI Core",
    "the GE back end (jit level O2), which ganfleet does not use",
    "HCCL and the links between cards: collectives are chosen, not run, and of connecting twice the host's part is",
)
SECTIONS = ("build", "step", "resume", "samples")  # of a stage, beside its phases
AGAIN = "second step"
ON_CARD = ("aclnn", "aclop", "view", "collective")
PATIENCE = 3600  # seconds for one config
SHOWN = 6  # of a list of differences


@dataclass(frozen=True)
class Subject:
    """What is checked: a config's path, or a strategy's name, with overrides, as rank 0 of ``world_size``."""

    path: str | None
    strategy: str | None = None
    overrides: tuple[str, ...] = ()
    world_size: int = 1

    @property
    def name(self) -> str:
        """What it is called in reports and in the table of kernels."""
        name = self.strategy or Path(self.path).stem
        return f"{name}@{self.world_size}" if self.world_size > 1 else name


@dataclass
class Part:
    """A phase of a stage, or one of ``SECTIONS``.

    Attributes:
        kernels: how many of each operator were chosen, by type.
        collectives: the name and the bytes of each that the engine asked for, of ``planned`` ones.
        memory_bytes: the most that MindSpore's allocator planned; of phases only.
    """

    stage: str
    name: str
    is_phase: bool
    kernels: dict[str, dict[str, int]]
    collectives: list[list] = field(default_factory=list)
    memory_bytes: int | None = None
    planned: int = 1

    def count(self, *types: str) -> int:
        """How many kernels there are of ``types``, by default of all."""
        chosen = types or self.kernels
        return sum(sum(self.kernels.get(kind, {}).values()) for kind in chosen)


@dataclass
class Result:
    """What came of one subject: its parts, the host copies of a step by stage, and what is wrong."""

    name: str
    world_size: int
    parts: list[Part]
    copies: dict[str, int]
    findings: list[str]

    @property
    def aclop_share(self) -> float:
        """The share of legacy kernels among those that compute on the card."""
        aclop, aclnn = (sum(part.count(kind) for part in self.parts) for kind in ("aclop", "aclnn"))
        return aclop / max(1, aclop + aclnn)

    def table(self) -> dict:
        """What the table of kernels keeps of it."""
        kept: dict = {"host copies per step": self.copies}
        for part in self.parts:
            kept.setdefault(part.stage, {})[part.name] = part.kernels
        return kept

    def as_dict(self) -> dict:
        return asdict(self) | {"aclop_share": round(self.aclop_share, 4)}


def check(subject: Subject, wheel: Wheel, folder: Path, controls: bool) -> Result:
    """Compile ``subject`` with the stubs in ``folder``; with ``controls`` also the two graphs whose fate is known.

    A config that cannot be run at all is a finding too.

    Raises:
        NotChecked: the process cannot be started.
    """
    log, nonce, pid, code = _run(subject, folder, controls)
    events, sections = read(log, nonce, pid)
    refused = [event["message"] for event in events if event["event"] == "refused"]
    if refused:
        return Result(subject.name, subject.world_size, [], {}, refused)
    return judge(subject, events, sections, code, controls)


def _run(subject: Subject, folder: Path, controls: bool) -> tuple[bytes, str, int, int]:
    """The child's log, the nonce of its own lines, its process number and how it ended."""
    nonce = secrets.token_hex(8)
    wanted = asdict(subject) | {"nonce": nonce, "controls": controls, "parent": os.getpid()}
    with tempfile.TemporaryDirectory(prefix="ganfleet-ascend-") as scratch, open(f"{scratch}/log", "w+b") as log:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "ganfleet.ascend.child"],
                env=stubs.environment(folder, subject.world_size),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        except OSError as error:
            raise NotChecked(f"its process cannot be started ({error}): free memory") from error
        try:
            process.communicate(json.dumps(wanted).encode(), timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise NotChecked(
                f"{subject.name} still compiled after {PATIENCE} s: choose a smaller resolution or fewer channels"
            ) from error
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        return log.read(), nonce, process.pid, process.returncode


def judge(subject: Subject, events: list[dict], sections: list[Section], code: int, controls: bool) -> Result:
    """What the child told and what MindSpore logged, as a result with all that is wrong."""
    told = {}
    for event in events:
        told.setdefault(event["event"], []).append(event)
    findings = _of_the_process(told, sections, code)
    if controls:
        findings += _of_controls(told, sections)
    phases = {(event["stage"], event["section"]): event for event in told.get("phase", [])}
    parts: dict[tuple[str, str], Part] = {}
    for section in sections:
        key = (section.stage, section.name)
        if section.stage in ("", "controls") or section.name == "end":
            continue
        if section.name == AGAIN:
            if section.kernels:
                findings.append(f"stage {section.stage}: a second step compiles again: {_named(section.by_type())}")
        elif section.kernels or key in phases:
            phase = phases.get(key)
            sent, size, planned = (phase["sent"], phase["bytes"], phase["planned"]) if phase else ([], None, 1)
            parts[key] = Part(*key, phase is not None, section.by_type(), sent, size, planned)
    shards = any(event["shards"] for event in told.get("connected", []))
    for part in parts.values():
        gathers = shards and part.name == "resume"  # whole tensors, of the ranks' parts
        findings += [f"{part.stage}/{part.name}: {finding}" for finding in _of_part(part, subject.world_size, gathers)]
    copies = {event["stage"]: event["copies"] for event in told.get("step", [])}
    for event in told.get("step", []):
        allowed = event["prepared"]
        if strays := event.get("strays"):
            findings.append(f"stage {event['stage']}: {_counts(Counter(strays))} between phases, where none is planned")
        if event["waits"] > allowed:
            findings.append(
                f"stage {event['stage']}: a step waits for the device {event['waits']} times before the next can "
                f"begin, and {allowed} would do"
            )
        if event["copies"] > allowed + 1:
            findings.append(
                f"stage {event['stage']}: the host copies {event['copies']} tensors of a step, "
                f"and {allowed + 1} would do"
            )
    return Result(subject.name, subject.world_size, list(parts.values()), copies, findings)


def _of_the_process(told: dict, sections: list[Section], code: int) -> list[str]:
    last = sections[-1]
    where = f" in {last.stage}/{last.name}" if last.stage else ""
    findings = [f"compiling failed{where}: {event['message']}" for event in told.get("failed", [])]
    devices = [event["name"] for event in told.get("device", [])]
    if devices != ["Ascend"]:
        findings.append(f"MindSpore found no Ascend device, but {', '.join(devices) or 'ended before it looked'}")
    elif not any(section.kernels for section in sections):
        findings.append("MindSpore's log names no kernel: nothing is known, whatever compiled")
    elif not told.get("failed") and not told.get("done"):
        ended = f"with {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        findings.append(f"the process ended {ended}{where}")
    return findings


def _of_controls(told: dict, sections: list[Section]) -> list[str]:
    findings = []
    chosen = [section for section in sections if section.stage == "controls" and section.name == "MatrixPower"]
    if not any((CPU, "MatrixPower") in section.kernels for section in chosen):
        findings.append("control: MatrixPower has no kernel on the card, and the log does not say so")
    if [event for event in told.get("twice backward", []) if event["error"]] == []:
        findings.append("control: the second derivative of mint's convolution compiled, and must not")
    return findings


def _of_part(part: Part, world_size: int, gathers: bool) -> list[str]:
    findings = []
    if part.is_phase and not part.count(*ON_CARD):
        findings.append("the log names no kernel")
    for kind, operators in part.kernels.items():
        if kind not in ON_CARD:
            place = "on the CPU, for want of a kernel" if kind == CPU else f"as {kind}"
            findings.append(f"runs {_counts(operators)} {place}")
    compiled = part.count("collective")
    if part.is_phase and world_size > 1:
        sent = [name for name, _ in part.collectives]
        if len(sent) != part.planned:
            planned = f"{part.planned} {'is' if part.planned == 1 else 'are'} planned"
            findings.append(f"the engine sends {len(sent)} collectives, and {planned}")
        if compiled > len(sent):
            findings.append(f"{_counts(part.kernels['collective'])}: more collectives than the engine sends")
    elif compiled and not gathers:
        findings.append(f"{_counts(part.kernels['collective'])}: a collective that is not the engine's")
    return findings


def _counts(operators: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(operators.items(), key=lambda each: -each[1]))


def _named(kernels: dict[str, dict[str, int]]) -> str:
    return "; ".join(f"{kind} {_counts(operators)}" for kind, operators in kernels.items())


# ── The table of kernels


def default_table(subjects: list[Subject]) -> Path:
    """``kernels.json`` beside the first config that is a file, else in the working directory."""
    files = [Path(subject.path) for subject in subjects if subject.path and Path(subject.path).is_file()]
    return (files[0].parent if files else Path()) / "kernels.json"


def read_table(path: Path) -> dict:
    """The table in ``path``, by wheel; empty where there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for known in table.values():
            for config in known["configs"].values():
                _flat(config)
        return table
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no table of kernels ({error}): remove it, and write it with --update") from error


def differences(result: Result, table: dict, wheel: Wheel) -> list[str]:
    """What ``result`` has otherwise than the table; nothing where the table knows nothing of this wheel."""
    known = table.get(wheel.sha256)
    if known is None:
        return []
    if result.name not in known["configs"]:
        return ["the table of kernels does not have this config: look at what is above, then write it with --update"]
    before, now = _flat(known["configs"][result.name]), _flat(result.table())
    changed = [
        f"{' / '.join(key)}: {before.get(key, 0)} in the table, {now.get(key, 0)} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, 0) != now.get(key, 0)
    ]
    more = [f"and {len(changed) - SHOWN} more differences"] if len(changed) > SHOWN else []
    return changed[:SHOWN] + more


def updated(results: list[Result], table: dict, wheel: Wheel) -> str:
    """The text of the table with ``results`` in it."""
    known = table.get(wheel.sha256, {}).get("configs", {})
    configs = known | {result.name: result.table() for result in results}
    return _text(table | {wheel.sha256: {"mindspore": wheel.version, "configs": configs}}) + "\n"


def _flat(table: dict, keys: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    flat = {}
    for key, value in table.items():
        flat |= _flat(value, (*keys, key)) if isinstance(value, dict) else {(*keys, key): value}
    return flat


def _text(value, indent: str = "") -> str:
    """JSON with one line for each innermost object, so that a change is a line or two."""
    if not isinstance(value, dict) or not any(isinstance(each, dict) for each in value.values()):
        return json.dumps(value, sort_keys=True)
    deeper = indent + "  "
    lines = [f"{deeper}{json.dumps(key)}: {_text(value[key], deeper)}" for key in sorted(value)]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
