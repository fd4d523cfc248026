"""One direction of a session that may move so many bytes a second: a Pump that leaves its source alone for a while.

Owned as a Pump is, and keeps the same contract; it never leaves the loop's thread, for what is slowed down is not bulk. What
was read is written at once; then, if that was more than the buckets had (sansio.token_bucket), nothing is read until they
have it again. So the sender is slowed down by TCP itself, and memory stays that of a Pump.

    FLOWING ──a turn has moved more than there are tokens──> PAUSED ──they are there──> FLOWING    (`Pace.timer`)

`paced_tls_pump` is the same for sessions with TLS.
"""

from collections.abc import Callable
from typing import Any, Self

from tcp_proxy.dataplane.relay.pump import CHUNK, Pump
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.runtime.stream_socket import StreamSocket

LEAST_CHUNK, READS = 1024, 64  # bytes of a read at the least; reads that a second's bytes are cut into
Spend = Callable[[int], float]  # so many bytes have moved: for how many seconds nothing more may


class Pace:
    """Of one pump, which asks `holds` before it reads and tells `look` when it has."""

    __slots__ = ("_owner", "_spend", "spent", "timer")

    def __init__(self, owner: Pump, spend: Spend) -> None:
        self._owner = owner
        self._spend = spend
        self.spent = 0  # bytes that the buckets know of
        self.timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Pace of {self._owner!r}{', paused' if self.timer is not None else ''}>"

    def holds(self) -> bool:
        """Whether nothing is read now; it is resumed when that is over."""
        pump = self._owner
        if self.timer is not None:
            pump.queued = True
        return self.timer is not None

    def look(self) -> None:
        pump = self._owner
        pump.full = 0
        moved, self.spent = pump.moved - self.spent, max(pump.moved, self.spent)
        wait = self._spend(moved) if moved > 0 else 0.0
        if wait > 0 and not pump.ended:
            pump.queued = True
            self.timer = pump.loop.call_later(wait, self._go_on)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _go_on(self) -> None:
        self.timer = None
        self._owner.resume()


def chunk_of(rate: float) -> int:
    """What one read may bring: a turn of four is a sixteenth of a second's then, so that many sessions share a rate."""
    return min(CHUNK, max(LEAST_CHUNK, int(rate) // READS))


class PacedPump(Pump):
    __slots__ = ("_pace", "chunk")

    def __init__(
        self, loop: Loop, owner: Any, source: StreamSocket, dest: StreamSocket, tcp: bool, rate: float, spend: Spend
    ) -> None:
        """`rate`: the least that may be, bytes a second."""
        super().__init__(loop, owner, source, dest, tcp)
        self.chunk = chunk_of(rate)
        self._pace = Pace(self, spend)

    def take_over(self, old: Pump) -> Self:
        super().take_over(old)
        self._pace.spent = self.moved
        return self

    def fill(self, events: int = 0) -> None:
        if not self._pace.holds():
            super().fill(events)
            self._pace.look()

    def stop(self) -> None:
        super().stop()
        self._pace.stop()
