"""A TCP or UNIX socket that speaks TLS and has the face of one that does not.

Owned by whoever owns the connection, in his thread; it owns the socket that it is made from (`raw`). What it is told and
asked is what a non-blocking socket is: `recv`, `send`, `shutdown`, and errors as OSError. So a session, its pumps and mode
http use it as any other (runtime.stream_socket).

    HANDSHAKE ──handshake() is True──> OPEN
    OPEN, for what comes:  ──close_notify──> `is_ended`, recv gives b""
                           ──the connection's end without it──> recv raises TLS_TRUNCATED, never b""
                           ──a reset, or bytes that are no TLS──> recv raises it, after all that came before
    OPEN, for what goes:   ──shutdown(SHUT_WR)──> close_notify, then FIN

OpenSSL reads and writes memory here, never the descriptor: a read takes up to 256 KiB from the socket in one call, bytes
that were read by others can be given to it (`begin`), and what the kernel says of the connection is heard by us alone.

Always true:
- `recv` gives less than was asked for only where the socket had no more for now, or has ended;
- an error that is met behind bytes is told after them, and as often as it is asked for;
- `send` takes at most SEND_MOST bytes. What was encrypted and has no room in the socket waits here, one such piece at most:
  `send` raises BlockingIOError until it is gone, and then says what it has taken. Who calls again begins with the same
  bytes, as pumps and writers do;
- what waits is bounded: READ_MOST of what has come, SEND_MOST of what goes, ANSWERS_MOST of what OpenSSL says by itself.
"""

import ssl
from contextlib import suppress
from errno import ENOBUFS, EPIPE, EPROTO
from socket import MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL, MSG_PEEK, SHUT_RD
from typing import Any, Final, Protocol

from tcp_proxy.runtime import openssl
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.runtime.tls import HandshakeFailed, fault
from tcp_proxy.sansio.reasons import TLS_FAULT, TLS_TRUNCATED

READ_FIRST: Final = 16384  # bytes asked of the socket in one call; more where all of them come:
READ_MOST: Final = 1 << 18
SEND_MOST: Final = 1 << 18  # bytes that are encrypted in one call
RECORD: Final = 16384  # OpenSSL gives at most one record in a call
WASTED_MOST: Final = 1 << 17  # bytes that may come in one call beside so many times those that were in them:
WASTE: Final = 64
ANSWERS_MOST: Final = 1 << 16  # bytes of answers to a peer that asks and does not read: then it is given up

_DONTWAIT: Final = int(MSG_DONTWAIT)
_PEEK: Final = int(MSG_PEEK)
_FLAGS: Final = int(MSG_DONTWAIT | MSG_NOSIGNAL)
_LAST_FLAGS: Final = _FLAGS | int(MSG_MORE)  # a shutdown or close follows at once

_WantRead, _ZeroReturn, _TlsError = ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLError


class Keeper(Protocol):
    """Where the session of a connection is left, when that ends, for the next one (dataplane.target_tls)."""

    sessions: dict[str, ssl.SSLSession]


