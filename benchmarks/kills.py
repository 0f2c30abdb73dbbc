"""How a run outlives kill -9, at any moment, again and again, against the run that nobody kills.

``python benchmarks/kills.py --count 200 --seed 0`` trains one tiny DCGAN on two ranks twice. Half of the kills hit a
random rank at a random moment, half the writer of a checkpoint at a random system call. Both runs must end with one
digest, every kill must have happened, each restart must go on from the newest checkpoint that is valid, and no process
may be left.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from ganfleet import Callback, cli
from ganfleet.chaos.events import FOLDER, PLAN, Events
from ganfleet.store import checkpoint, manifest

BATCH = 16
EVERY = 10  # steps between checkpoints
STEPS_PER_KILL = 2 * EVERY  # so that one is over, the writer's too, before the next is due
CONFIG = """\
strategy: {name: dcgan, resolution: 32, latent: 8, ngf: 4, ndf: 4}
data: {source: embedded}
train: {batch_size: BATCH, lanes: 4}
log: {every_steps: 100, samples_every_kimg: 1000000, samples: 4}
""".replace("BATCH", str(BATCH))
GANFLEET = [sys.executable, "-m", "ganfleet"]


class Witness(Callback):
    """Notes which checkpoint on the disk is the newest valid one, as a start begins; 0 where there is none."""

    def begin(self, run):
        if run.fleet.rank == 0:
            steps = [
                int(path.name.split("-")[1].split(".")[0])
                for path in run.directory.glob("checkpoints/step-*")
                if valid(path)
            ]
            Events(Path(os.environ[FOLDER])).add("found", step=max(steps, default=0))


def valid(path: Path) -> bool:
    """Whether all files are there as the manifest says; not by the code that is tried here."""
    try:
        files = json.loads((path / manifest.NAME).read_bytes())["files"]
        return all(hashlib.sha256((path / each).read_bytes()).hexdigest() == files[each]["sha256"] for each in files)
    except (OSError, ValueError):
        return False


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=20, help="kills")
    options.add_argument("--seed", type=int, default=0, help="of ranks and moments")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument(
        "--by-hand", action="store_true", help="start each time anew, even if there is ganfleet launch"
    )
    asked = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ganfleet-kills-"))
    try:
        report(asked, STEPS_PER_KILL * asked.count, folder)
    except AssertionError:
        print(*(folder / "output.txt").read_text(errors="replace").splitlines()[-40:], sep="\n", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder)


def report(asked: argparse.Namespace, steps: int, folder: Path) -> None:
    (folder / "tiny.yaml").write_text(CONFIG)
    words = ["--config", "tiny.yaml", f"train.steps={steps}", f"checkpoint.every_kimg={BATCH * EVERY / 1000}"]
    train = [*GANFLEET, "train", "--workers", str(asked.workers)]
    run(folder, [*train, *words, "run.name=warm", "train.steps=1"], {})  # graphs are compiled once for all
    whole, code = timed(folder, [*train, *words, "run.name=whole"], {})
    assert code == 0, "the run that nobody kills failed"

    chaos = folder / "chaos"
    chaos.mkdir()
    faults = chosen(asked, folder / "runs" / "whole")
    (chaos / PLAN).write_text(json.dumps({"faults": faults}))
    variables = {"GANFLEET_CALLBACKS": "ganfleet.chaos.inject:Chaos kills:Witness", FOLDER: str(chaos)}
    variables["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    supervised = "launch" in cli.VERBS and not asked.by_hand
    found: dict[int, float] = {}  # seconds from a kill, by its place in the plan, until every rank had ended
    began = time.perf_counter()
    if supervised:
        budget = ["-n", str(asked.workers), "--max-restarts", str(asked.count)]
        code = run(folder, [*GANFLEET, "launch", *budget, "--", *words, "run.name=killed"], variables, found)
    else:
        for _ in range(asked.count + 1):
            code = run(folder, [*train, *words, "run.name=killed"], variables, found)
            left = [each.pid for each in psutil.process_iter() if works_in(each, folder)]
            assert not left, f"processes are left: {left}"
            if code == 0:
                break
    killed = time.perf_counter() - began
    assert code == 0, f"the run that is killed ended with {code}"
    assert not [each for each in psutil.process_iter() if works_in(each, folder)], "processes are left"
    digests = [digest(folder / "runs" / name) for name in ("whole", "killed")]
    assert digests[0] == digests[1], "the runs have other bits"

    events = Events(chaos).read()
    kills = [each for each in events if each["event"] == "fault"]
    starts = [each for each in events if each["event"] == "began" and each["rank"] == 0]
    on_disk = [each["step"] for each in events if each["event"] == "found"]
    assert [each["fault"] for each in kills] == list(range(asked.count)), f"not every kill happened: {kills}"
    assert len(starts) == asked.count + 1, f"{len(starts)} starts for {asked.count} kills"
    assert [each["step"] for each in starts] == on_disk, f"not from the newest checkpoint: {starts}, {on_disk}"
    restarts = [each["time"] - at(kill, faults) for kill, each in zip(kills, starts[1:], strict=True)]
    repeated = sum(kill["step"] - each["step"] for kill, each in zip(kills, starts[1:], strict=True))
    writers = sum(each["do"] == "kill_writer" for each in faults)
    print(f"{len(kills)} of {asked.count} kills, {asked.workers} ranks, {steps} steps, seed {asked.seed}")
    print(f"{len(kills) - writers} at a moment of a step, {writers} at a system call that writes a checkpoint")
    print(f"digest {digests[0][:16]}, equal to that of the run that nobody killed; no process is left")
    print(f"all {len(starts) - 1} restarts went on from the newest valid checkpoint, of steps {on_disk[1:]}")
    print(f"noticed, and every rank ended: {spread([found[i] - faults[i].get('after', 0) for i in found])}")
    print(f"restarted, from kill to the next step: {spread(restarts)}")
    each = max(len(kills), 1)
    print(f"per kill: {(killed - whole) / each:.2f} s of wall time, {repeated / each:.1f} steps are made again")
    print(f"goodput: {whole / killed:.1%} of the run that nobody kills ({whole:.1f} s against {killed:.1f} s)")


def chosen(asked: argparse.Namespace, whole: Path) -> list[dict]:
    """One fault for each STEPS_PER_KILL steps; ``whole`` is the run that says how long a step and a writing are."""
    draw, faults = random.Random(asked.seed), []
    seconds = BATCH / json.loads((whole / "log.jsonl").read_text().splitlines()[-1])["images_per_sec"]
    files = len(list((whole / "checkpoints" / f"step-{STEPS_PER_KILL * asked.count:08d}").iterdir()))
    calls = 3 * files + 6  # open, write and fsync of each; the folder's mkdir, fsync and rename
    for start in range(0, STEPS_PER_KILL * asked.count, STEPS_PER_KILL):
        if draw.random() < 0.5:
            faults.append({"do": "kill_writer", "step": start + EVERY, "call": draw.randint(1, calls)})
        else:
            moment = {"step": start + draw.randint(3, EVERY + 2), "after": draw.uniform(1e-6, seconds)}
            faults.append({"do": "kill", "rank": draw.randrange(asked.workers), **moment})
    return faults


def at(kill: dict, faults: list[dict]) -> float:
    """When a kill of which an event tells has happened."""
    return kill["time"] + faults[kill["fault"]].get("after", 0)


def spread(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} s (median; {min(seconds):.2f} to {max(seconds):.2f})" if seconds else "–"


def timed(folder: Path, command: list[str], variables: dict[str, str]) -> tuple[float, int]:
    began = time.perf_counter()
    code = run(folder, command, variables)
    return time.perf_counter() - began, code


def run(folder: Path, command: list[str], variables: dict[str, str], found: dict[int, float] | None = None) -> int:
    with (folder / "output.txt").open("ab") as output:
        environment = {**os.environ, **variables}
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        while process.poll() is None:
            time.sleep(0.05)
            if found is not None:
                notice(Events(folder / "chaos").read(), found)
    if found is not None:
        notice(Events(folder / "chaos").read(), found)
    return process.returncode


def notice(events: list[dict], found: dict[int, float]) -> None:
    """Note when all ranks have ended that had begun before a kill."""
    pids: set[int] = set()
    for each in events:
        if each["event"] == "began":
            pids.add(each["pid"])
        elif each["event"] == "fault" and each["fault"] not in found and not any(lives(pid) for pid in pids):
            found[each["fault"]] = time.time() - each["time"]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def digest(path: Path) -> str:
    found, damaged = checkpoint.newest_valid(path / "checkpoints")
    assert not damaged, damaged
    return checkpoint.digest(checkpoint.load(found))["total"]


if __name__ == "__main__":
    main()
