"""Does a target accept a connection? Asked of all its addresses at once, by the supervisor's main loop.

`done(success, text)` is called once, later, unless `cancel` came first. True: one of them did, and the connection is
closed again. None: this machine could not find out (DESIGN 9.8).
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.config.model import Check
from tcp_proxy.control.health import tcp
from tcp_proxy.control.health.probe import Result
from tcp_proxy.loop import Loop
from tcp_proxy.messages import Endpoint

Done = Callable[[bool | None, str], Any]


class Knock:
    def __init__(self, loop: Loop, endpoints: tuple[Endpoint, ...], seconds: float, done: Done) -> None:
        self._done: Done | None = done
        self._results: list[Result] = []
        check = Check(timeout=seconds)
        self._probes = [tcp.start(loop, endpoint, check, self._answered) for endpoint in endpoints]
        if not endpoints:
            loop.call_soon(self._tell, False, "it has no address")

    def __repr__(self) -> str:
        return f"<Knock at {len(self._probes)} addresses, {len(self._results)} answered>"

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
