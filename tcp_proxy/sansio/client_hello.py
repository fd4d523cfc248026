"""What a TLS client says first: the name it asks for, its protocols, its versions (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301).

Pure. Bytes are fed as they come, cut anywhere; nothing of them is changed or kept for others. A ClientHello may take several
records and several segments: with a post-quantum key share it is larger than one segment, and the name may stand at its
end, for browsers shuffle the extensions.

    READING ──all of the message is there──> `feed` gives it, once
       │ no TLS, no ClientHello, or more than is allowed
       └──> NoClientHello

Passed over: extensions that are not known here, GREASE values (RFC 8701), and Encrypted ClientHello; with that the name here
is the public one.
"""

from tcp_proxy.sansio.frozen_dataclass import dataclass

MOST = 65536  # bytes of the message, its header included
HEADERS_MOST = 1024  # bytes of record headers: a message in crumbs is no client's, and costs time
RECORD_MOST = 16384  # RFC 8446, 5.1

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _VERSIONS = 0, 16, 43
_HOST_NAME = 0


class NoClientHello(ValueError):
    """What came is no ClientHello; the text says what is wrong with it, `is_tls` whether it began as one."""

    def __init__(self, text: str, is_tls: bool = True) -> None:
        super().__init__(text)
        self.is_tls = is_tls


@dataclass(frozen=True, slots=True)
class ClientHello:
    """`server_name`: in lower case, "" for none; `alpn`: the protocols, best first; `versions`: as in 0x0304, best first."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()


class ClientHelloReader:
    """Of one client. After `feed` has given the message, or has raised, it is not fed again."""

    __slots__ = ("_headers", "_message", "_record_left", "_seen", "_waiting")

    def __init__(self) -> None:
        self._waiting = b""  # the beginning of a record header
        self._record_left = 0  # bytes of the record that are still to come
        self._headers = 0
        self._message = bytearray()
        self._seen = 0  # bytes that `look` has fed

    def __repr__(self) -> str:
        return f"<ClientHelloReader {len(self._message)} bytes>"

    def look(self, first: bytes) -> ClientHello | None:
        """As `feed`, at all that has come so far."""
        new = first[self._seen :]
        self._seen = len(first)
        return self.feed(new)

    def feed(self, data: bytes) -> ClientHello | None:
        """The message, when these bytes complete it. Raises NoClientHello, as early as that is certain."""
        data = self._waiting + data
        self._waiting = b""
        position = 0
        while position < len(data):
            if not self._record_left:
                header = data[position : position + 5]
                self._begin_record(header)
                if len(header) < 5:
                    self._waiting = header
                    return None
                position += 5
            part = data[position : position + self._record_left]
            position += len(part)
            self._record_left -= len(part)
            self._message += part
            size = self._size()
            if size and len(self._message) >= size:
                return _parse(bytes(self._message[4:size]))
        return None

    def _begin_record(self, header: bytes) -> None:
        is_first = not self._message
        if header[0] != _HANDSHAKE or header[1:2] not in (b"", b"\3"):
            raise NoClientHello("it does not begin as TLS" if is_first else "the message is broken off", not is_first)
        if len(header) < 5:
            return
        self._record_left = int.from_bytes(header[3:], "big")
        self._headers += 5
        if not 0 < self._record_left <= RECORD_MOST:
            raise NoClientHello(f"a record of {self._record_left} bytes")
        if self._headers > HEADERS_MOST:
            raise NoClientHello("a ClientHello in too many records")

    def _size(self) -> int:
        """Of the whole message; 0: not known yet."""
        message = self._message
        if message and message[0] != _CLIENT_HELLO:
            raise NoClientHello(f"a handshake that begins with message type {message[0]}")
        if len(message) < 4:
            return 0
        size = 4 + int.from_bytes(message[1:4], "big")
        if size > MOST:
            raise NoClientHello(f"a ClientHello of {size} bytes")
        return size


class _Fields:
    """Reads a structure from its beginning on; one that is shorter than it says is no ClientHello."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise NoClientHello("a ClientHello that is shorter than it says")
        part = self._data[self._position : end]
        self._position = end
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Bytes behind their count, which has `size` bytes."""
        return self.take(self.number(size))


def _parse(body: bytes) -> ClientHello:
    fields = _Fields(body)
    version = fields.number(2)
    fields.take(32)
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    extensions = _extensions(fields.vector(2) if fields else b"")
    if fields:
        raise NoClientHello("a ClientHello with bytes behind it")
    return ClientHello(
        _server_name(extensions[_SERVER_NAME]) if _SERVER_NAME in extensions else "",
        _alpn(extensions[_ALPN]) if _ALPN in extensions else (),
        _versions(extensions[_VERSIONS]) if _VERSIONS in extensions else (version,),
    )


def _extensions(data: bytes) -> dict[int, bytes]:
    fields = _Fields(data)
    found: dict[int, bytes] = {}
    while fields:
        kind = fields.number(2)
        if kind in found:
            raise NoClientHello(f"extension {kind} twice")
        found[kind] = fields.vector(2)
    return found


def _server_name(data: bytes) -> str:
    names = _Fields(_whole(data, 2))
    while names:
        kind = names.number(1)
        name = names.vector(2)
        if kind == _HOST_NAME:
            if not name or any(byte <= 32 or byte >= 127 for byte in name):
                raise NoClientHello("a server name that is no name")
            return name.decode("ascii").lower().removesuffix(".")
    return ""


def _alpn(data: bytes) -> tuple[str, ...]:
    protocols = _Fields(_whole(data, 2))
    found = []
    while protocols:
        name = protocols.vector(1)
        if not name:
            raise NoClientHello("a protocol without a name")
        if not (len(name) == 2 and _is_grease(int.from_bytes(name, "big"))):
            found.append(name.decode("latin-1"))
    return tuple(found)


def _versions(data: bytes) -> tuple[int, ...]:
    versions = _Fields(_whole(data, 1))
    found = []
    while versions:
        version = versions.number(2)
        if not _is_grease(version):
            found.append(version)
    return tuple(found)


def _whole(data: bytes, size: int) -> bytes:
    """An extension that is one vector and nothing else."""
    fields = _Fields(data)
    vector = fields.vector(size)
    if fields:
        raise NoClientHello("an extension with bytes behind it")
    return vector


def _is_grease(value: int) -> bool:
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF
