"""The check `tcp`: the target accepts a connection in time. Nothing is said to it."""

import errno

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import Connecting
from tcp_proxy.control.health.probe import Done
from tcp_proxy.loop import Loop
from tcp_proxy.messages import Endpoint


class TcpProbe(Connecting):
    def _established(self) -> None:
        self._tell(True, "accepted")

    def _not_connected(self, code: int) -> None:
        if code == errno.ECONNRESET:  # unlike a refusal, it comes after the target had accepted
            self._established()
        else:
            self._failed(code)


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> TcpProbe:
    return TcpProbe(loop, endpoint, check, done)
