"""The relay threads: each moves the bytes of bulk sessions with os.splice, in an event loop of its own. Those with TLS are
decrypted and encrypted there: OpenSSL leaves the interpreter to the other threads meanwhile.

`adopt` hands a session from the worker's loop to a relay thread; which sends it back when it is bulk no more
(handover.py says how). Those that are spliced are in as few threads as have a CPU: two that share one move less at a time,
and are woken more often, than one that has all (docs/performance.md). Those with TLS, whose work is in this program, are
spread over all.

Threads `relay-<n>` start with the first adopted session, not before. Each owns a RelayThread: its loop, sessions and pipes.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.relay.handover import Movable, hand_over
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.session_thread import SessionThread, is_plain, tls_pump
from tcp_proxy.dataplane.relay.splice import HAS_SPLICE, PipePool, SplicePump
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.scheduling import wait_for_turn
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import Row


def threads_with_cpu(workers: int, cpus: int = 0) -> int:
    """How many relay threads of each worker have a CPU that no worker's loop needs; at least one, all the same. `cpus`: if
    not said, those that this process may use."""
    return max(1, (cpus or len(os.sched_getaffinity(0))) // workers - 1)


class RelayThread(SessionThread):
    """Where bulk sessions live."""

    def __init__(self, loop: Loop, row: Row, recorder: Recorder, pipes: PipePool, back: SessionThread) -> None:
        super().__init__(loop, row, recorder)
        self.pipes = pipes
        self._back = back

    def make_pump(self, owner: Any, source: StreamSocket, dest: StreamSocket, tcp: bool) -> Pump:
        if not (is_plain(source) and is_plain(dest)):
            return tls_pump(self.loop, owner, source, dest, tcp, is_relay=True)
        if HAS_SPLICE:
            return SplicePump(self.loop, owner, source, dest, tcp, self.pipes)
        return super().make_pump(owner, source, dest, tcp)

    def send_away(self, session: Movable) -> bool:
        return hand_over(session, self._back)


class RelayPool:
    """All relay threads of a worker, as its loop's thread sees them."""

    def __init__(
        self,
        thread: SessionThread,
        rows: list[Row],
        recorder: Recorder,
        on_error: Callable[[Callable[..., Any], Exception], Any],
        may_open_pipe: Callable[[], bool],
        splicing: int = 1,
    ) -> None:
        """`thread` is the worker's main one; `rows` one for each thread; `on_error` is called in the thread it concerns;
        `splicing`: in so many of the threads are those without TLS."""
        self._session_thread = thread
        self._rows = rows
        self.recorder = recorder  # of the threads that are started from now on
        self._on_error = on_error
        self._may_open_pipe = may_open_pipe
        self._splicing = min(splicing, len(rows))
        self._os_threads: list[threading.Thread] = []
        self.threads: list[RelayThread] = []

    def __repr__(self) -> str:
        return f"<RelayPool {[len(thread) for thread in self.threads]}>"

    @property
    def pipes(self) -> int:
        """Pipes open now; any thread may ask."""
        return sum(thread.pipes.open for thread in self.threads)

    def adopt(self, session: Movable) -> bool:
        """Give a session of the worker's main thread to a relay thread; False when it stays."""
        threads = self.threads
        is_spliced = is_plain(session.client) and session.upstream is not None and is_plain(session.upstream)
        most = self._splicing if is_spliced else len(self._rows)
        if len(threads) < most and all(len(thread) for thread in threads):
            self._start_thread()
        return bool(threads) and hand_over(session, min(threads[:most], key=len))

    def call_in_all(self, call: Callable[[SessionThread], Any]) -> None:
        """Have each relay thread call with itself."""
        for thread in self.threads:
            thread.loop.call_soon(call, thread)

    def close_idle_pipes(self) -> None:
        """Descriptors are short."""
        for thread in self.threads:
            thread.loop.call_soon(thread.pipes.close)

    def stop(self) -> None:
        """End the threads. Their sessions must have ended."""
        for thread in self.threads:
            thread.loop.stop_soon()
        for os_thread in self._os_threads:
            os_thread.join()

    def _start_thread(self) -> None:
        number = len(self.threads)
        try:
            loop = Loop(f"relay-{number}")
        except OSError:  # no descriptor for it
            return
        loop.on_error = self._on_error
        thread = RelayThread(loop, self._rows[number], self.recorder, PipePool(self._may_open_pipe), self._session_thread)
        os_thread = threading.Thread(target=_serve, args=(thread,), name=loop.name, daemon=True)
        try:
            os_thread.start()
        except RuntimeError:  # no more threads for this user or machine: the session stays where it is
            loop.close()
            return
        self.threads.append(thread)
        self._os_threads.append(os_thread)


class WorkerThread(SessionThread):
    """A worker's main thread, with its event loop, once it has relay threads."""

    def __init__(self, loop: Loop, row: Row, recorder: Recorder) -> None:
        super().__init__(loop, row, recorder)
        self.relays: RelayPool | None = None  # set once, by whoever makes both

    @property
    def promotes(self) -> bool:
        return self.relays is not None

    def send_away(self, session: Movable) -> bool:
        return self.relays is not None and self.relays.adopt(session)


def _serve(thread: RelayThread) -> None:
    wait_for_turn()  # bytes come together meanwhile, and short messages go before them
    try:
        thread.loop.run()
    finally:
        for session in tuple(thread.members):  # only after a bug: an orderly end has none left
            session.kill(Reason.INTERNAL_ERROR, Side.PROXY)
        thread.loop.close()
        thread.pipes.close()
