"""One direction of a session that meets a fault on purpose (dataplane.faults): a Pump that reads late, little, or never.

Owned as a Pump is, and keeps its contract: what was read is passed on whole and in order. It never leaves the loop's thread.
What is special is a FaultGate's, which its pump asks `holds` before it reads, and tells `look` when it has.

    CLOSED ──holds: latency, or for ever (timeout)──> WAITING ──over, or the fault is──> OPEN ──one turn of reads──> CLOSED
                                                                 a turn has moved more than `bandwidth` allows: PAUSED before
"""

from collections.abc import Callable
from socket import SocketType
from typing import Any, Protocol, Self

from tcp_proxy.dataplane.relay.pump import CHUNK, Pump
from tcp_proxy.runtime.loop import Loop, Timer

Spend = Callable[[int], float]


class Effects(Protocol):
    """What a fault does to one direction of a session."""

    is_over: bool
    is_stuck: bool  # nothing passes
    chunk: int  # bytes of a read at most; 0: as ever
    slow_close: float  # seconds before an end is passed on
    waiting: Any  # a set: the gates that wait for its end

    def delay(self) -> float: ...  # seconds before the next turn of reads


class FaultGate:
    __slots__ = ("_effects", "_is_open", "_pump", "_resets", "_spend", "spent", "timer")

    def __init__(self, pump: Pump, effects: Effects, spend: Spend, resets: Callable[[], Any] | None) -> None:
        """`resets`: called when the first byte has passed."""
        self._pump = pump
        self._effects = effects
        self._spend = spend
        self._resets = resets
        self._is_open = False
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
            if effects.is_stuck:
                effects.waiting.add(self)
            else:
                wait = effects.delay()
                if wait <= 0:
                    return False
                self.timer = pump.loop.call_later(wait, self.open)
        pump.queued = True
        return True

    def open(self) -> None:
        """What was waited for is over, or the fault."""
        self.stop()
        self._is_open = True
        self._pump.resume()

    def look(self) -> None:
        """A turn of reads is over."""
        pump = self._pump
        pump.full = 0
        moved, self.spent = pump.moved - self.spent, max(pump.moved, self.spent)
        if moved <= 0:
            return
        if self._resets is not None and not self._effects.is_over:
            self._resets()
            return
        wait = self._spend(moved)
        if wait > 0 and not pump.ended:
            pump.queued = True
            self.timer = pump.loop.call_later(wait, self._go_on)

    def _go_on(self) -> None:
        self.timer = None
        self._pump.resume()

    def closes_late(self, end: Callable[[], Any]) -> bool:
        """Whether the end is passed on later, by this call."""
        wait = 0.0 if self._effects.is_over else self._effects.slow_close
        if wait:
            self.stop()
            self.timer = self._pump.loop.call_later(wait, self._end, end)
        return wait > 0

    def _end(self, end: Callable[[], Any]) -> None:
        self.timer = None
        end()

    def stop(self) -> None:
        self._effects.waiting.discard(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class FaultPump(Pump):
    __slots__ = ("chunk", "gate")

    def __init__(
        self, loop: Loop, owner: Any, source: SocketType, dest: SocketType, tcp: bool, effects: Effects, spend: Spend,
        resets: Callable[[], Any] | None = None,
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
