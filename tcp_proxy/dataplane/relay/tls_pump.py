"""One direction of a session with TLS on one side, or on both: a Pump of which at least one socket is a TlsSocket.

Owned as a Pump is, and keeps the same contract. The sockets decrypt and encrypt; what is different is how a direction ends:

    source: close_notify ──> ENDED         without close_notify: `read_failed` with TLS_TRUNCATED, never an end
    ENDED ──everything written──> close_notify to the destination, waiting for room if need be ──> DONE

Always true:
- close_notify is sent only for an end that the source has said; a session that is broken says none (`owner.broken`);
- a reset behind the source's close_notify takes nothing away and is no failure: a client that has never read its session
  tickets ends so;
- a turn ends where the socket is empty and what was read of it, too: no event tells of bytes that were read already.
"""

from socket import MSG_PEEK
from typing import Any, Protocol, Self

from tcp_proxy.dataplane.relay.pump import CHUNK, READABLE, Owner, Pump
from tcp_proxy.dataplane.relay.tls_socket import SEND_MOST, TlsSocket
from tcp_proxy.runtime.loop import RDHUP, WRITE, Loop
from tcp_proxy.runtime.stream_socket import StreamSocket


class TlsOwner(Owner, Protocol):
    broken: Any  # not None: one side has failed


class ToTlsPump(Pump):
    """Its source is a plain socket."""

    __slots__ = ("_owner", "_to_tls", "chunk")

    def __init__(self, loop: Loop, owner: TlsOwner, source: StreamSocket, dest: StreamSocket, tcp: bool) -> None:
        super().__init__(loop, owner, source, dest, tcp)
        self._owner = owner
        self._to_tls = dest if isinstance(dest, TlsSocket) else None
        self.chunk = CHUNK

    def take_over(self, old: Pump) -> Self:
        super().take_over(old)
        self._go_on_later()
        return self

    def _end(self) -> None:
        self.ended = True
        if self.failed:
            self.owner.source_failed(self)
        if not self.blocked and not self.done:
            self._say_end()

    def _flushed(self) -> None:
        self.blocked = False
        if self.ended:
            self._say_end()
        else:
            self.fill()

    def _say_end(self) -> None:
        """Everything is written."""
        if self._to_tls is not None and self._owner.broken is None:
            try:
                self._to_tls.say_end()
            except BlockingIOError:
                self.block()
                return
            except OSError as error:
                if not _has_ended(self._to_tls):
                    self.owner.write_failed(self, error.errno or 0)
                    return
        self.done = True
        self.owner.pump_done(self)


class TlsPump(ToTlsPump):
    """Its source may be one with TLS, too."""

    __slots__ = ("_from_tls", "_is_relay")

    def __init__(
        self, loop: Loop, owner: TlsOwner, source: StreamSocket, dest: StreamSocket, tcp: bool, is_relay: bool = False
    ) -> None:
        """`is_relay`: in a relay thread, where the owner is told when the source is empty."""
        super().__init__(loop, owner, source, dest, tcp)
        self._from_tls = source if isinstance(source, TlsSocket) else None
        self._is_relay = is_relay
        if is_relay and self._from_tls is None:
            self.chunk = SEND_MOST  # bulk that is to be encrypted: 16 records for each send cost a fifth less than 4
        if is_relay or (self._from_tls is not None and self._from_tls.may_have_more):
            self._go_on_later()  # no event tells of what was read with the handshake, or in another thread

    def ready(self, events: int) -> None:
        if self._from_tls is None:
            super().ready(events)
            return
        self.owner.last = self.loop.now
        if events & WRITE and self.opposite.blocked:
            self.opposite.flush()
        # An error is met by reading alone, in its place behind what came before it.
        if events & READABLE and not (self.blocked or self.ended or self.queued):
            self.fill(events)

    def fill(self, events: int = 0) -> None:
        """With RDHUP a short read does not say what a plain socket's would: the end is close_notify."""
        source = self._from_tls
        Pump.fill(self, 0 if source is not None and events & RDHUP else events)
        if source is not None and source.has_end and not (self.queued or self.blocked or self.ended or self.done):
            self._go_on_later()  # it was read with the last bytes
        if self._is_relay and not (self.queued or self.blocked or self.ended):
            self.owner.emptied(self)


def _has_ended(sock: TlsSocket) -> bool:
    """Whether it had said its end before it went away."""
    try:
        return sock.is_ended or not sock.recv(1, MSG_PEEK)
    except OSError:
        return False
