"""The launchers of several nodes, of which that of node 0 decides: who has come, when to begin, and how it ends.

They talk over one TCP connection from each node to node 0, in lines of JSON. Each gives a sign of life every second;
one that is silent for SILENCE seconds is gone, whatever its socket says, as where a link is down.
"""

import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from ganfleet.errors import ConfigError, GanfleetError, PeerLost
from ganfleet.fleet.launcher import host
from ganfleet.fleet.processes import Place
from ganfleet.fleet.watchdog import Seen

SILENCE = 10.0  # seconds without a sign of life, after which a node is gone
BEAT = 1.0
POLL = 0.1
CLOSING = 2.0  # seconds for the other end to close too
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Meeting:
    """How the nodes find each other.

    Attributes:
        nodes: how many there are; this is number ``rank``.
        address, port: where node 0 listens. MindSpore's scheduler listens at the port after it.
        patience: seconds to wait for those that are not there.
        facts: what must be equal on all nodes, by the name that a message gives it.
    """

    nodes: int
    rank: int
    address: str
    port: int
    patience: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """How node 0 has decided that an attempt ends: ``told`` are the words, and after ``pause`` seconds comes another
    one, unless that is None."""

    code: int
    told: str | None = None
    pause: float | None = None

    def error(self) -> GanfleetError | None:
        """What another node has to tell about it."""
        if self.told is None:
            return None
        error = GanfleetError(f"node 0 says: {self.told}")
        error.exit_code = self.code
        return error


class Alone:
    """One node, which needs no others."""

    decides = True

    def meet(self, workers: int, run: str | None, _wait: Callable[[], None]) -> Place:
        """Where the ranks of this node stand, once all nodes are there; ``workers`` and ``run`` are what node 0 says.

        ``_wait`` is called time and again.
        """
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            port = free.getsockname()[1]
        return Place(workers, workers, LOOPBACK, port, run=run)

    def share(self, seen: dict[int, Seen]) -> dict[int, Seen]:
        """The ranks of all nodes, as far as this one is told; ``seen`` are its own.

        Raises:
            PeerLost: a node is gone.
        """
        return seen

    def decided(self) -> Decision | None:
        """What node 0 has decided, on another node, once it has."""
        return None

    def decide(self, decision: Decision) -> None:
        """Tell the other nodes, on node 0."""

    def hang(self, told: str) -> None:
        """Have the other nodes show what their ranks are doing, because of a hang of which node 0 has this to say."""

    def hung(self) -> str | None:
        """What node 0 has to say about a hang, on another node; once."""
        return None

    def close(self) -> None:
        """Leave the other nodes."""


class NodeZero(Alone):
    """The node that the others connect to.

    Raises:
        ConfigError: its address cannot be listened at.
    """

    def __init__(self, meeting: Meeting):
        self._meeting = meeting
        self._peers: dict[int, _Peer] = {}
        self._seen: dict[int, dict[int, Seen]] = {}
        try:
            self._listener = socket.create_server((meeting.address, meeting.port), backlog=meeting.nodes)
        except OSError as error:
            raise ConfigError(
                f"node 0 cannot listen at {meeting.address}:{meeting.port} ({error.strerror or error}): choose an "
                "address of this machine as --master-addr, and a free --master-port"
            ) from error
        self._listener.setblocking(False)

    def meet(self, workers: int, run: str | None, wait: Callable[[], None]) -> Place:
        """Wait for all other nodes, and tell them to begin.

        Raises:
            PeerLost: some did not come in time; it names them.
            ConfigError: one was started with other options than this one.
        """
        meeting, coming = self._meeting, []
        end = time.monotonic() + meeting.patience
        ready: set[int] = set()
        while len(ready) < meeting.nodes - 1:
            wait()
            for number in [number for number, peer in self._peers.items() if peer.gone]:
                self._peers.pop(number).close()
                ready.discard(number)
            if time.monotonic() > end:
                missing = ", ".join(str(n) for n in range(1, meeting.nodes) if n not in ready)
                raise PeerLost(
                    f"node {missing} has not come to {meeting.address}:{meeting.port} in {meeting.patience:g} s: start "
                    "the same command there with its --node-rank; see that the port, and the next one, are open"
                )
            with suppress(BlockingIOError):
                coming.append(_Peer(self._listener.accept()[0]))
            for peer in [*coming, *self._peers.values()]:
                for message in peer.messages():
                    if "ready" in message:
                        number = self._welcome(peer, message)
                        if self._peers.get(number, peer) is not peer:  # it has come back before its loss was noticed
                            self._peers[number].close()
                        self._peers[number] = peer
                        ready.add(number)
                        coming = [each for each in coming if each is not peer]
            time.sleep(POLL)
        self._seen = {}
        place = Place(workers * meeting.nodes, workers, meeting.address, meeting.port + 1, run=run)
        for number, peer in self._peers.items():
            theirs = replace(place, first=number * workers, has_scheduler=False)
            peer.send({"begin": asdict(theirs)})
        return place

    def _welcome(self, peer: "_Peer", message: dict) -> int:
        number, theirs, mine = message["ready"], message["facts"], self._meeting.facts
        peer.name, peer.host = f"node {number} ({message['host']})", message["host"]
        differing = [
            f"{name} is {mine[name]!r} on node 0 ({host()}), but {theirs.get(name)!r} on {peer.name}"
            for name in mine
            if mine[name] != theirs.get(name)
        ]
        known = self._peers.get(number)
        if not 0 < number < self._meeting.nodes or (known and known is not peer and known.host != peer.host):
            differing.append(f"{peer.name} has a --node-rank that is not its own: give each node its own number")
        if differing:
            told = f"the nodes do not fit each other: {'; '.join(differing)}. Start them with the same command"
            self._peers.setdefault(number, peer)  # so that it is told
            raise ConfigError(told)
        return number

    def share(self, seen):
        everyone = dict(seen)
        for number, peer in self._peers.items():
            for message in peer.messages():
                if "seen" in message:
                    self._seen[number] = {int(rank): Seen.from_json(each) for rank, each in message["seen"].items()}
            if peer.gone:
                raise PeerLost(f"{peer.name} is gone ({peer.gone}); start the run again to go on from its checkpoint")
            everyone |= self._seen.get(number, {})
        return everyone

    def decide(self, decision):
        for peer in self._peers.values():
            peer.send({"decision": asdict(decision)})

    def hang(self, told):
        for peer in self._peers.values():
            peer.send({"hang": told})

    def close(self):
        for peer in self._peers.values():
            peer.close()
        self._listener.close()


