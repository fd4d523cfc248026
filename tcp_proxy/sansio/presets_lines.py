"""Dialogues with servers whose protocol is lines of text, or begins with one.

Pure. Each ends as its server wants it, so that a check is no line in its log where that can be had.
"""

from tcp_proxy.sansio.dialogue import Dialogue, Inbox, Refused, Reply, Taken, http
from tcp_proxy.sansio.escapes import escaped

# -- SMTP (RFC 5321)


def smtp(_user: str) -> Dialogue:
    """Postfix' postscreen says 220- at once and 220 after six seconds; who speaks in between is turned away."""
    inbox = Inbox()
    greeting = yield from _smtp_reply(inbox, b"")
    _wanted(greeting, b"220")
    answer = yield from _smtp_reply(inbox, b"EHLO tcp-proxy\r\n")
    if answer[:1] == b"5":  # from before 1995
        answer = yield from _smtp_reply(inbox, b"HELO tcp-proxy\r\n")
    _wanted(answer, b"250")
    return Reply(f"answered {escaped(greeting.rstrip())}", b"QUIT\r\n")


def _smtp_reply(inbox: Inbox, saying: bytes) -> Taken:
    """The last line of a reply: those before it have a hyphen after the code."""
    line = yield from inbox.line(saying)
    while line[3:4] == b"-" and line[:3].isdigit():
        line = yield from inbox.line()
    return line


def _wanted(line: bytes, code: bytes) -> None:
    if line[:3] != code:
        raise Refused(f"answered {escaped(line.rstrip())}, wanted {code.decode()}")


# -- servers that speak first


def ssh(_user: str) -> Dialogue:
    """RFC 4253, 4.2: other lines may come before the server's. OpenSSH that takes no more says so in place of it."""
    inbox = Inbox()
    line = yield from inbox.line()
    while not line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
        if line.startswith((b"Exceeded", b"Not allowed")):  # MaxStartups, PerSourcePenalties
            raise Refused(f"answered {escaped(line.rstrip())}")
        line = yield from inbox.line()
    return Reply(f"answered {escaped(line.rstrip())}", b"SSH-2.0-tcp_proxy\r\n")


def imap(_user: str) -> Dialogue:
    return _greeting((b"* OK", b"* PREAUTH"), b"x LOGOUT\r\n")


def nats(_user: str) -> Dialogue:
    line = yield from Inbox().line()
    if not line.startswith(b"INFO {"):
        raise Refused(f"answered {escaped(line.rstrip())}")
    if b'"ldm":true' in line.replace(b" ", b""):
        raise Refused("answered that it is about to end (lame duck mode)")
    return Reply("answered INFO")


def _greeting(healthy: tuple[bytes, ...], farewell: bytes) -> Dialogue:
    line = yield from Inbox().line()
    text = f"answered {escaped(line.rstrip())}"
    if line.startswith(healthy):
        return Reply(text, farewell)
    raise Refused(text)


# -- servers that answer


def memcached(_user: str) -> Dialogue:
    return _question(b"version\r\n", (b"VERSION ", b"CLIENT_ERROR unauthenticated"), b"quit\r\n")


def gearman(_user: str) -> Dialogue:
    return _question(b"version\n", (b"OK ", *(b"%d." % number for number in range(10))), b"")


def _question(question: bytes, healthy: tuple[bytes, ...], farewell: bytes) -> Dialogue:
    line = yield from Inbox().line(question)
    text = f"answered {escaped(line.rstrip())}"
    if line.startswith(healthy):
        return Reply(text, farewell)
    raise Refused(text)


def clamav(_user: str) -> Dialogue:
    answer = yield from Inbox().take(lambda data: data.find(b"\0") + 1, b"zPING\0")
    if answer != b"PONG\0":
        raise Refused(f"answered {escaped(answer)}")
    return Reply('answered "PONG"')


def beanstalkd(_user: str) -> Dialogue:
    inbox = Inbox()
    line = yield from inbox.line(b"stats\r\n")
    kind, _, size = line.rstrip().partition(b" ")
    if kind != b"OK" or not size.isdigit() or len(size) > 6:
        raise Refused(f"answered {escaped(line.rstrip())}")
    stats = yield from inbox.take(lambda _data: int(size) + 2)
    if b"\ndraining: true" in stats:
        raise Refused("answered that it is draining")
    return Reply("answered", b"quit\r\n")


def zookeeper(_user: str) -> Dialogue:
    """One that has no quorum, or may not answer `srvr` (4lw.commands.whitelist), says so in place of its version."""
    inbox = Inbox()
    line = yield from inbox.line(b"srvr")
    if not line.startswith(b"Zookeeper version: "):
        raise Refused(f"answered {escaped(line.rstrip())}")
    while not line.startswith(b"Mode: "):
        line = yield from inbox.line()
    return Reply(f"answered {escaped(line.rstrip())}")


def etcd(_user: str) -> Dialogue:
    """503: it has no leader, or an alarm (NOSPACE) is on."""
    return http(b"GET /health HTTP/1.1\r\nHost: etcd\r\nUser-Agent: tcp_proxy\r\nConnection: close\r\n\r\n", ("200",))
