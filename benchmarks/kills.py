"""How a run outlives kill -9: random ranks at random steps, again and again, against the run that nobody kills.

``python benchmarks/kills.py --count 200 --seed 0`` trains one tiny DCGAN on two ranks twice. Both must end with one
digest; no process may be left, and no restart may begin before the checkpoint but one before the kill.
"""

import argparse
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

from ganfleet import cli
from ganfleet.store import checkpoint

EVERY = 10  # steps between checkpoints
STEPS_PER_KILL = 10  # of the whole run
CONFIG = """\
strategy: {name: dcgan, resolution: 32, latent: 8, ngf: 4, ndf: 4}
data: {source: embedded}
train: {batch_size: 16, lanes: 4}
log: {every_steps: 100, samples_every_kimg: 1000000, samples: 4}
"""
GANFLEET = [sys.executable, "-m", "ganfleet"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--count", type=int, default=20, help="kills")
    options.add_argument("--seed", type=int, default=0, help="of ranks and steps")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--steps", type=int, help=f"of the whole run [{STEPS_PER_KILL} per kill]")
    options.add_argument(
        "--by-hand", action="store_true", help="start each time anew, even if there is ganfleet launch"
    )
    asked = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ganfleet-kills-"))
    try:
        steps = asked.steps or max(STEPS_PER_KILL * asked.count, 20)
        report(asked, steps, folder)
    finally:
        shutil.rmtree(folder)


def report(asked: argparse.Namespace, steps: int, folder: Path) -> None:
    (folder / "tiny.yaml").write_text(CONFIG)
    words = ["--config", "tiny.yaml", f"train.steps={steps}", f"checkpoint.every_kimg={16 * EVERY / 1000}"]
    train = [*GANFLEET, "train", "--workers", str(asked.workers)]
    run(folder, [*train, *words, "run.name=warm", "train.steps=1"], {})  # graphs are compiled once for all
    whole, code = timed(folder, [*train, *words, "run.name=whole"], {})
    assert code == 0, "the run that nobody kills failed"

    chosen = random.Random(asked.seed)
    places = sorted((chosen.randint(1, steps - 1), chosen.randrange(asked.workers)) for _ in range(asked.count))
    faults = [f"  - {{do: kill, rank: {rank}, step: {step}}}" for step, rank in places]
    chaos = folder / "chaos"
    chaos.mkdir()
    (chaos / "plan.yaml").write_text("\n".join(["faults:", *faults, ""]))
    variables = {"GANFLEET_CALLBACKS": "ganfleet.chaos.inject:Chaos", "GANFLEET_CHAOS": str(chaos)}
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

    events = events_in(chaos)
    kills = [each for each in events if each["event"] == "fault"]
    starts = [each for each in events if each["event"] == "began" and each["rank"] == 0]
    restarts, repeated = [], 0
    for kill in kills:
        following = [each for each in starts if each["time"] > kill["time"]]
        restarts.append(following[0]["time"] - kill["time"])
        repeated += kill["step"] - following[0]["step"]
        assert kill["step"] - following[0]["step"] <= 2 * EVERY, f"a checkpoint is lost: {kill}, {following[0]}"
    print(f"{len(kills)} of {asked.count} kills, {asked.workers} ranks, {steps} steps, seed {asked.seed}")
    print(f"digest {digests[0][:16]}, equal to that of the run that nobody killed; no process is left")
    print(f"noticed, and every rank ended: {spread(list(found.values()))}")
    print(f"restarted, from kill to the next step: {spread(restarts)}")
    each = max(len(kills), 1)
    print(f"per kill: {(killed - whole) / each:.2f} s of wall time, {repeated / each:.1f} steps are made again")
    print(f"goodput: {whole / killed:.1%} of the run that nobody kills ({whole:.1f} s against {killed:.1f} s)")


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
                notice(events_in(folder / "chaos"), found)
    if found is not None:
        notice(events_in(folder / "chaos"), found)
    return process.returncode


def notice(events: list[dict], found: dict[int, float]) -> None:
    """Note when all ranks have ended that had begun before a kill."""
    pids: set[int] = set()
    for each in events:
        if each["event"] == "began":
            pids.add(each["pid"])
        elif each["fault"] not in found and not any(lives(pid) for pid in pids):
            found[each["fault"]] = time.time() - each["time"]


def events_in(folder: Path) -> list[dict]:
    path = folder / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
