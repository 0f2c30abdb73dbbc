"""Cards, their driver and CANN. What npu-smi prints and where CANN keeps its version is from Huawei's documents."""

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ganfleet.doctor.finding import Finding, failure, ok, warning

SECONDS = 20  # for npu-smi
CARD = re.compile(r"\|\s*(\d+)\s+(\S+)\s*\|\s*([A-Za-z]+)\s*\|")  # | 0     910B3   | OK            | 90.3 …
CHIP = re.compile(
    r"\|\s*\d+(?:\s+(\d+))?\s*\|\s*[0-9A-Fa-f]{4}:"
)  # | 0    13         | 0000:C1:00.0  | 0 …: chip, device
DRIVER = re.compile(r"Version:\s*(\S+)")
SHARED = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
SET_ENV = ("/usr/local/Ascend/cann/set_env.sh", "/usr/local/Ascend/ascend-toolkit/set_env.sh")  # from CANN 8.5; before


class NoAnswer(Exception):
    """npu-smi fails, or does not end."""


@cache
def npu_smi() -> str | None:
    """What ``npu-smi info`` prints; None where there is no npu-smi.

    Raises:
        NoAnswer: what it says instead.
    """
    command = shutil.which("npu-smi")
    if command is None:
        return None
    try:
        ended = subprocess.run([command, "info"], capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"npu-smi info does not end within {SECONDS} s") from None
    except OSError as error:
        raise NoAnswer(f"{command} cannot be started: {error.strerror}") from None
    if ended.returncode:
        said = (ended.stdout + ended.stderr).strip().splitlines() or ["nothing"]
        raise NoAnswer(f"npu-smi info ends with {ended.returncode} and says {said[-1]!r}")
    return ended.stdout


def cards() -> dict[int, tuple[str, str]]:
    """The cards that npu-smi lists, by device number: the name and the health of each. Empty where it lists none.

    Each has two lines. Where a card has two chips, each of these is a device, and the second line has its number.
    """
    found, card = {}, None
    try:
        for line in (npu_smi() or "").splitlines():
            card = CARD.match(line) or card
            if card and (chip := CHIP.match(line)):
                found[int(chip[1] or card[1])] = card[2], card[3]
    except NoAnswer:
        pass
    return found


def check() -> Iterator[Finding]:
    nodes = [node for node in glob.glob("/dev/davinci*") if re.fullmatch(r"/dev/davinci\d+", node)]
    yield from _visible()
    try:
        printed = npu_smi()
    except NoAnswer as error:
        yield failure(str(error), "install the driver again (Ascend-hdk-*-npu-driver_*.run --full), then restart")
        return
    if printed is None and nodes:
        yield failure(
            f"there are {len(nodes)} cards in /dev, but no npu-smi on the PATH",
            "export PATH=$PATH:/usr/local/bin; for a container add -v /usr/local/bin/npu-smi:/usr/local/bin/npu-smi:ro",
        )
        return
    if printed is None:
        yield ok("no Ascend card here (no npu-smi, no /dev/davinci0): runs use the CPU", cards=0)
        return
    found = cards()
    if not found:
        yield failure("npu-smi info lists no card", "docker run --device=/dev/davinci0 …, or install the driver again")
        return
    for number, (name, health) in found.items():
        if health != "OK":
            others = ",".join(str(other) for other, (_, theirs) in found.items() if theirs == "OK")
            yield failure(
                f"card {number} ({name}): its health is {health}",
                f"npu-smi info -t health -i {number} says why; to leave it out: export {VISIBLE}={others}",
            )
    healthy = sum(health == "OK" for _, health in found.values())
    yield ok(f"{healthy} of {len(found)} cards are healthy ({', '.join(sorted({name for name, _ in found.values()}))})")
    yield from _nodes(found)
    yield from _software(printed)


def _visible() -> Iterator[Finding]:
    """The cards that this shell has chosen."""
    chosen = os.environ.get(VISIBLE)
    if chosen is None:
        return
    numbers = [int(part) for part in chosen.split(",")] if re.fullmatch(r"\d+(,\d+)*", chosen) else []
    if not numbers or numbers != sorted(set(numbers)):
        right = ",".join(map(str, sorted({int(part) for part in re.findall(r"\d+", chosen)}) or [0]))
        yield failure(
            f"{VISIBLE} is {chosen!r}: expected numbers in ascending order, commas, no spaces",
            f"export {VISIBLE}={right}",
        )
    elif (found := cards()) and (missing := [number for number in numbers if number not in found]):
        yield failure(f"{VISIBLE} names card {missing[0]}, which npu-smi does not list", f"unset {VISIBLE}")


def _nodes(found: dict) -> Iterator[Finding]:
    """The devices that a process opens: a container has only those that it was given."""
    for node in (*(f"/dev/davinci{number}" for number in found), *SHARED):
        if not os.path.exists(node):
            yield failure(f"{node} is not there", f"docker run --device={node} …")
        elif not os.access(node, os.R_OK | os.W_OK):
            yield failure(
                f"{node} may not be opened by this user", "sudo usermod -aG HwHiAiUser $USER, then log in again"
            )


def _software(printed: str) -> Iterator[Finding]:
    """CANN and the driver, against the table."""
    from ganfleet.doctor.versions import DRIVERS, MINDSPORE, _installed, short

    source = f"source {next((path for path in SET_ENV if os.path.exists(path)), SET_ENV[0])}"
    home = os.environ.get("ASCEND_HOME_PATH")
    if home is None:
        yield failure("ASCEND_HOME_PATH is not set: this shell does not know CANN", source)
        return
    try:
        text = (Path(home) / "compiler" / "version.info").read_text(errors="replace")
        cann = short(re.search(r"^Version=(.*)$", text, re.MULTILINE)[1])
    except (OSError, TypeError):
        yield failure(f"ASCEND_HOME_PATH is {home}, and there is no compiler/version.info of CANN in it", source)
        return
    release = MINDSPORE.get(short(_installed("mindspore") or ""))
    if release and cann not in release.accepts:
        yield failure(
            f"CANN {cann}: this MindSpore accepts {', '.join(release.accepts)}",
            f"install CANN {release.built} (Ascend-cann-toolkit and the ops package of your cards)",
        )
    else:
        yield ok(f"CANN {cann}")
    match = DRIVER.search(printed)
    driver = short(match[1]) if match else "unknown"
    if cann not in DRIVERS:
        yield warning(
            f"driver {driver}: no table says which drivers go with CANN {cann}",
            f"compare with CANN's release notes, or install CANN {next(iter(DRIVERS))}",
        )
    elif driver not in DRIVERS[cann]:
        yield failure(
            f"driver {driver}: CANN {cann} runs with {', '.join(DRIVERS[cann])}",
            f"install Ascend HDK {DRIVERS[cann][0]} (Ascend-hdk-*-npu-driver_*.run --upgrade), then restart",
        )
    else:
        yield ok(f"driver {driver}")
