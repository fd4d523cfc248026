"""Addresses as people write them: "host:port", "[v6]:port", "unix:/path"; listeners; port ranges.

Values in, values out; every function that can refuse raises ValueError with a sentence for the user. IP literals are
kept in their shortest spelling, and an IPv4 address written as IPv6 (::ffff:192.0.2.1) as the IPv4 address it is, so
that equal addresses are equal values.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from tcp_proxy.sansio.frozen_dataclass import dataclass

ANY = "*"  # both IPv4 and IPv6, in one dual-stack socket
MAX_RANGE = 10_000  # ports in one range; each is a descriptor in every process
MAX_PORT = 65535
MAX_NAME = 253  # characters of a host name (RFC 1035)
MAX_LABEL = 63  # of one between two dots
MAX_UNIX_PATH = 107  # bytes; sun_path has 108 and the kernel wants a zero at the end

LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
# A name cannot end in one of these: resolvers take it for an odd spelling of an IPv4 address.
NUMERIC_LABEL = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
IN_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
WITHOUT_ADDRESS = {"invalid": "RFC 6761", "onion": "RFC 7686"}
SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^/?#]*)")
DIGITS = re.compile(r"[0-9]{1,5}")
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
# There may be 20,000: an eighth of the time of ip_address, and of all that else is looked at.
IPV4 = re.compile(rf"{OCTET}(?:\.{OCTET}){{3}}")
IPV4_PORT = re.compile(rf"({OCTET}(?:\.{OCTET}){{3}}):([1-9][0-9]{{0,4}})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is. Exactly one of (host, port) and path is set; the port 0 stands for that of the listener."""

    host: str = ""  # a name or an IP literal, without brackets
    port: int = 0
    path: str = ""  # of a UNIX socket

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where an app listens. host is an IP literal, or "*" for one dual-stack socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# -- targets


def parse_target_or_host(text: str) -> Address:
    """The same, or "host", "[v6]": a server for each listening port, with the same port."""
    if (usual := IPV4_PORT.fullmatch(text)) and (port := int(usual[2])) <= MAX_PORT:
        return Address(usual[1], port)
    if text.startswith("[") and text.endswith("]"):
        return Address(_bracketed(f"{text}:1").host)
    if not text or ":" in text or " " in text or not text.isprintable() or len(text) > MAX_NAME:
        return parse_target(text)
    return Address(_host(text))


def parse_target(text: str) -> Address:
    """Where a target is, from "host:port", "[v6]:port" or "unix:/path"."""
    if not text:
        raise ValueError('an empty address; wanted "host:port"')
    if text[:5].lower() == "unix:":
        return Address(path=_unix_path(text[5:]))
    _refuse_space(text)
    if len(text) > MAX_NAME + len("[]:65535"):
        raise ValueError(f"an address of {len(text)} characters; a host name has at most {MAX_NAME}")
    url = SCHEME.match(text)
    if url is not None:
        wanted = url["rest"] or "host:80"
        raise ValueError(f'a URL ("{url["scheme"]}://"); wanted "host:port" alone, such as "{wanted}"')
    if text.startswith("["):
        return _bracketed(text)
    host, colon, port = text.rpartition(":")
    if ":" in host and _ip(text) is not None:
        raise ValueError(_brackets_wanted(text, host, port))
    if not colon:
        raise ValueError(f'no port; wanted "host:port", such as "{text}:80"')
    if not host:
        raise ValueError(f'no host before ":{port}"; wanted "host:port"')
    if ":" in host:
        if _ip(host) is not None:
            raise ValueError(f'an IPv6 address needs brackets: "[{host}]:{port or 80}"')
        raise ValueError('more than one colon; wanted "host:port", or "[address]:port" for IPv6')
    return Address(_host(host), parse_port(port))


def _unix_path(path: str) -> str:
    if not path.isprintable():
        raise ValueError("a control character in a path")
    size = len(path.encode())
    if size > MAX_UNIX_PATH:
        raise ValueError(f"the path of a UNIX socket has at most {MAX_UNIX_PATH} bytes; this one has {size}")
    if not path.startswith("/") or path.startswith("//"):
        wanted = "/" + path.lstrip("/")
        raise ValueError(f'a UNIX socket is written with its absolute path, such as "unix:{wanted}"')
    return path


