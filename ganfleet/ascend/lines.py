"""What MindSpore's C++ code logs of the kernels it chooses, read back; nothing that Python prints is believed."""

import json
import re
from collections import Counter
from dataclasses import dataclass, field

LINE = re.compile(
    rb"^\[[A-Z]+\] [A-Z_]+\((?P<pid>\d+),[0-9a-f]+,[^)]*\):\S+ \[mindspore/\S+\.cc:\d+\] "
    rb"(?P<function>\w+)\] (?P<text>.*)$"
)
KERNEL = re.compile(rb"kernel opname:(\w+), kernel type:(\w+)")
BACK_OFF = re.compile(rb"[Bb]ack-?off CPU kernel, node: *\S*?(\w+?)-op\d+")
# MindSpore's names of where kernels come from, and ours.
TYPES = {
    "opapi_kernel": "aclnn",
    "acl_kernel": "aclop",
    "rt_kernel": "view",
    "host_kernel": "host",
    "hccl_kernel": "collective",
}
CPU = "CPU"  # where an operator runs that has no kernel on the card
MARK = b"\n<ganfleet %s> %s\n"


def mark(nonce: str, what: dict) -> bytes:
    """A line of the child's own among MindSpore's; it begins a new one wherever it comes."""
    return MARK % (nonce.encode(), json.dumps(what).encode())


@dataclass
class Section:
    """What was compiled while one part of a stage ran: kernels by (type, operator)."""

    stage: str
    name: str
    kernels: Counter = field(default_factory=Counter)

    def by_type(self) -> dict[str, dict[str, int]]:
        """How many kernels of each operator there are, by type."""
        types: dict[str, dict[str, int]] = {}
        for (kind, operator), count in sorted(self.kernels.items()):
            types.setdefault(kind, {})[operator] = count
        return types


def read(log: bytes, nonce: str, pid: int) -> tuple[list[dict], list[Section]]:
    """The events that the child with that ``nonce`` told, and what its C++ code logged in each section."""
    begins = b"<ganfleet %s> " % nonce.encode()
    events, sections = [], [Section("", "start")]
    for line in log.splitlines():
        if line.startswith(begins):
            events.append(json.loads(line[len(begins) :]))
            if events[-1]["event"] == "section":
                _enter(sections, events[-1]["stage"], events[-1]["section"])
        elif (found := LINE.match(line)) and int(found["pid"]) == pid:
            _count(sections[-1].kernels, found["function"], found["text"])
    return events, sections


def _enter(sections: list[Section], stage: str, name: str) -> None:
    """Make that section the last, a new one or one that goes on."""
    entered = next((each for each in sections if (each.stage, each.name) == (stage, name)), None)
    if entered:
        sections.remove(entered)
    sections.append(entered or Section(stage, name))


def _count(kernels: Counter, function: bytes, text: bytes) -> None:
    if function == b"GenerateKernelMod" and (found := KERNEL.match(text)):
        operator, kind = found[1].decode(), TYPES.get(found[2].decode(), found[2].decode())
        # Another view of the same data, of which the host only works out where it begins.
        is_view = kind == "host" and operator.endswith("View")
        kernels["view" if is_view else kind, operator] += 1
    elif found := BACK_OFF.search(text):
        kernels[CPU, found[1].decode()] += 1