class OtherNode(Alone):
    """A node that does what node 0 decides."""

    decides = False

    def __init__(self, meeting: Meeting):
        self._meeting = meeting
        self._hub: _Peer | None = None
        self._decided: Decision | None = None
        self._hung: str | None = None
        self._told_at = 0.0

    def meet(self, workers, run, wait):
        """Connect to node 0, and wait until it says that all are there.

        Raises:
            PeerLost: there is no node 0 at its address, or it does not begin.
            GanfleetError: node 0 has ended, for instance as it was started with other options.
        """
        meeting = self._meeting
        end = time.monotonic() + meeting.patience
        self._decided, sent = None, False
        while time.monotonic() < end:
            wait()
            for message in self._hub.messages() if self._hub else ():
                decision = Decision(**message["decision"]) if "decision" in message else None
                if decision and decision.pause is None:
                    raise decision.error() or PeerLost("node 0 has ended; start the run again")
                if "begin" in message:
                    return Place(**message["begin"])
            if self._hub is None or self._hub.gone:
                self._connect()
                sent = False
            if self._hub and not sent:
                self._hub.send({"ready": meeting.rank, "host": host(), "facts": meeting.facts})
                sent = True
            time.sleep(POLL)
        where = f"node 0 at {meeting.address}:{meeting.port}"
        told = f"{where} does not answer" if self._hub is None else f"{where} still waits for other nodes"
        raise PeerLost(
            f"{told} after {meeting.patience:g} s: start it, and see that --master-addr and --master-port are the same "
            "on all nodes"
        )

    def _connect(self) -> None:
        if self._hub:
            self._hub.close()
            self._hub = None
        with suppress(OSError):
            self._hub = _Peer(socket.create_connection((self._meeting.address, self._meeting.port), timeout=2))
            self._hub.name = "node 0"

    def share(self, seen):
        now = time.monotonic()
        if now - self._told_at > BEAT / 2 or any(each.ended for each in seen.values()):
            self._told_at = now
            self._hub.send({"seen": {rank: each.as_json() for rank, each in seen.items()}})
        for message in self._hub.messages():
            if "decision" in message:
                self._decided = Decision(**message["decision"])
            self._hung = message.get("hang", self._hung)
        if self._hub.gone and self._decided is None:
            raise PeerLost(f"node 0 is gone ({self._hub.gone}); start the run again to go on from its checkpoint")
        return seen

    def decided(self):
        return self._decided

    def hung(self):
        told, self._hung = self._hung, None
        return told

    def close(self):
        if self._hub:
            self._hub.close()


def join(meeting: Meeting) -> Alone:
    """This node among all."""
    if meeting.nodes == 1:
        return Alone()
    return NodeZero(meeting) if meeting.rank == 0 else OtherNode(meeting)


class _Peer:
    """Another node's launcher, at the end of ``connection``. Threads listen to it, and tell it that this one lives."""

    def __init__(self, connection: socket.socket):
        self.name, self.host = "a node", ""
        self.gone: str | None = None  # why
        self._connection = connection
        connection.settimeout(SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._messages: queue.SimpleQueue[dict] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        threading.Thread(target=self._beat, daemon=True).start()

    def messages(self) -> list[dict]:
        """Those that have come since the last time."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._messages.get_nowait())
        return found

    def send(self, message: dict) -> None:
        try:
            with self._sending:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            self._lose(error)

    def close(self) -> None:
        """Leave it. What was sent last arrives, unless the other end does not listen any more."""
        self._closed.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            self._listening.join(CLOSING)  # to close while something is unread would cut off what was sent
        self._lose("it was left")
        self._connection.close()

    def _listen(self) -> None:
        rest = b""
        try:
            while data := self._connection.recv(1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if message:
                        self._messages.put(message)
            self._lose("its launcher has ended")
        except TimeoutError:
            self._lose(f"no sign of life for {SILENCE:g} s")
        except (OSError, ValueError) as error:
            self._lose(error)

    def _beat(self) -> None:
        while self.gone is None and not self._closed.wait(BEAT):
            self.send({})

    def _lose(self, why: object) -> None:
        self.gone = self.gone or str(why)
