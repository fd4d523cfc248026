"""The dial of a session whose target depends on who the client is, or on the port it came to: policies with a
key, least_time, and groups.

Owned like a Dial, which is all that most sessions need: what is special costs only the apps that ask for it.
"""

import errno
from typing import Any

from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import ip_of


class _Timed:
    """The owner of a dial, in an app with least_time: it notes how long the connect to the target took."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def connected(self, sock: StreamSocket, events: int) -> None:
        session = self._session
        dial, now, latencies = session.dial, session.thread.loop.now, session.app.latencies
        if latencies is not None:  # else it has another policy by now
            latencies.add(dial.target.name, now - dial.began, now)
        session.connected(sock, events)


class KeyedDial(Dial):
    """`session`: the owner; `port`: of the listener, for which each group has a server."""

    __slots__ = ("began", "port")

    def __init__(self, session: Any) -> None:
        key = ip_of(session.address).encode() if session.app.needs_key else b""
        super().__init__(session.thread.loop, session, session.route or session.app, key, session.first)
        self.port: int = session.listener.port
        self.began = 0.0  # when the connects to the target at hand began
        if session.app.latencies is not None and session.app.http is None:
            self.owner = _Timed(session)

    @property
    def listening_port(self) -> int:
        return self.port

    def _try_target(self, target: LiveTarget) -> bool:
        self.target = target
        self.cut = target.cut
        self.began = self.loop.now
        if self.tried:
            self._count_retry()
        if target.servers and self.port not in target.servers:  # the listener has left the app, and is about to close
            self._attempt_failed(errno.EADDRNOTAVAIL)  # no fault of the target's
            return False
        endpoint, self.endpoints = target.endpoints_on(self.port)
        return self._connect(endpoint) or self._next_endpoint()
