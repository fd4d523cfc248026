"""TLS for a probe, between bytes and bytes: what has arrived goes in, what was said and what is to be sent come out.

Owned by its probe, in a health thread; it knows no socket. So an answer that came before the connection broke is still read,
and a connection that breaks at any moment is an errno of the probe's own call, not an exception of the ssl module's.
The certificate of a target without `tls` of its own is not checked: the question is whether this address works, not whose it
is. With it, it is: sessions would get no further either.
"""

import contextlib
import functools
import ssl

from tcp_proxy.config.tls_model import TargetTls
from tcp_proxy.control.health.probe import Secured
from tcp_proxy.runtime.tls import client_context
from tcp_proxy.runtime.tls import fault as tls_fault

READ_SIZE = 16384  # a record at a time


class Tls:
    """`is_ready`: the handshake is over. `is_over`: the target has said that it says no more."""

    def __init__(self, secured: Secured) -> None:
        """Raises OSError; `feed` begins the handshake."""
        self.is_ready = self.is_over = False
        self._arrived, self._unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context() if secured.tls is None else context_of(secured.tls)
        self._stream = made.wrap_bio(self._arrived, self._unsent, server_hostname=secured.server_name or None)

    def __repr__(self) -> str:
        return f"<Tls {'over' if self.is_over else 'open' if self.is_ready else 'in its handshake'}>"

    def feed(self, data: bytes) -> bytes:
        """What these bytes said. Raises ssl.SSLError; then `unsent` has the alert for the target."""
        self._arrived.write(data)
        parts = []
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self.is_ready:
                self._stream.do_handshake()
                self.is_ready = True
            with contextlib.suppress(ssl.SSLZeroReturnError):  # its end, and we have said ours
                while part := self._stream.read(READ_SIZE):
                    parts.append(part)
            self.is_over = True
        return b"".join(parts)

    def say(self, data: bytes) -> None:
        if data:
            self._stream.write(data)

    def part(self) -> None:
        """A connection that ends without this is an error in the log of some servers."""
        with contextlib.suppress(ssl.SSLError):
            self._stream.unwrap()

    def unsent(self) -> bytes:
        """What is to be sent now; it is taken."""
        return self._unsent.read()


@functools.cache
def context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


@functools.lru_cache(maxsize=64)
def context_of(tls: TargetTls) -> ssl.SSLContext:
    return client_context(tls)


def fault(error: OSError) -> str:
    """What an ssl.SSLError says; "" for any other."""
    text = tls_fault(error)
    return f"TLS failed: {text}" if text else ""
