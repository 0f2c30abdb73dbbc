"""A GAN in whose training something goes wrong, as its options say; for tests of what happens then."""

import os
import signal
import sys
import time
from typing import Literal

import mindspore as ms
import numpy as np
from mindspore import ops

from ganfleet import Callback
from ganfleet.fleet import Fleet, launcher
from ganfleet.fleet.tree import tree_sum
from ganfleet.strategies.gan import GAN


class FaultyGAN(GAN):
    """``fault`` happens after step ``at`` (to step ``until``) on ``rank``, or to the samples of ``lane``."""

    class Options(GAN.Options):
        fault: Literal[
            "none", "raise", "exit", "kill", "stop", "skip", "slow", "late", "terminated at start", "nan"
        ] = "none"
        once: str = ""  # a file that is made when the fault happens, and keeps it from happening again
        at: int = 3
        until: int = 3
        rank: int = 1
        lane: int = 1
        seconds: float = 0.0  # how long each step takes beside the work

    def players(self, stage):
        if self.options.fault == "terminated at start":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().players(stage)

    def draw(self, rng, n, clock):
        # The stream's counter holds (step, lane); no honest strategy looks at it.
        lane = int(rng.bit_generator.state["state"]["counter"][2])
        drawn = super().draw(rng, n, clock)
        poisoned = self.options.fault == "nan" and self._due(clock.step) and lane == self.options.lane
        return drawn | {"poison": np.float32(np.nan if poisoned else 0)}

    def d_loss(self, nets, real, noise):
        loss, stats = super().d_loss(nets, real, noise)
        return loss * (1 + noise["poison"]), stats

    def hyper(self, player, clock):
        if player == "D":
            self._fail(clock)
        return super().hyper(player, clock)

    def schedule_values(self, clock):
        return {"fade_in": clock.step / 4}

    def _fail(self, clock):
        if self.options.seconds:
            print("sleeping", flush=True)
            time.sleep(self.options.seconds)
        if launcher.detect().rank != self.options.rank or not self._due(clock.step):
            return
        if self.options.once:
            if os.path.exists(self.options.once):
                return
            open(self.options.once, "x").close()
        if self.options.fault == "raise":
            raise RuntimeError("this rank alone")
        if self.options.fault == "exit":
            sys.exit(0)
        if self.options.fault == "late":
            time.sleep(35)
        if self.options.fault == "slow":
            time.sleep(0.3)
        if self.options.fault == "skip":
            self._skip_a_collective()
        if self.options.fault == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.options.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def _skip_a_collective(self):
        """Have this rank take its own sum for that of all, once."""
        honest = Fleet.reduce

        def skipping(fleet, lane_value):
            Fleet.reduce = honest
            return tree_sum(fleet.lanes, lane_value)

        Fleet.reduce = skipping

    def _due(self, step):
        return self.options.at <= step <= self.options.until


class NotFinite(GAN):
    """A weight of G becomes NaN in an update whose gradients are finite."""

    def players(self, stage):
        players = super().players(stage)
        players["G"].after_update = self.spoilt
        return players

    def spoilt(self, weights):
        return ops.concat((weights[:-1], ops.log(-ops.ones((1,), ms.float32))))


class SlowDisk(Callback):
    """Each fsync of this rank takes a tenth of a second more."""

    def begin(self, run):
        fsync = os.fsync
        os.fsync = lambda handle: (time.sleep(0.1), fsync(handle))
