"""Does a target accept a connection, and a TLS handshake where it has `tls`? Asked of all its addresses at once, by the
supervisor's main loop.

`done(success, text)` is called once, later, unless `cancel` came first. True: one of them did, and the connection is
closed again. None: this machine could not find out (docs/rules.md, R8).
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.config.model import App, Check
from tcp_proxy.control.health import tcp
from tcp_proxy.control.health.probe import Result, Secured
from tcp_proxy.control.targets.asked import secured_of
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.views import Endpoint

Done = Callable[[bool | None, str], Any]


class ConnectCheck:
    """`secured`: the target's TLS."""

    def __init__(
        self, loop: Loop, endpoints: tuple[Endpoint, ...], check: Check, done: Done, secured: Secured | None = None
    ) -> None:
        self._done: Done | None = done
        self._results: list[Result] = []
        self._probes = [tcp.start(loop, endpoint, check, self._answered, secured) for endpoint in endpoints]
        if not endpoints:
            loop.call_soon(self._tell, False, "it has no address")

    def __repr__(self) -> str:
        return f"<ConnectCheck at {len(self._probes)} addresses, {len(self._results)} answered>"

    def cancel(self) -> None:
        self._done = None
        for probe in self._probes:
            probe.cancel()

    def _answered(self, result: Result) -> None:
        self._results.append(result)
        if result.success:
            self._tell(True, result.text)
        elif len(self._results) == len(self._probes):
            failed = [result for result in self._results if result.success is False]
            first = (failed or self._results)[0]
            self._tell(first.success, first.text)

    def _tell(self, success: bool | None, text: str) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(success, text)


def ask(loop: Loop, app: App, target: KnownTarget, done: Done) -> ConnectCheck:
    """As a session of the app would connect to it."""
    check = target.config.connect_check(app.timeouts.connect, app.source)
    secured = secured_of(target).get(target.config.name)
    return ConnectCheck(loop, target.endpoints, check, done, secured)
