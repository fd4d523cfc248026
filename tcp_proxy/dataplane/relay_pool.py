"""The relay threads: each moves the bytes of bulk sessions with os.splice, in an event loop of its own.

`adopt` hands a session from the worker's loop to a relay thread; its home there sends it back when it is bulk no more
(handover.py says how).

Threads `relay-<n>` start with the first adopted session, not before. Each owns its loop, its home and its pipes.
"""

import threading
from collections.abc import Callable
from socket import SocketType
from typing import Any

from tcp_proxy.counters import Row
from tcp_proxy.dataplane.handover import hand_over
from tcp_proxy.dataplane.homes import Home
from tcp_proxy.dataplane.pump import Owner, Pump
from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.splice import HAS_SPLICE, PipePool, SplicePump
from tcp_proxy.loop import Loop
from tcp_proxy.sansio.reasons import Reason, Side


class RelayHome(Home):
    """Where bulk sessions live."""

    def __init__(self, loop: Loop, row: Row, recorder: Recorder, pipes: PipePool, back: Home) -> None:
        super().__init__(loop, row, recorder)
        self.pipes = pipes
        self._back = back

    def make_pump(self, owner: Owner, source: SocketType, dest: SocketType, tcp: bool) -> Pump:
        if HAS_SPLICE:
            return SplicePump(self.loop, owner, source, dest, tcp, self.pipes)
        return super().make_pump(owner, source, dest, tcp)

    def send_away(self, session: Any) -> bool:
        return hand_over(session, self._back)


class RelayPool:
    """All relay threads of a worker, as its loop's thread sees them."""

    def __init__(
        self,
        home: Home,
        rows: list[Row],
        recorder: Recorder,
        on_error: Callable[[Callable[..., Any], Exception], Any],
        may_open_pipe: Callable[[], bool],
    ) -> None:
        """`home` is the worker's own; `rows` one for each thread; `on_error` is called in the thread it concerns."""
        self._home = home
        self._rows = rows
        self.recorder = recorder  # of the threads that are started from now on
        self._on_error = on_error
        self._may_open_pipe = may_open_pipe
        self._threads: list[threading.Thread] = []
        self.homes: list[RelayHome] = []

    def __repr__(self) -> str:
        return f"<RelayPool {[len(home) for home in self.homes]}>"

    @property
    def pipes(self) -> int:
        """Pipes open now; any thread may ask."""
        return sum(home.pipes.open for home in self.homes)

    def adopt(self, session: Any) -> bool:
        """Give a session of the worker's home to the relay thread that has the fewest."""
        if len(self.homes) < len(self._rows) and all(len(home) for home in self.homes):
            self._start_thread()
        return bool(self.homes) and hand_over(session, min(self.homes, key=len))

    def call_in_all(self, call: Callable[[Home], Any]) -> None:
        """Have each relay thread call with its home."""
        for home in self.homes:
            home.loop.call_soon(call, home)

    def stop(self) -> None:
        """End the threads. Their sessions must have ended."""
        for home in self.homes:
            home.loop.stop_soon()
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        number = len(self.homes)
        try:
            loop = Loop(f"relay-{number}")
        except OSError:  # no descriptor for it
            return
        loop.on_error = self._on_error
        home = RelayHome(loop, self._rows[number], self.recorder, PipePool(self._may_open_pipe), self._home)
        thread = threading.Thread(target=_serve, args=(home,), name=loop.name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads for this user or machine: the session stays where it is
            loop.close()
            return
        self.homes.append(home)
        self._threads.append(thread)


class WorkerHome(Home):
    """The home of a worker's event loop, once it has relay threads."""

    def __init__(self, loop: Loop, row: Row, recorder: Recorder) -> None:
        super().__init__(loop, row, recorder)
        self.relays: RelayPool | None = None

    @property
    def promotes(self) -> bool:  # type: ignore[override]
        return self.relays is not None

    def send_away(self, session: Any) -> bool:
        return self.relays is not None and self.relays.adopt(session)


def _serve(home: RelayHome) -> None:
    try:
        home.loop.run()
    finally:
        for session in tuple(home.members):  # only after a bug: an orderly end has none left
            session.kill(Reason.INTERNAL_ERROR, Side.PROXY)
        home.loop.close()
        home.pipes.close()
