"""The key that session tickets are made from: drawn here, told to every worker, and another one every ROTATE seconds.
What cannot be had of TLS here is said once, by whoever looks at each configuration: that key, and TLS in the kernel.

Main thread only; kept over reloads, for it has nothing to do with them, and nowhere but in memory. A ticket of the key
before is answered with a full handshake: OpenSSL knows one key, unless it is to call Python for each ticket.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.model import Config
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import TicketKey

logger = logging.getLogger(__name__)

SIZE = 64  # bytes
ROTATE = 12 * 3600.0


class TicketKeys:
    """`send(message)` goes to all workers."""

    def __init__(self, loop: Loop, send: Callable[[TicketKey], Any], key: bytes = b"") -> None:
        """`key`: of a program that is taken over, whose tickets are good here."""
        self._loop = loop
        self._send = send
        self._key = key or os.urandom(SIZE)
        self._has_complained = self._has_asked = False
        loop.call_later(ROTATE, self._rotate)

    def __repr__(self) -> str:
        return "<TicketKeys>"

    def message(self) -> TicketKey:
        return TicketKey(self._key.hex())

    def look(self, config: Config) -> None:
        """Say once that workers cannot share it, where that matters, and what the kernel has."""
        self._ask_kernel(config)
        if self._has_complained or not any(app.tls is not None and app.tls.tickets for app in config.apps):
            return
        self._has_complained = True
        from tcp_proxy.runtime import openssl  # noqa: PLC0415  ctypes is loaded where TLS is spoken

        if why := openssl.cannot():
            logger.warning("session tickets of TLS are good at the worker that made them, and until a reload: %s", why)

    def _ask_kernel(self, config: Config) -> None:
        if self._has_asked or not any(app.tls is not None for app in config.apps):
            return
        self._has_asked = True
        from tcp_proxy.runtime import kernel_tls  # noqa: PLC0415  as above

        why = kernel_tls.missing()
        found = f"this kernel has none of its own (kTLS: {why})" if why else "that of this kernel (kTLS) is not used"
        logger.debug("TLS is spoken by the workers: %s", found)

    def _rotate(self) -> None:
        self._key = os.urandom(SIZE)
        self._send(self.message())
        self._loop.call_later(ROTATE, self._rotate)
