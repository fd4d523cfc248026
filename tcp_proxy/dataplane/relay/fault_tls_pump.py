"""A FaultPump with TLS on one side, or on both; loaded with the first such session. Owned as a TlsPump is."""

from collections.abc import Callable
from typing import Self

from tcp_proxy.dataplane.relay.fault_pump import Effects, FaultGate, Spend
from tcp_proxy.dataplane.relay.pump import CHUNK, Pump
from tcp_proxy.dataplane.relay.tls_pump import TlsOwner, TlsPump
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket


class FaultTlsPump(TlsPump):
    __slots__ = ("gate",)

    def __init__(
        self, loop: Loop, owner: TlsOwner, source: StreamSocket, dest: StreamSocket, tcp: bool, effects: Effects,
        spend: Spend, resets: Callable[[], bool] | None = None,
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