def _bracketed(text: str) -> Address:
    inside, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise ValueError('"[" without "]"; wanted "[address]:port"')
    address = _ip(inside)
    if address is None or ":" not in inside:
        raise ValueError(f'"{inside}" in brackets is not an IPv6 address')
    if not rest:
        raise ValueError(f'no port; wanted "[address]:port", such as "{text}:80"')
    if not rest.startswith(":"):
        raise ValueError('wanted ":" and a port after "]"')
    return Address(address, parse_port(rest[1:]))


def _brackets_wanted(text: str, host: str, port: str) -> str:
    """What to write for ::1:80, which may be meant with a port or without: both, for nobody can know."""
    if _ip(host) is not None and DIGITS.fullmatch(port):
        return f'an IPv6 address needs brackets: "[{host}]:{port}", or "[{text}]:port" if that is all of it'
    return f'an IPv6 address needs brackets and a port: "[{text}]:80"'


def _host(host: str) -> str:
    address = _ip(host)
    if address is not None:
        return address
    if not host.isascii():
        raise ValueError(f'"{host}" has letters that names in the DNS do not have; write its ASCII form (xn--...)')
    fault = name_fault(host)
    if fault:
        raise ValueError(f'"{host}" is {fault}')
    return host


def name_fault(host: str) -> str:
    """Why no name in the DNS can be this, with "is" before it; "" if one can."""
    name = host.removesuffix(".")
    labels = name.split(".")
    if NUMERIC_LABEL.fullmatch(labels[-1]):
        return "not an IPv4 address (four numbers from 0 to 255, without leading zeros)"
    if len(name) > MAX_NAME:
        return f"not a host name: it has {len(name)} characters, at most {MAX_NAME} are possible"
    return next((f"not a host name: {fault}" for fault in map(_label_fault, labels) if fault), "")


def _label_fault(label: str) -> str:
    if LABEL.fullmatch(label):
        return ""
    if not label:
        return "nothing stands before a dot"
    wrong = IN_NO_NAME.search(label)
    if wrong is not None:
        return f'"{wrong[0]}" can be in no name'
    if len(label) > MAX_LABEL:
        return f"a part of it has {len(label)} characters, at most {MAX_LABEL} are possible"
    return f'"{label}" begins or ends with a hyphen'


def place_fault(host: str) -> str:
    """Why nobody can ever connect to this host of a target; "" if somebody may."""
    ending = host.removesuffix(".").rpartition(".")[2].lower()
    if ending in WITHOUT_ADDRESS:
        return f"a name that ends in .{ending} never has an address ({WITHOUT_ADDRESS[ending]})"
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if address.is_multicast or host == "255.255.255.255":
        return "this is a multicast or broadcast address: nobody can connect to it"
    if isinstance(address, IPv6Address) and address.is_link_local and not address.scope_id:
        return f'a link-local address needs its interface, as in "[{host}%eth0]"'
    return ""


def host_field(host: str, port: int, usual: int) -> str:
    """What a request for it says in Host: the name as it is written, the port only where it is not the `usual` one of the
    scheme, never the interface of a link-local address, which means something on this machine alone. "": a UNIX socket."""
    if not host:
        return "localhost"
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    return shown if port == usual else f"{shown}:{port}"


