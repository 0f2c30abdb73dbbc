"""Fleets over mindspore.communication: HCCL on Ascend, mccl (its CPU stand-in) elsewhere. Started by msrun."""

import atexit
import os
import pickle
import socket
import sys
import time

import mindspore
import numpy as np
from mindspore import Tensor, communication, ops

from ganfleet.errors import PeerLost
from ganfleet.fleet import cpu, launcher
from ganfleet.fleet.base import Fleet
from ganfleet.fleet.tree import tree_sum
from ganfleet.nn import forms

TOPO_SECONDS = 600  # that msrun lets ranks look for each other by default
PATIENCE = 10  # seconds before a rank says what it waits for


class MindSporeFleet(Fleet):
    """The ranks msrun started, on cards (``hccl``) or as CPU processes (``mccl``).

    MindSpore connects once in the life of a process. So closing this fleet leaves the connection to the next one, and
    a process that has closed its fleet gives it up at its end.

    Raises:
        PeerLost: the rendezvous failed.
    """

    _is_connected = False

    def __init__(self, lanes: int, reduction: str):
        self.on_cpu = mindspore.get_context("device_target") == "CPU"
        self.backend = "mccl" if self.on_cpu else "hccl"
        if not MindSporeFleet._is_connected:
            _await_scheduler()
            try:
                # MindSpore's network thread may tell of a connection before the main thread is ready to hear of it, and
                # beside other work on a core it does so time and again: to connect took up to two minutes. Like this
                # it takes 2 to 8 seconds.
                with cpu.in_turn():
                    communication.init()
            except RuntimeError as error:
                raise PeerLost(
                    f"the fleet could not connect through msrun's scheduler: {_first_line(error)}"
                ) from error
            MindSporeFleet._is_connected = True
        super().__init__(lanes, reduction, communication.get_rank(), communication.get_group_size())
        self._all_gather = ops.AllGather()
        self._all_reduce = ops.AllReduce()
        # mccl has none, and where the tree is to be kept the sums are gathered.
        self.scatters = not self.on_cpu and self.reduction == "fast"
        self._reduce_scatter = ops.ReduceScatter() if self.scatters else None

    def _gather(self, value):
        # int32 is the narrowest integer that both HCCL and mccl gather.
        payload = pickle.dumps(value)
        sizes = self._all_gather(Tensor([len(payload)], mindspore.int32)).asnumpy()
        words = np.zeros(-(-int(sizes.max()) // 4), np.int32)
        words.view(np.uint8)[: len(payload)] = np.frombuffer(payload, np.uint8)
        rows = self._all_gather(Tensor(words)).asnumpy().reshape(self.world_size, -1)
        return [pickle.loads(row.tobytes()[:size]) for row, size in zip(rows, sizes, strict=True)]

    def close(self):
        super().close()
        # Releasing waits for the other ranks, so a process that fails must not do it.
        atexit.unregister(communication.release)
        atexit.register(communication.release)

    def _combine(self, partial):
        # Two ranks have one sum only, and a + b has the bits of b + a: the backend's own all-reduce is exact.
        if self.reduction == "fast" or self.world_size == 2:
            total = self._all_reduce(partial)
        else:
            rows = self._all_gather(partial).reshape(self.world_size, -1)
            total = tree_sum(range(self.world_size), lambda rank: rows[rank])
        return self._finished(total)

    def _scatter(self, partial, size):
        gradient, padding = forms.span(partial, 0, size), -size % self.world_size
        if padding:
            gradient = ops.concat((gradient, ops.zeros(padding, mindspore.float32)))
        rest = self._all_reduce(forms.span(partial, size, partial.size))
        return ops.concat((self._reduce_scatter(gradient), rest))

    def _join(self, part):
        return self._finished(self._all_gather(part))

    def _finished(self, result):
        if self.on_cpu:
            # MindSpore has only begun it. What follows needs it anyway, and so the wait for late ranks, and the error
            # of one that is gone, belong to this collective. On a CPU this copies nothing.
            result.asnumpy()
        return result


def _await_scheduler() -> None:
    """Wait until msrun's scheduler listens: MindSpore's own wait says nothing, and no signal ends it.

    Raises:
        PeerLost: it does not, for as long as msrun lets ranks look for each other.
    """
    host, port = os.environ.get("MS_SCHED_HOST"), os.environ.get("MS_SCHED_PORT", "")
    if os.environ.get("MS_ROLE") != "MS_WORKER" or not host or not port.isdecimal() or int(port) > 65535:
        return  # MindSpore says what is wrong
    given = os.environ.get("MS_TOPO_TIMEOUT", "")
    limit = float(given) if given.replace(".", "", 1).isdecimal() else TOPO_SECONDS
    begun, told = time.monotonic(), False
    where = f"MindSpore's scheduler at {host}:{port}, which MS_SCHED_HOST and MS_SCHED_PORT name"
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            waited = time.monotonic() - begun
            if waited > limit:
                raise PeerLost(f"{where}, does not answer for {limit:g} s: {error.strerror or error}") from error
            if waited > PATIENCE and not told and launcher.detect().speaks:
                print(f"ganfleet: waiting for {where}", file=sys.stderr, flush=True)
                told = True
        time.sleep(0.1)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip(" -")), type(error).__name__)
