"""Fleets whose ranks do not train, so that they start in a second: how processes end is tested with these."""

import subprocess
import sys

import psutil
from fleets import until

RANK = """\
import os, signal, sys, time
import click
from ganfleet.cli import run

@click.command()
def command():
    rank = os.environ.get("MS_NODE_ID")
    if rank is None:  # MindSpore's scheduler, which ends after the ranks
        time.sleep(300)
    print("rank", rank, "works", flush=True)
    if rank == "1":
        time.sleep(1)
        {fault}
    time.sleep({seconds})

run(command)
"""
GRACE = 1.5  # instead of 5 seconds, which most of these tests would wait for
LAUNCH = """\
import signal
import sys
from pathlib import Path
import click
from ganfleet.cli import run
from ganfleet.fleet import supervisor

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup
supervisor.GRACE_SECONDS = {grace}

@click.command()
def command():
    settings = supervisor.Settings({workers}, log_dir={log_dir}, **{options})
    return supervisor.launch(settings, [sys.executable, "rank.py"])

run(command)
"""


def launch(directory, fault="pass", seconds=300, rank=RANK, workers=2, log_dir='Path(".")', **options):
    """The command that starts two ranks of which rank 1 has ``fault`` while rank 0 goes on for ``seconds``; ``options``
    are further ones of the supervisor."""
    (directory / "rank.py").write_text(rank.format(fault=fault, seconds=seconds))
    (directory / "launch.py").write_text(LAUNCH.format(workers=workers, log_dir=log_dir, options=options, grace=GRACE))
    return [sys.executable, "launch.py"]


def printed(process: subprocess.Popen) -> str:
    """What a launcher prints until it ends, which it must."""
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()  # and its ranks end with it


def member(process, role, rank=0):
    """The process that the launcher ``process`` has started as this."""
    for child in psutil.Process(process.pid).children():
        environment = child.environ()
        if (environment.get("MS_ROLE"), environment.get("RANK_ID")) == (role, str(rank)):
            return child
    raise AssertionError(f"no {role} {rank}")


HANGUP = """\
import signal, time
import click
from ganfleet.cli import run
from ganfleet.errors import Stopped

def stop(number, _):
    {fault}
    raise Stopped(f"got {{signal.Signals(number).name}}")

@click.command()
def command():
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep({seconds})

run(command)
"""


def ready(directory):
    """Wait until the ranks of HANGUP are."""
    for number in range(2):
        log = directory / f"worker_{number}.log"
        until(lambda log=log: log.exists() and "ready" in log.read_text())


TRAINING = """\
import os, signal, sys, time
from pathlib import Path
import click
from ganfleet.cli import run
from ganfleet.errors import DataError
from ganfleet.fleet import heartbeat

def meet(number):  # what a collective is: nobody leaves before all have come
    with heartbeat.collective("sum"):
        Path(f"came-{{tried}}-{{rank}}-{{number}}").touch()
        while len(list(Path().glob(f"came-{{tried}}-*-{{number}}"))) < ranks:
            time.sleep(0.01)

@click.command()
@click.argument("words", nargs=-1)
def command(words):
    global rank, ranks, tried
    rank, ranks = os.environ.get("MS_NODE_ID"), int(os.environ["MS_WORKER_NUM"])
    if rank is None:  # MindSpore's scheduler
        time.sleep(300)
    tried = len(list(Path().glob(f"tried-{{rank}}-*")))
    Path(f"tried-{{rank}}-{{tried}}").touch()
    number = 0
    for step in range(1, {seconds} + 1):
        heartbeat.beat(step, "phase D")
        time.sleep(0.02)
        if rank == "1" and step >= 3:
            {fault}
        meet(number := number + 1)
    print("done", flush=True)

run(command)
"""
ONCE = "step == 3 and tried == 0 and "