def server_name(host: str) -> str:
    """What TLS asks for, of a header Host; "" if that cannot be a name. Without the dot at the end (RFC 6066, 3)."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].removesuffix(".")
    try:
        name.encode("idna")
    except UnicodeError:
        return ""
    return "" if name.endswith(".") else name


# -- ports and listeners


def parse_port(text: str) -> int:
    """A port of a target, as text."""
    if not text:
        raise ValueError("no port after the colon; wanted a number from 1 to 65535")
    if not DIGITS.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError(f'"{text}" is not a port; wanted a number from 1 to 65535')
    return int(text)


def parse_ports(entry: int | str) -> range:
    """The ports of one entry of `ports`: 5001, or "8000-8009"."""
    if isinstance(entry, int):
        if not 1 <= entry <= 65535:
            raise ValueError(f"{entry} is not a port; wanted a number from 1 to 65535")
        return range(entry, entry + 1)
    parts = [part.strip() for part in entry.split("-")]
    if len(parts) == 1 and DIGITS.fullmatch(parts[0]):
        raise ValueError(f"a single port is written without quotes: {int(parts[0])}")
    if len(parts) != 2 or not all(DIGITS.fullmatch(part) for part in parts):
        raise ValueError('wanted a range such as "8000-8009", or a number')
    first, last = (parse_port(part) for part in parts)
    if first > last:
        raise ValueError(f'the range runs backwards; wanted "{last}-{first}"')
    if last - first >= MAX_RANGE:
        raise ValueError(f"a range of {last - first + 1} ports; one range has at most {MAX_RANGE}")
    return range(first, last + 1)


def parse_listen_host(text: str) -> str:
    """An address to listen on: an IP literal in its shortest spelling, or "*"."""
    if text == ANY:
        return ANY
    _refuse_space(text)
    address = _ip(text)
    if address is not None:
        return address
    wanted = 'wanted an IPv4 or IPv6 address, or "*" for all'
    if text.lower() == "localhost":
        raise ValueError('a name; wanted an address: "127.0.0.1" or "::1"')
    inside = text.removeprefix("[").partition("]")
    if text.startswith("[") and _ip(inside[0]) is not None:
        port = "; the port belongs in ports" if inside[2] else ""
        raise ValueError(f'wanted the address without brackets: "{inside[0]}"{port}')
    host, colon, _ = text.rpartition(":")
    if colon and (host == ANY or _ip(host) is not None):
        raise ValueError(f'the port belongs in ports; wanted "{host}"')
    raise ValueError(f"not an IP address; {wanted}")


def parse_listen(text: str) -> Address:
    """Where to listen, from "address:port", "[v6]:port", "*:port" or "unix:/path": no names, which may change."""
    if text[:5].lower() == "unix:":
        return Address(path=_unix_path(text[5:]))
    _refuse_space(text)
    if text.startswith("["):
        return _bracketed(text)
    host, colon, port = text.rpartition(":")
    if not colon or _ip(text) is not None:
        raise ValueError('wanted "address:port", such as "127.0.0.1:8687" or "[::1]:8687"')
    return Address(parse_listen_host(host), parse_port(port))


def hosts_overlap(one: str, other: str) -> bool:
    """Whether two listeners on one port would meet. An IPv6 socket takes no IPv4, so "::" and "0.0.0.0" do not."""
    if one == other or ANY in (one, other):
        return True
    if (":" in one) != (":" in other):
        return False
    return bool({one, other} & {"::", "0.0.0.0"})  # noqa: S104  compared, not bound


def leads_to(host: str, port: int, listener: ListenAddress) -> bool:
    """Whether a connection to this address certainly comes to that listener. Nobody knows of names, nor, where it listens
    on all addresses, which ones of this machine there are beside the loopback ones."""
    if port != listener.port:
        return False
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  where such a connect goes
    if host == listener.host:
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    everywhere = (ANY, "0.0.0.0" if address.version == 4 else "::")  # noqa: S104  compared, not bound
    return address.is_loopback and listener.host in everywhere


def _refuse_space(text: str) -> None:
    if " " in text or not text.isprintable():
        raise ValueError("white space or a control character in an address")


def _ip(text: str) -> str | None:
    """An IP literal in its shortest spelling; None for anything else."""
    if IPV4.fullmatch(text):
        return text
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


class Restored(NamedTuple):
    """A client's address where a header says it: it takes the place of a sockaddr, and is read as one."""

    ip: str
    port: int
    peer: tuple[Any, ...]  # whom the connection is with
    destination: tuple[str, int]  # where the client has connected to
    tlvs: tuple[tuple[int, bytes], ...] = ()  # what else is said of it, and may be passed on
    notes: str = ""  # what else is said of it, and is for people (proxyproto.notes)


def ip_of(address: tuple[Any, ...]) -> str:
    """The IP of a sockaddr; an IPv4 one that came through a dual-stack socket is shown and keyed as IPv4."""
    ip: str = address[0]
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip


def client_text(address: tuple[Any, ...]) -> str:
    """127.0.0.1:80, [::1]:80"""
    ip = ip_of(address)
    return f"[{ip}]:{address[1]}" if ":" in ip else f"{ip}:{address[1]}"


def peer_text(address: tuple[Any, ...]) -> str:
    """Whom the connection is with, where that is not the client itself; else ""."""
    return client_text(address.peer) if isinstance(address, Restored) else ""


class Noted(tuple[Any, ...]):
    """A sockaddr of which something is to be said in the record."""

    notes = ""


def noted(address: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    """The same address, with a note more."""
    if isinstance(address, Restored):
        return address._replace(notes=f"{address.notes} {text}".lstrip())
    found = Noted(address)
    found.notes = text
    return found


def notes_of(address: tuple[Any, ...]) -> str:
    """What else is to be said of it, for people: what the PROXY header has said, or a fault on purpose; else ""."""
    return address.notes if isinstance(address, Restored | Noted) else ""
