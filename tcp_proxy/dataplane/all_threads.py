"""The threads of a worker that have sessions, as its loop's thread sees them: something is done in each of them.

The loop's thread only.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.relay.pool import RelayPool
from tcp_proxy.dataplane.relay.session_thread import SessionThread, in_slices

TargetsGivenUp = frozenset[Any]  # of LiveTargets
Call = Callable[[SessionThread], Any]


class AllThreads:
    def __init__(self, main: SessionThread, relays: RelayPool) -> None:
        self._main = main
        self._relays = relays

    def __repr__(self) -> str:
        return f"<AllThreads {self._main!r}, {self._relays!r}>"

    def call(self, call: Call) -> None:
        """In each with itself: here now, in the others soon."""
        call(self._main)
        self._relays.call_in_all(call)

    def when_all_have(self, call: Call, done: Callable[[], Any]) -> None:
        """The same, then `done` here, when what they let go of is closed."""
        loop = self._main.loop
        threads = list(self._relays.threads)
        waiting = len(threads)

        def arrived() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done()

        def call_there(thread: SessionThread) -> None:
            call(thread)
            thread.loop.after_batch(lambda: loop.call_soon(arrived))

        call(self._main)
        for thread in threads:
            thread.loop.call_soon(call_there, thread)
        if not threads:
            done()


def cut_off(targets: TargetsGivenUp, thread: SessionThread) -> None:
    for session in tuple(thread.members):
        if session.target in targets:
            thread.guard(session.cut_off)


def cut_off_by_and_by(targets: TargetsGivenUp, thread: SessionThread) -> None:
    """Over many rounds, where nobody waits for the end of it: 10,000 resets in one take half a second. Who has come to one
    of them since is left alone."""
    found = tuple(session for session in thread.members if session.target in targets)
    in_slices(thread.loop, found, partial(_cut_off_some, targets, thread), _nothing)


def _cut_off_some(targets: TargetsGivenUp, thread: SessionThread, sessions: tuple[Any, ...]) -> None:
    for session in sessions:
        target = session.target
        if session in thread.members and target in targets and session.cut != target.cut:
            thread.guard(session.cut_off)


def _nothing() -> None:
    pass


def record_to(recorder: Recorder, thread: SessionThread) -> None:
    thread.recorder = recorder
