"""Dialogues with Redis: does it live, does it take writes, is its cluster whole, is it a Sentinel?

Pure. Nothing is stored: SETRANGE with an empty value is a write to Redis, which refuses it where it refuses others (replica,
full memory, failed save, too few replicas), and changes no key and makes none.
"""

import re

from tcp_proxy.sansio.dialogue import Dialogue, Inbox, Refused, Reply, Taken
from tcp_proxy.sansio.escapes import escaped

_NO_WRITE = b'SETRANGE tcp_proxy:health 0 ""\r\n'
_TAKES_WRITES = (b":", b"-WRONGTYPE", b"-MOVED")  # the last: the key is another primary's, of a cluster


def redis(_user: str) -> Dialogue:
    line = yield from Inbox().line(b"PING\r\n")
    text = f"answered {escaped(line.rstrip())}"
    if line.startswith((b"+PONG", b"-NOAUTH", b"-NOPERM")):
        return Reply(text)
    raise Refused(text)


def redis_primary(_user: str) -> Dialogue:
    inbox = Inbox()
    info = yield from _bulk(inbox, b"INFO replication\r\n")
    role = _value(info, b"role")
    if role != "master":
        raise Refused(f"answered role:{role}, wanted role:master")
    line = yield from inbox.line(_NO_WRITE)
    if line.startswith(_TAKES_WRITES):
        return Reply("answered role:master, and takes writes")
    raise Refused(f"answered role:master, but to a write {escaped(line.rstrip())}")


def redis_cluster(_user: str) -> Dialogue:
    info = yield from _bulk(Inbox(), b"CLUSTER INFO\r\n")
    state = _value(info, b"cluster_state")
    if state != "ok":
        raise Refused(f"answered cluster_state:{state}, wanted cluster_state:ok")
    return Reply("answered cluster_state:ok")


def redis_sentinel(_user: str) -> Dialogue:
    info = yield from _bulk(Inbox(), b"INFO sentinel\r\n")
    count = _value(info, b"sentinel_masters")
    if not count:
        raise Refused("answered, but is no Sentinel")
    if _value(info, b"sentinel_tilt") == "1":
        raise Refused("answered sentinel_tilt:1: it does not trust its clock")
    return Reply(f"answered sentinel_masters:{count}")


def _bulk(inbox: Inbox, saying: bytes) -> Taken:
    """The text that a command is answered with."""
    line = yield from inbox.line(saying)
    if not re.fullmatch(rb"\$\d{1,6}\r\n", line):
        raise Refused(f"answered {escaped(line.rstrip())}")
    size = int(line[1:]) + 2
    return (yield from inbox.take(lambda _data: size))


def _value(info: bytes, name: bytes) -> str:
    found = re.search(rb"(?m)^%b:([!-~]*)\r?$" % name, info)
    return found[1].decode() if found else ""
