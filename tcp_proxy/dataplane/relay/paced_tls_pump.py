"""A PacedPump with TLS on one side, or on both; loaded with the first such session. Owned as a TlsPump is."""

from typing import Self

from tcp_proxy.dataplane.relay.paced_pump import Pace, Spend, chunk_of
from tcp_proxy.dataplane.relay.pump import Pump
from tcp_proxy.dataplane.relay.tls_pump import TlsOwner, TlsPump
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.runtime.stream_socket import StreamSocket


class PacedTlsPump(TlsPump):
    __slots__ = ("_pace",)

    def __init__(
        self, loop: Loop, owner: TlsOwner, source: StreamSocket, dest: StreamSocket, tcp: bool, rate: float, spend: Spend
    ) -> None:
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
