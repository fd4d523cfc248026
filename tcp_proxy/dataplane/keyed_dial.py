"""The dial of a session whose target depends on who the client is, or on the port it came to: source_hash, and groups.

Owned like a Dial, which is all that most sessions need: what is special costs only the apps that ask for it.
"""

import errno
from typing import Any

from tcp_proxy.dataplane.apps import LiveTarget
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.sansio.address import ip_of


class KeyedDial(Dial):
    """`session`: the owner; `port`: of the listener, for which each group has a server."""

    __slots__ = ("port",)

    def __init__(self, session: Any) -> None:
        key = ip_of(session.address).encode() if session.app.needs_key else b""
        super().__init__(session.home.loop, session, session.app, key, session.first)
        self.port: int = session.listener.port

    def _try_target(self, target: LiveTarget) -> bool:
        self.target = target
        self.cut = target.cut
        if self.tried:
            self._count_retry()
        if target.servers and self.port not in target.servers:  # the listener has left the app, and is about to close
            self._attempt_failed(errno.EADDRNOTAVAIL)  # no fault of the target's
            return False
        endpoint, self.endpoints = target.endpoints_on(self.port)
        return self._connect(endpoint) or self._next_endpoint()
