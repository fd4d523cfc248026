"""The check `tcp`: the target accepts a connection in time, and where it has `tls`, the handshake. Nothing is said to it.

In TLS 1.3 the handshake is over for us before the target has looked at our certificate. So a check that has one says its
end, and waits for what the target makes of that: an alert is a failure, anything else is none, nor is silence.
"""

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import Connecting, with_port
from tcp_proxy.control.health.probe import Done, Probe, Secured, shown
from tcp_proxy.control.health.talk import Talk
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.dialogue import listening, silent
from tcp_proxy.sansio.reasons import Attempt, attempt
from tcp_proxy.wire.views import Endpoint


class TcpProbe(Connecting):
    def _established(self) -> None:
        self._tell(True, "accepted")

    def _was_reset(self, _code: int) -> None:
        self._established()


class ShownProbe(Talk):
    """Of a target that is shown a certificate."""

    def _begin(self) -> None:
        super()._begin()
        if self._tls is not None:
            self._tls.part()

    def _broke(self, code: int) -> None:
        if self._has_begun and attempt(code) is Attempt.RESET:
            self._tell(True, "accepted, with TLS")  # it has not said that it refuses; our end came too early for it
        else:
            super()._broke(code)


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done, secured: Secured | None = None) -> Probe:
    """`secured`: the target's own TLS."""
    if secured is None:
        return TcpProbe(loop, endpoint, check, done)
    name = f"tcp {shown(with_port(endpoint, check.port))}"
    kind, dialogue = (Talk, silent) if secured.tls is None or secured.tls.certificate is None else (ShownProbe, listening)
    return kind(loop, endpoint, check, done, name, dialogue("accepted, with TLS"), secured)
