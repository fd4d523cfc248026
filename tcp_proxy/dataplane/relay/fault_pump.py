"""One direction of a session that meets faults on purpose (dataplane.faults): a Pump that reads late, little, or never.

Owned as a Pump is, and keeps its contract: what was read is passed on whole and in order. It never leaves the loop's thread.
What is special is a FaultGate's, which its pump asks `holds` before it reads, and tells `look` when it has.

    CLOSED ──holds: latency, or for ever (timeout)──> WAITING ──over, or the fault is──> OPEN ──one turn of reads──> CLOSED
                                                                 a turn has moved more than `bandwidth` allows: PAUSED before
"""

from collections.abc import Callable
from typing import Any, Protocol, Self

from tcp_proxy.dataplane.relay.pump import CHUNK, Pump
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.runtime.stream_socket import StreamSocket

Spend = Callable[[int], float]


class Effects(Protocol):
    """What faults do to one direction of a session."""

    @property
    def is_over(self) -> bool: ...

    @property
    def is_stuck(self) -> bool: ...  # nothing passes

    @property
    def slow_close(self) -> float: ...  # seconds before an end is passed on

    chunk: int  # bytes of a read at most; 0: as ever
    waiting: Any  # a set: the gates that are opened at the end

    def delay(self) -> float: ...  # seconds before the next turn of reads


class FaultGate:
    __slots__ = ("_effects", "_end", "_is_open", "_pump", "_resets", "_spend", "spent", "timer")

    def __init__(self, pump: Pump, effects: Effects, spend: Spend, resets: Callable[[], bool] | None) -> None:
        """`resets`: called when the first byte has passed, whether the session was reset."""
        self._pump = pump
        self._effects = effects
        self._spend = spend
        self._resets = resets
        self._is_open = False
        self._end: Callable[[], Any] | None = None  # which is late
        self.spent = 0  # bytes that the buckets know of
        self.timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<FaultGate of {self._pump!r}{', waiting' if self.timer is not None else ''}>"

    def holds(self) -> bool:
        """Whether nothing is read now; the pump is resumed when that is over."""
        effects, pump = self._effects, self._pump
        if effects.is_over:
            return False
        if self._is_open:
            self._is_open = False
            return False
        if self.timer is None:
            wait = 0.0 if effects.is_stuck else effects.delay()
            if wait > 0:
                self.timer = pump.loop.call_later(wait, self.open)
            elif not effects.is_stuck:
                return False
            effects.waiting.add(self)
        pump.queued = True
        return True

    def open(self) -> None:
        """What was waited for is over, or the fault."""
        self.stop()
        end, self._end = self._end, None
        if end is not None:
            end()
            return
        self._is_open = True
        self._pump.resume()

    def look(self) -> None:
        """A turn of reads is over."""
        pump = self._pump
        pump.full = 0
        moved, self.spent = pump.moved - self.spent, max(pump.moved, self.spent)
        if moved <= 0:
            return
        resets, self._resets = self._resets, None
        if resets is not None and resets():
            return
        wait = self._spend(moved)
        if wait > 0 and not pump.ended:
            pump.queued = True
            self.timer = pump.loop.call_later(wait, self._go_on)
            self._effects.waiting.add(self)

    def _go_on(self) -> None:
        self.stop()
        self._pump.resume()

    def closes_late(self, end: Callable[[], Any]) -> bool:
        """Whether the end is passed on later, by this call."""
        wait = 0.0 if self._effects.is_over else self._effects.slow_close
        if wait:
            self.stop()
            self._end = end
            self.timer = self._pump.loop.call_later(wait, self.open)
            self._effects.waiting.add(self)
        return wait > 0

    def stop(self) -> None:
        self._effects.waiting.discard(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FaultPump(Pump):
    __slots__ = ("chunk", "gate")

    def __init__(
        self, loop: Loop, owner: Any, source: StreamSocket, dest: StreamSocket, tcp: bool, effects: Effects, spend: Spend,
        resets: Callable[[], bool] | None = None,
    ) -> None:  # fmt: skip
        # What is held back with the last bytes, for an end that is to follow at once, would wait for one that comes late.
        super().__init__(loop, owner, source, dest, tcp and not effects.slow_close)
        self.chunk = effects.chunk or CHUNK
        self.gate = FaultGate(self, effects, spend, resets)

    def take_over(self, old: Pump) -> Self:
        super().take_over(old)
        self.gate.spent = self.moved
        return self

    def fill(self, events: int = 0) -> None:
        if not self.gate.holds():
            super().fill(events)
            self.gate.look()

    def stop(self) -> None:
        super().stop()
        self.gate.stop()

    def _end(self) -> None:
        self.ended = True
        if not self.gate.closes_late(super()._end):
            super()._end()
