"""The program that takes over: its connection to the one that runs, question by question, until it is the owner.

Main thread, which does nothing else meanwhile: until `taken` nobody is served here. What it was told and lent is in `told`;
control.takeover.taken makes of it what a supervisor is made from.

    CONNECTED ──greet──> GREETED ──ask_state──> TOLD (the old one stands still) ──ask_last──> COMPLETE ──take──> OWNER
    any before OWNER ──the old one refuses, or gives up waiting──> CannotTakeOver: this program ends
    any ──the old one is dead──> Orphaned before TOLD: start as if alone; after that: go on with what was told
"""

import os
import select
import socket
import struct
from typing import Any

from tcp_proxy import __version__
from tcp_proxy.control.takeover.connection import UNDERSTOOD, Connection, Ended, close_all, read_from_memory
from tcp_proxy.control.takeover.listener import CannotTakeOver
from tcp_proxy.control.takeover.steps import Step, reach
from tcp_proxy.wire import counters

ANSWER_WITHIN = 15.0  # seconds; an election, or a reload, may be under way
DEAD_WITHIN = 1.0  # seconds from the end of a process's descriptors to its own
NOTHING_LAST: dict[str, Any] = {
    "workers": [], "tables": {}, "wires": [], "pipes": [], "lock": -1, "probes": [], "events": [],
}  # fmt: skip


class Orphaned(Exception):
    """The program that ran is dead, and has told nothing."""


class Told:
    """A part of what was told, with the descriptors that go with it; those that nobody takes are closed."""

    def __init__(self, view: dict[str, Any], descriptors: list[int]) -> None:
        self.view = view
        self.descriptors = descriptors

    def __repr__(self) -> str:
        return f"<Told {', '.join(self.view)}>"

    def take(self, place: int) -> int:
        """The descriptor at that place, which is the caller's from now on; once."""
        fd, self.descriptors[place] = self.descriptors[place], -1
        assert fd >= 0, f"descriptor {place} is taken twice"
        return fd

    def close(self) -> None:
        close_all([fd for fd in self.descriptors if fd >= 0])
        self.descriptors = []


class Succession:
    def __init__(self, path: str) -> None:
        """Connect to the program that runs. Raises CannotTakeOver."""
        self.path = path
        self.state = Told({}, [])
        self.last = Told(NOTHING_LAST, [])
        self.version = ""  # of the old program
        self.is_orphan = False  # the old one has died before it had told everything
        self._is_owner = False
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
            self.pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self._pidfd = os.pidfd_open(self.pid)
        except (OSError, ValueError) as error:
            sock.close()
            reason = getattr(error, "strerror", None) or str(error)
            text = f"cannot take over: no tcp_proxy is there to be taken over from, {path}: {reason}"
            raise CannotTakeOver(f"{text}; start without --takeover") from None
        self._connection = Connection(sock)

    def __repr__(self) -> str:
        return f"<Succession to {self.pid}>"

    @property
    def is_dead(self) -> bool:
        """The old program."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(DEAD_WITHIN * 1000))

    def greet(self) -> None:
        """Raises CannotTakeOver, Orphaned."""
        answer = self._ask("welcome", "hello", versions=UNDERSTOOD, version=__version__, layout=counters.LAYOUT)
        self.version = str(answer.get("version"))

    def ask_state(self) -> None:
        """From now on the old one stands still. Raises CannotTakeOver, Orphaned."""
        self.state = self._ask_long("state")
        reach(Step.TOLD)

    def ask_last(self, node: str = "") -> None:
        """Of an old one that is dead nothing more is to be had. `node`: we go on as this life of a node of a cluster. Raises
        CannotTakeOver."""
        reach(Step.READY)
        try:
            self.last = self._ask_long("last", node=node)
        except Orphaned:
            self.last, self.is_orphan = Told(NOTHING_LAST, []), True
        reach(Step.COMPLETE)

    def take(self) -> None:
        """The point of no return. Raises CannotTakeOver: the old one has given up waiting."""
        try:
            self._connection.send("taken")
        except Ended as ended:
            self._require_dead(ended)
        self._is_owner = True
        reach(Step.TAKEN)

    def fail(self, why: str) -> None:
        """This program cannot do it; the old one says so, and goes on."""
        try:
            if not self._is_owner:
                self._connection.send("failed", why=why)
        except Ended:
            pass

    def fileno(self) -> int:
        """Of the connection, which the old one closes when it has heard `taken`; it says nothing more."""
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()
        os.close(self._pidfd)
        self.state.close()
        self.last.close()

    # -- a question

    def _ask(self, wanted: str, kind: str, **body: Any) -> dict[str, Any]:
        message, descriptors = self._answer(wanted, kind, **body)
        close_all(descriptors)
        return message

    def _answer(self, wanted: str, kind: str, **body: Any) -> tuple[dict[str, Any], list[int]]:
        try:
            self._connection.send(kind, **body)
            message, descriptors = self._connection.wait(ANSWER_WITHIN)
        except Ended as ended:
            self._require_dead(ended)
            raise Orphaned from None
        if message["is"] == wanted:
            return message, descriptors
        close_all(descriptors)
        raise self._cannot(str(message.get("why", f"it says {message['is']!r} where {wanted!r} was asked for")))

    def _require_dead(self, ended: Ended) -> None:
        """The old one takes, or says, nothing any more. Raises CannotTakeOver: it lives, or has refused before it ended."""
        try:
            while (received := self._connection.receive()) is not None:
                close_all(received[1])
                if received[0]["is"] == "refused":
                    raise self._cannot(str(received[0].get("why")))
        except Ended:
            pass
        if not self.is_dead:
            raise self._cannot(f"it goes on itself: {ended}")

    def _ask_long(self, kind: str, **body: Any) -> Told:
        message, descriptors = self._answer(kind, kind, **body)
        try:
            view, count = read_from_memory(descriptors[0]), int(message["count"])
        except (ValueError, LookupError, TypeError) as error:
            raise self._cannot(f"it says what nobody understands: {error}") from None
        finally:
            close_all(descriptors)
        told = Told(view, [])
        try:
            while (lent := len(told.descriptors)) < count:
                _, some = self._answer("descriptors", "descriptors", of=kind, **{"from": lent})
                if not some:
                    raise self._cannot("it lends fewer descriptors than it has said, or this process may have no more")
                told.descriptors += some
        except BaseException:
            told.close()
            raise
        return told

    def _cannot(self, why: str) -> CannotTakeOver:
        return CannotTakeOver(f"cannot take over from process {self.pid}: {why}")
