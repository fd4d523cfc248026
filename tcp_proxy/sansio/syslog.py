"""Syslog messages (RFC 5424), and how a configuration names who gets them. Pure.

    syslog+udp://192.0.2.9:514      one datagram for each (RFC 5426)
    syslog+tcp://[2001:db8::9]:601  one after another, each behind its length (RFC 6587, 3.4.1)
    syslog+unix:///dev/log          a datagram each, on this machine
    …?facility=local3&tag=web       what is said of us, if not local0 and tcp_proxy
"""

import re
from ipaddress import ip_address
from typing import NamedTuple

from tcp_proxy.sansio.address import Address, parse_target

PREFIX = "syslog+"
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit",
    "alert", "clock", *(f"local{number}" for number in range(8)),
)  # fmt: skip
ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7  # severities
LONGEST = 8096  # bytes of a message: rsyslog's maxMessageSize by default; it makes two of a longer one
TAG = re.compile(r"[!-~]{1,48}")
WHOLE = re.compile(r"syslog\+(udp|tcp|unix)://([^?]*)(?:\?(.*))?")
WANTED = 'wanted "syslog+udp://ADDRESS:PORT", "syslog+tcp://ADDRESS:PORT" or "syslog+unix:///PATH"'


class Receiver(NamedTuple):
    transport: str  # udp, tcp, unix
    address: Address
    facility: str = "local0"
    tag: str = "tcp_proxy"


def is_syslog(text: str) -> bool:
    """Whether a place for lines is meant to be no file."""
    return text.startswith(PREFIX)


def parse(text: str) -> Receiver:
    """Raises ValueError with a clause for the user."""
    found = WHOLE.fullmatch(text)
    if found is None:
        raise ValueError(WANTED)
    transport, where, more = found.groups()
    try:
        address = parse_target(f"unix:{where}" if transport == "unix" else where)
    except ValueError as error:
        raise ValueError(f"{error}; {WANTED}") from None
    if bool(address.path) != (transport == "unix"):
        raise ValueError(WANTED)
    if address.host and not _is_ip(address.host):
        raise ValueError(f'"{address.host}" is a name, which nobody looks up for a log; wanted an IP address')
    said: dict[str, str] = {}
    for part in more.split("&") if more else ():
        key, _, value = part.partition("=")
        said[key] = value
    if said.keys() - {"facility", "tag"}:
        raise ValueError('wanted "facility" or "tag" behind "?"')
    if said.get("facility", "local0") not in FACILITIES:
        raise ValueError(f'there is no facility "{said["facility"]}"; wanted one of {", ".join(FACILITIES)}')
    if not TAG.fullmatch(said.get("tag", "x")):
        raise ValueError("wanted a tag of 1 to 48 characters of ASCII, without space")
    return Receiver(transport, address, **said)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def header(receiver: Receiver, host: str, process: int, when: str, severity: int = INFO) -> bytes:
    """What is before each message of a moment; `when` is UTC, as RFC 3339 writes it."""
    priority = FACILITIES.index(receiver.facility) * 8 + severity
    name = host[:255] if host and host.isascii() and host.isprintable() and " " not in host else "-"
    return f"<{priority}>1 {when} {name} {receiver.tag} {process} - - ".encode()


def message(head: bytes, line: bytes) -> bytes:
    """Of a line without its end; one that is too long is cut off, not within a character."""
    whole = head + line
    return whole if len(whole) <= LONGEST else whole[:LONGEST].decode("utf-8", "ignore").encode()


def counted(whole: bytes) -> bytes:
    """A message in a stream."""
    return b"%d %s" % (len(whole), whole)