class TlsSocket:
    """`stream` is for questions (version, cipher, certificate), `inner` what hears them from it, 0.1 us later each."""

    __slots__ = (
        "_arrived", "_code", "_fetched", "_has_tickets", "_held", "_is_cut", "_is_full", "_is_open", "_keeper",
        "_name", "_read", "_read_size", "_said_end", "_taken", "_text", "_unsent", "_wait", "_write", "family", "inner",
        "is_ended", "raw", "stream",
    )  # fmt: skip

    def __init__(
        self,
        sock: StreamSocket,
        context: ssl.SSLContext,
        server_side: bool,
        server_name: str | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        """`server_name`: whom a target must be; `keeper`: has sessions of it to resume. Raises ValueError for a name that is
        none."""
        session = keeper.sessions.get(server_name or "") if keeper is not None else None
        self._arrived, self._unsent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.stream = context.wrap_bio(self._arrived, self._unsent, server_side, server_name or None, session)
        inner: Any = self.stream._sslobj  # type: ignore[attr-defined]  # of CPython 3.11 to 3.14
        self.inner = inner
        self._read, self._write = inner.read, inner.write
        self.raw = sock
        self.family: int = sock.family
        self._keeper, self._name = keeper, server_name or ""
        self._is_open = False  # the handshake is over
        self._has_tickets = False  # session tickets wait for the next bytes that go, or for a read that gives none
        self.is_ended = False  # the peer has said that it says no more
        self._said_end = False
        self._held = b""  # decrypted, and given to nobody yet
        self._code, self._text = 0, ""  # the error that recv raises when it has nothing more
        self._is_cut = False  # OpenSSL may have the rest of a record of which a part was asked for
        self._read_size = READ_FIRST
        self._fetched = 0  # bytes of the socket in this call
        self._is_full = True  # the last read of the socket gave all that it was asked for: there may be more
        self._wait: bytes | memoryview = b""  # encrypted; the socket had no room
        self._taken = 0  # bytes given to `send` that are in `_wait`, or were, and that the caller does not know to be taken

    def __repr__(self) -> str:
        return f"<TlsSocket {self.stream.version()} fd={self.fileno()}{' ended' if self.is_ended else ''}>"

    # -- as any socket

    def setblocking(self, flag: bool, /) -> None:
        self.raw.setblocking(flag)

    def fileno(self) -> int:
        return self.raw.fileno()

    def getsockname(self) -> Any:
        return self.raw.getsockname()

    def getpeername(self) -> Any:
        return self.raw.getpeername()

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> Any:
        return self.raw.getsockopt(level, option, size) if size else self.raw.getsockopt(level, option)

    def setsockopt(self, level: int, option: int, value: Any, /) -> None:
        self.raw.setsockopt(level, option, value)

    # -- the handshake

    def begin(self, first: bytes, is_all: bool = False) -> None:
        """What was read of the socket before. `is_all`: it had no more, and of what comes an event will tell."""
        self._arrived.write(first)
        self._is_full = not is_all

    def handshake(self) -> bool:
        """Go on with it; whether it is over. Raises OSError: HandshakeFailed, of the connection, or without an errno where
        that has ended."""
        while True:
            if self.step():
                return True
            if not self._fetch():
                if self._code:
                    is_over = self._code == TLS_TRUNCATED
                    raise OSError(0, "ended in its handshake") if is_over else OSError(self._code, self._text)
                return False

    def step(self, is_read_next: bool = False) -> bool:
        """The same with what has come, without reading from the socket. `is_read_next`: once it is over; then a server's
        session tickets go with its first bytes, where the client has asked already: one send less, and one wake-up."""
        try:
            self.inner.do_handshake()
        except _WantRead:
            self._flush_answers()
            return False
        except _TlsError as error:
            self._send_alert()
            raise HandshakeFailed(EPROTO, fault(error)) from None
        self._is_open = True
        self._has_tickets = is_read_next and self.inner.version() == "TLSv1.3"  # in 1.2 the client waits for what is last
        if not self._has_tickets:
            self._flush_answers()
        return True

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait for room in the socket."""
        return bool(self._wait)

    def flush(self) -> None:
        """Write what waits, as far as there is room. Raises OSError."""
        with suppress(BlockingIOError):
            self._push(_FLAGS)

    # -- what comes

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self._held:
            return self._recv_held(size, flags)
        if not (self._arrived.pending or self._is_cut or self.is_ended or flags & _PEEK) and self._read_size == READ_FIRST:
            data = self._recv_message(size)
            if data:
                return data
        data = self._decrypt(size, True)
        if flags & _PEEK:
            self._held = data
        return data

    def _recv_message(self, size: int) -> bytes:
        """What comes where nothing was left over: one record and no more, mostly. b"": look closer."""
        arrived = self._arrived
        self._fetched = 0
        if not self._fetch():
            if self._code:
                return b""
            if self._unsent.pending:
                self._answer(False)
            raise BlockingIOError
        wanted = min(arrived.pending, size, RECORD)  # what is in a record is shorter than the record
        try:
            data: bytes = self._read(wanted)
        except _WantRead:
            return b""
        except _TlsError as error:
            self._end(error)
            return b""
        if not data:
            self.is_ended = True
        elif arrived.pending or self._is_full or len(data) == wanted:
            self._is_cut = len(data) == wanted < RECORD
            self._held = data
            return self._recv_held(size, 0)
        elif self._unsent.pending:
            self._answer(True)
        return data

    def _recv_held(self, size: int, flags: int) -> bytes:
        held = self._held
        if len(held) < size:
            with suppress(OSError):  # it is told when nothing is held
                held += self._decrypt(size - len(held), True)
        self._held = held if flags & _PEEK else held[size:]
        return held[:size]

    def _decrypt(self, size: int, may_fetch: bool) -> bytes:
        """As much as there is; b"" only at the end, or where nothing may be fetched."""
        arrived, read = self._arrived, self._read
        parts: list[bytes] = []
        left = size
        self._fetched = 0
        while left and not self.is_ended:
            if arrived.pending or self._is_cut:
                wanted = left if left < RECORD else RECORD
                try:
                    part = read(wanted)
                except _WantRead:
                    self._is_cut = False
                except _TlsError as error:
                    self._end(error)
                    break
                else:
                    if not part:
                        self.is_ended = True
                        break
                    parts.append(part)
                    left -= len(part)
                    self._is_cut = len(part) == wanted < RECORD
                    continue
            if not may_fetch or (parts and not self._is_full) or not self._fetch(size - left):
                break
        if self._unsent.pending:
            self._answer(bool(parts))
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if self.is_ended or not may_fetch:
            return b""
        if self._code:
            raise OSError(self._code, self._text)
        raise BlockingIOError

    def _fetch(self, got: int = 0) -> bool:
        """Read from the socket. False: it has nothing for now or, if there is a `_code`, never again. `got`: bytes that were
        in what this call has fetched. A peer that sends key updates without end would keep the loop for ever."""
        if not self._code and self._fetched > WASTED_MOST + WASTE * got:  # a record has 16 KiB
            self._code, self._text = TLS_FAULT, "says nothing but messages of TLS"
        if self._code:
            return False
        size = self._read_size
        try:
            data = self.raw.recv(size, _DONTWAIT)
        except BlockingIOError:
            self._is_full = False
            return False
        except OSError as error:
            self._code, self._text = error.errno or 0, error.strerror or ""
            return False
        if not data:
            self._code, self._text = TLS_TRUNCATED, "ended without close_notify"
            return False
        self._is_full = len(data) == size
        if self._is_full and size < READ_MOST:
            self._read_size = 2 * size
        self._fetched += len(data)
        self._arrived.write(data)
        return True

    def _end(self, error: ssl.SSLError) -> None:
        """OpenSSL reads no further: both sides have said their end, or the peer has sent an alert, or what is no TLS."""
        if isinstance(error, _ZeroReturn):
            self.is_ended = True
        elif not self._code:  # asked again OpenSSL has another error, and no reason
            self._send_alert()
            self._code, self._text = TLS_FAULT, fault(error)

    # -- what goes

    def send(self, data: Any, flags: int = 0, /) -> int:
        if self._wait:
            self._push(flags)
        if self._taken:
            taken, self._taken = self._taken, 0
            return taken
        if len(data) > SEND_MOST:
            data = memoryview(data)[:SEND_MOST]
        self._has_tickets = False
        write, read = self._write, self._unsent.read
        try:
            size: int = write(data)
            out = read()
            if size < len(data):  # a record at a time, read at once: OpenSSL's memory stays as small as one
                parts, view = [out], memoryview(data)
                while size < len(data):
                    size += write(view[size:])
                    parts.append(read())
                out = b"".join(parts)
        except _TlsError as error:
            raise OSError(EPIPE, fault(error)) from None
        try:
            sent = self.raw.send(out, flags)
        except BlockingIOError:
            sent = 0
        if sent < len(out):
            self._wait, self._taken = memoryview(out)[sent:], size
            raise BlockingIOError
        return size

    def shutdown(self, how: int, /) -> None:
        """Says close_notify first. Raises BlockingIOError as `say_end` does."""
        try:
            if how != SHUT_RD:
                self.say_end()
            self.raw.shutdown(how)
        except BlockingIOError:
            raise
        except OSError:
            if not self.is_ended:  # else it has said all it had to say, and has gone
                raise

    def say_end(self) -> None:
        """close_notify, once. Raises BlockingIOError while there is no room for it: then it is to be called again."""
        if not self._said_end:
            if self._arrived.pending or self.inner.pending():  # `unwrap` would read on to the peer's and lose it
                self._held += self._decrypt(2 * READ_MOST, False)
            self._said_end = True
            try:  # noqa: SIM105  four calls less for each connection
                self.inner.shutdown()
            except _TlsError:  # it would read the peer's, as recv will do; or there is no TLS any more
                pass
            self._wait = bytes(self._wait) + self._unsent.read()
        self._push(_LAST_FLAGS)

    def close(self) -> None:
        if self._keeper is not None and self._is_open:  # before, to ask for its session is an error
            session = self.stream.session
            if session is not None and session.has_ticket:
                self._keeper.sessions[self._name] = session
        self.raw.close()

    def rest(self) -> None:
        """Nothing has come or gone for a while: what bulk has left here, up to READ_MOST, is given back."""
        self._read_size = READ_FIRST
        openssl.give_back(self._arrived)
        openssl.give_back(self._unsent)

    @property
    def may_have_more(self) -> bool:
        """Whether something was read of the socket that nobody has had, or the last read may have left something there."""
        return self._is_full or self.has_end or self.has_unread

    @property
    def has_end(self) -> bool:
        """Whether `recv` has an end or an error to tell, once all bytes are given: it may have been met behind them, and no
        event tells of what was read already."""
        return self.is_ended or self._code != 0

    @property
    def has_unread(self) -> bool:
        """Whether something was read of the socket that nobody has had: no event will tell of it."""
        return bool(self._held or self._arrived.pending or self.inner.pending())

    def _push(self, flags: int) -> None:
        """Send what waits. Raises BlockingIOError while it does."""
        while self._wait:
            sent = self.raw.send(self._wait, flags)
            self._wait = self._wait[sent:]
        self._wait = b""

    def _answer(self, has_come: bool) -> None:
        """`has_come`: there are bytes, which something may be said to."""
        if not (has_come and self._has_tickets):
            self._flush_answers()
        self._has_tickets = False

    def _flush_answers(self) -> None:
        """What OpenSSL says by itself: messages of a handshake, session tickets, answers to key updates."""
        if not self._unsent.pending:
            return
        self._wait = bytes(self._wait) + self._unsent.read()
        try:
            self._push(_FLAGS)
        except BlockingIOError:
            if len(self._wait) > ANSWERS_MOST + 2 * SEND_MOST:
                self._code, self._text = ENOBUFS, "asks, and does not read the answers"
        except OSError:  # the next read or write will meet it, or what came before it
            self._wait = b""

    def _send_alert(self) -> None:
        """As far as there is room: the connection is given up."""
        with suppress(OSError):
            self.raw.send(bytes(self._wait) + self._unsent.read(), _FLAGS)
