"""Dialogues with servers that many people have: is it there, and would it take work?

Pure. Each is as light as the server allows and leaves nothing behind: no login that succeeds is used for anything, and none
is broken off in a way that the server would hold against this machine (MySQL blocks hosts for that).
A server that knows no such user, or wants a password, is healthy: it has answered. PRESETS is all of them, by name;
they are called with the name of the user to ask for. Those of databases with logins are here, the others by the kind of
their protocol in presets_lines, presets_packets and presets_redis.
"""

from collections.abc import Callable, Generator

from tcp_proxy.sansio import presets_lines, presets_packets, presets_redis
from tcp_proxy.sansio.dialogue import Dialogue, Inbox, Refused, Reply, Silence
from tcp_proxy.sansio.escapes import escaped

# -- PostgreSQL, protocol 3

# Classes of SQLSTATE: a pooler without its server, shut down or starting, out of resources, broken
_PG_CANNOT = (b"08", b"57P", b"53", b"58", b"XX")
# Routines that refuse with one of these what has a limit of its own: the role, or the database postgres.
_PG_OWN_LIMIT = (b"InitializeSessionUserId", b"CheckMyDatabase")
_PG_TERMINATE = b"X\x00\x00\x00\x04"


def postgres(user: str) -> Dialogue:
    """A start-up message. The request for a password, or an error about the user, comes from a backend that works."""
    name = user.encode() or b"postgres"
    startup = b"\x00\x03\x00\x00user\x00" + name + b"\x00database\x00postgres\x00application_name\x00tcp_proxy\x00\x00"
    inbox = Inbox()
    saying = (len(startup) + 4).to_bytes(4, "big") + startup
    message = yield from inbox.take(_pg_length, saying)
    if message[:1] == b"R" and message[5:9] != bytes(4):
        return Reply("answered with a request to log in", _PG_TERMINATE)
    try:
        while message[:1] in b"RSKN":  # logged in without a password: at the end it is ready for queries, or out of slots
            message = yield from inbox.take(_pg_length)
    except (Silence, Refused):  # that it has let us in is enough
        return Reply("answered, logged in")
    if message[:1] == b"Z":
        return Reply("answered, ready for queries", _PG_TERMINATE)
    if message[:1] != b"E":
        raise Refused(f"answered {escaped(message)}, which is not PostgreSQL's protocol")
    fields = {field[:1]: field[1:] for field in message[5:].split(b"\0")}
    code = fields.get(b"C", b"")
    text = f"answered {escaped(fields.get(b'M', b''))} ({code.decode('ascii', 'replace') or 'without an SQLSTATE'})"
    is_own_limit = code == b"53300" and fields.get(b"R") in _PG_OWN_LIMIT
    if not code or (code.startswith(_PG_CANNOT) and not is_own_limit):  # every error of PostgreSQL's own has one
        raise Refused(text)
    return Reply(text)


def _pg_length(data: bytearray) -> int:
    """Of the message that begins here, with its type; what cannot be one is all there is."""
    if data and data[:1] not in b"RSKNZE":
        return len(data)
    return 1 + int.from_bytes(data[1:5], "big") if len(data) >= 5 else 0


# -- MySQL and MariaDB, protocol 10

_CAPABILITIES = 0x1 | 0x200 | 0x8000 | 0x80000  # long password, protocol 4.1, secure connection, plugins
_MY_LOGIN = _CAPABILITIES.to_bytes(4, "little") + b"\x00\x00\x00\x01" + b"\x21" + bytes(23)
_MY_SWITCH, _MY_MORE, _MY_ERROR = 0xFE, 0x01, 0xFF
# Who may log in, and how, and how often: a server that works says that. Of MySQL 8 and MariaDB: our own logins without a
# password may be what has the user blocked (3955, 4150), or over its limit (1226).
_MY_ANSWERED = {1045, 1203, 1226, 1251, 1524, 1698, 1862, 3118, 3159, 3955, 4150, 4151}


def mysql(user: str) -> Dialogue:
    """A whole login without a password: one that is broken off counts against this machine (max_connect_errors)."""
    inbox = Inbox()
    _, greeting = yield from _my_packet(inbox)
    if greeting[:1] != b"\x0a":
        raise Refused(_my_error(greeting)[1])
    version = greeting[1:].split(b"\0")[0].removeprefix(b"5.5.5-")  # MariaDB's, for old clients
    login = _MY_LOGIN + (user.encode() or b"tcp_proxy") + b"\0\0mysql_native_password\0"
    number, packet = yield from _my_packet(inbox, len(login).to_bytes(3, "little") + b"\x01" + login)
    if packet[:1] == bytes([_MY_SWITCH]):
        empty = b"\0\0\0" + bytes([number + 1 & 0xFF])
        _, packet = yield from _my_packet(inbox, empty)
    text = f"answered as version {escaped(version)}"
    if packet[:1] in (b"\0", bytes([_MY_MORE])):
        return Reply(text, b"\x01\0\0\0\x01" if packet[:1] == b"\0" else b"")
    code, error = _my_error(packet)
    if code in _MY_ANSWERED:
        return Reply(text)
    raise Refused(error)


def _my_packet(inbox: Inbox, saying: bytes = b"") -> Generator[bytes, bytes, tuple[int, bytes]]:
    """Its number in the conversation, and what is in it."""
    packet = yield from inbox.take(lambda data: 4 + int.from_bytes(data[:3], "little") if len(data) >= 4 else 0, saying)
    return packet[3], packet[4:]


def _my_error(packet: bytes) -> tuple[int, str]:
    """Its number and its words."""
    if packet[:1] != bytes([_MY_ERROR]):
        return 0, f"answered {escaped(packet)}, which is not MySQL's protocol"
    code = int.from_bytes(packet[1:3], "little")
    words = packet[9:] if packet[3:4] == b"#" else packet[3:]
    return code, f"answered {escaped(words)} (error {code})"


PRESETS: dict[str, Callable[[str], Dialogue]] = {
    "beanstalkd": presets_lines.beanstalkd,
    "clamav": presets_lines.clamav,
    "dns": presets_packets.dns,
    "etcd": presets_lines.etcd,
    "gearman": presets_lines.gearman,
    "imap": presets_lines.imap,
    "ldap": presets_packets.ldap,
    "memcached": presets_lines.memcached,
    "mqtt": presets_packets.mqtt,
    "mysql": mysql,
    "nats": presets_lines.nats,
    "postgres": postgres,
    "redis": presets_redis.redis,
    "redis-cluster": presets_redis.redis_cluster,
    "redis-primary": presets_redis.redis_primary,
    "redis-sentinel": presets_redis.redis_sentinel,
    "smtp": presets_lines.smtp,
    "ssh": presets_lines.ssh,
    "zookeeper": presets_lines.zookeeper,
}
NAMED_USERS = frozenset({"mysql", "postgres"})  # those that ask for a user
OWN_TLS = frozenset({"mysql", "nats", "postgres", "ssh"})  # of protocols that begin TLS in their own way, or have their own
TIMEOUTS = {"smtp": 10.0}  # seconds, of those that may be slow and well: postscreen greets for six
