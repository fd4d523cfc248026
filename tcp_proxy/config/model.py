"""The configuration as checked, frozen values: no behaviour but questions.

Both wings import this file, so it imports nothing but dataclasses and sansio. `config.load` makes these values from a
file; nothing else does. Durations are seconds, as in the file; sizes are bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tcp_proxy.sansio.address import Address, ListenAddress


@dataclass(frozen=True, slots=True)
class Log:
    level: str = "info"  # debug, info, warning, error
    format: str = "text"  # text, json; the access log's format too


@dataclass(frozen=True, slots=True)
class Timeouts:
    connect: float = 5.0  # one attempt; the dial phase ends after twice this
    idle: float = 3600.0  # no byte in either direction
    half_closed: float = 60.0  # no byte after one side sent FIN; also the longest wait for an acknowledgement
    keepalive: float = 60.0  # TCP_KEEPIDLE
    unacked: float = 30.0  # TCP_USER_TIMEOUT
    # Of mode http only:
    request: float = 10.0  # the whole head of a request, from its first byte on
    response: float = 60.0  # no byte in any direction while a request is answered
    next_request: float = 60.0  # a client that has been answered, until it asks again
    first_bytes: float = 3.0  # for the first message of a client, where a choice depends on it


@dataclass(frozen=True, slots=True)
class Sticky:
    """A client's key and how long it stays with a target."""

    key: str = "source_ip"  # source_ip, source_ip+first_bytes
    slice: tuple[int, int] = (0, 0)  # [start, end) of the first message
    expires: float = 600.0  # after the last session of the key has ended
    size: int = 100_000  # entries
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64


@dataclass(frozen=True, slots=True)
class Check:
    type: str = "tcp"  # tcp, ping, http, exchange, script
    interval: float = 30.0
    timeout: float = 2.0
    rise: int = 1
    fall: int = 1
    fall_action: str = "down"  # down, drain, ignore
    port: int | None = None  # None: the target's own
    tls: bool = False  # http, exchange
    method: str = "GET"  # http, as are the next four
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    status: tuple[str, ...] = ("200",)  # any of these; "2xx" is a class
    preset: str | None = None  # exchange, as are the rest; a preset takes the place of send and expect
    user: str | None = None  # whom a preset asks for
    send: str = ""  # with escapes
    expect: str = ""  # with escapes
    expect_regex: str = ""  # instead of expect
    command: tuple[str, ...] = ()  # script: an executable and its arguments


KINDS = {  # which types of checks a key is for; those that are not here are for all
    "port": ("tcp", "http", "exchange", "script"),
    "tls": ("http", "exchange"),
    **dict.fromkeys(("method", "path", "headers", "body", "status"), ("http",)),
    **dict.fromkeys(("preset", "user", "send", "expect", "expect_regex"), ("exchange",)),
    "command": ("script",),
}


@dataclass(frozen=True, slots=True)
class Target:
    name: str  # unique in its app; the address as written, unless given
    address: Address  # with the port 0: a group of servers, each on the port of the listener
    weight: int = 1  # 0 to 256; 0 takes no new sessions
    backup: bool = False
    max_connections: int = 0  # 0: no limit
    drain: bool = False
    disabled: bool = False
    health: tuple[Check, ...] | None = None  # None: its app's
    ports: tuple[tuple[int, Address], ...] = ()  # a group: listening port -> server; then `address` is empty

    @property
    def is_group(self) -> bool:
        """One server for each listening port, and one state for all of them."""
        return bool(self.ports) or not (self.address.port or self.address.path)

    @property
    def servers(self) -> tuple[Address, ...]:
        """All addresses; those with the port 0 are on the ports of the listeners."""
        return tuple(dict.fromkeys(address for _, address in self.ports)) or (self.address,)

    @property
    def hosts(self) -> set[str]:
        return {address.host for address in self.servers if address.host}

    @property
    def where(self) -> str:
        """The address as text."""
        return ", ".join(f"{port}: {address}" for port, address in self.ports) or str(self.address)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may have."""

    request_line: int = 8192  # bytes
    head: int = 65536  # bytes
    fields: int = 200
    body: int = 0  # bytes; 0: no limit


@dataclass(frozen=True, slots=True)
class Route:
    host: str  # a name, "*.name", or "" for all
    path: str  # the beginning of it, by whole segments; "" for all
    targets: tuple[str, ...]  # names


@dataclass(frozen=True, slots=True)
class Http:
    """What an app in mode http has beside the rest."""

    upstream_connections: int = 100  # idle ones to a target that a worker keeps at most
    upstream_idle: float = 60.0
    preserve_host: bool = True
    forwarded: bool = False  # send Forwarded (RFC 7239) beside X-Forwarded-*
    allow_connect: bool = False
    trusted_proxies: tuple[str, ...] = ()  # networks
    upgrades: tuple[str, ...] = ("websocket",)
    limits: Limits = field(default_factory=Limits)
    routes: tuple[Route, ...] = ()  # (): every request may go to every target


@dataclass(frozen=True, slots=True)
class Failover:
    check: str | None = None  # path of an executable; None: whoever accepts a connection can be primary
    triggers: tuple[str, ...] = ()  # paths of executables and of folders of them
    script_timeout: float = 30.0
    max_backoff: float = 60.0
    while_electing: str = "hold"  # hold, refuse
    election_wait: float = 30.0  # for a client
    on_demotion: str = "keep"  # keep, close
    failback: bool = False
    failback_after: float = 60.0


@dataclass(frozen=True, slots=True)
class App:
    name: str
    listeners: tuple[ListenAddress, ...]
    targets: tuple[Target, ...]
    balance: str = "round_robin"
    health: tuple[Check, ...] = (Check(),)
    failover: Failover = field(default_factory=Failover)  # of balance "failover"
    on_down: str = "keep"  # keep, close
    retries: int = 3
    timeouts: Timeouts = field(default_factory=Timeouts)
    http: Http | None = None  # None: mode tcp
    sticky: Sticky | None = None

    @property
    def has_primary(self) -> bool:
        """Whether one target at a time gets all sessions."""
        return self.balance == "failover"

    @property
    def refuses(self) -> bool:
        """Whether its ports are closed while there is no primary."""
        return self.has_primary and self.failover.while_electing == "refuse"


API_LISTEN = Address("127.0.0.1", 8687)


@dataclass(frozen=True, slots=True)
class Api:
    listen: Address = API_LISTEN  # the host is an IP literal or "*"; or the path of a UNIX socket
    token_file: str | None = None
    hosts: tuple[str, ...] = ()  # names it is reached by, beside localhost and `listen`


@dataclass(frozen=True, slots=True)
class Config:
    apps: tuple[App, ...]
    workers: int | None = None  # None: one per usable CPU
    pid_file: str | None = None
    state: str | None = None  # path of the state file; None: kept in memory
    shutdown_grace: float = 30.0
    access_log: str | None = None  # a path, or "-" for stdout
    log: Log = field(default_factory=Log)
    api: Api | None = None  # None: no management API

    @property
    def checks(self) -> Iterator[Check]:
        """Of all apps, and of targets that have their own."""
        for app in self.apps:
            yield from app.health
            for target in app.targets:
                yield from target.health or ()
