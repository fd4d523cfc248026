"""The configuration as checked, frozen values: no behaviour but questions.

Control and dataplane import this file, so it imports nothing but dataclasses, sansio and more such values (`tls_model` of
TLS, `log_model` of logs, `target_model` of where targets are). `config.load` makes these values
from a file; nothing else does. Durations are seconds, as in the file; sizes are bytes.
"""

from collections.abc import Iterator
from dataclasses import field, replace

from tcp_proxy.config.log_model import NO_LOG, AccessLogs, Log, Tracing
from tcp_proxy.config.target_model import Discovery, Source
from tcp_proxy.config.tls_model import SniRoute, TargetTls, Tls
from tcp_proxy.sansio.address import Address, ListenAddress
from tcp_proxy.sansio.frozen_dataclass import dataclass


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
class Hash:
    """What a policy hashes, and its table."""

    key: str = "address"  # mode tcp: address, first_bytes, sni; mode http: address, header, cookie, path
    name: str = ""  # of the header, or of the cookie
    slice: tuple[int, int] = (0, 0)  # [start, end) of the first bytes
    table_size: int = 65537  # of maglev: a prime
    ring_size: int = 65536  # of ring_hash: points
    balance_factor: int = 0  # per cent of the mean that a target may have; 0: as many as come


@dataclass(frozen=True, slots=True)
class Sticky:
    """A client's key and how long it stays with a target."""

    key: str = "source_ip"  # source_ip, source_ip+first_bytes, header
    slice: tuple[int, int] = (0, 0)  # [start, end) of the first message
    expires: float = 600.0  # after the last session of the key has ended
    size: int = 100_000  # entries
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    header: str = ""  # of mode http, with the key header: which


@dataclass(frozen=True, slots=True)
class AcceptProxy:
    """Whose PROXY headers are believed."""

    networks: tuple[str, ...]  # the key "from"
    required: bool = True  # of those: who sends none is refused
    others: str = "refuse"  # refuse, accept: those of no such network, who never may send one
    max_size: int = 4096  # bytes of a header


ALLOW, DENY = "allow", "deny"
COUNTED_RULES = 50  # entries of a list that are counted one by one; those after them are counted together
OTHERS = "others"  # what these are called
NO_RULE = "none"  # clients that no entry has


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """An address, a network, or a file of them."""

    entry: str
    count: int = 1  # networks
    digest: str = ""  # of a file's contents

    def __str__(self) -> str:
        return f"{self.entry} (sha256 {self.digest})" if self.digest else self.entry


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect. The entry with the most exact network of an address counts, `deny` before `allow`."""

    allow: tuple[AccessEntry, ...] | None = None  # None: everybody who is not denied
    deny: tuple[AccessEntry, ...] = ()
    table: tuple[str, str, str, str] = field(
        default=("", "", "", ""), repr=False, compare=False
    )  # sansio.networks: of `rules`
    in_both: tuple[str, ...] = field(default=(), repr=False, compare=False)  # networks, some of them

    @property
    def entries(self) -> tuple[AccessEntry, ...]:
        return (*(self.allow or ()), *self.deny)

    @property
    def rules(self) -> tuple[tuple[str, str], ...]:
        """(action, entry) of what is counted; the last one is for those whom no entry has."""
        lists = ((ALLOW, self.allow or ()), (DENY, self.deny))
        numbers = ((action, entries, number) for action, entries in lists for number in range(len(entries)))
        found = dict.fromkeys(self.rule_of(*one) for one in numbers)
        return (*found, (ALLOW if self.allow is None else DENY, NO_RULE))

    @staticmethod
    def rule_of(action: str, entries: tuple[AccessEntry, ...], number: int) -> tuple[str, str]:
        return action, entries[number].entry if number < COUNTED_RULES else OTHERS


@dataclass(frozen=True, slots=True)
class SendProxy:
    """The PROXY header that a target gets."""

    version: int = 2
    tlvs: tuple[str, ...] = ()  # unique_id, authority, alpn, ssl, hops, crc32c; of version 2


@dataclass(frozen=True, slots=True)
class Check:
    type: str = "tcp"  # tcp, ping, http, exchange, script
    interval: float = 30.0
    timeout: float = 2.0
    rise: int = 1
    fall: int = 1
    fall_action: str = "down"  # down, drain, ignore
    port: int | None = None  # None: the target's own
    interval_down: float = 2.0  # instead of `interval`, while it fails or has had no result
    tls: bool = False  # http, exchange
    method: str = "GET"  # http, as are the next four
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    status: tuple[str, ...] = ("2xx", "3xx")  # any of these, a number or a class
    preset: str | None = None  # exchange, as are the rest; a preset takes the place of send and expect
    user: str | None = None  # whom a preset asks for
    send: str = ""  # with escapes
    expect: str = ""  # with escapes
    expect_regex: str = ""  # instead of expect
    send_proxy: int | None = None  # the version of a PROXY header, 0: none; None: as the target wants it
    command: tuple[str, ...] = ()  # script: an executable and its arguments
    environment: tuple[str, ...] = ()  # script: NAME (as ours), NAME=value, "*" (all of ours)
    scope: str = "cluster"  # cluster, local: whose vote it is, among the nodes of a cluster
    source: Source | None = None  # where its connects come from; of the target or the app, not said of a check


CONNECTING = ("tcp", "http", "exchange")
KINDS = {  # which types of checks a key is for; those that are not here are for all
    "port": ("tcp", "http", "exchange", "script"),
    "tls": ("http", "exchange"),
    "send_proxy": CONNECTING,
    "source": (),
    **dict.fromkeys(("method", "path", "headers", "body", "status"), ("http",)),
    **dict.fromkeys(("preset", "user", "send", "expect", "expect_regex"), ("exchange",)),
    **dict.fromkeys(("command", "environment"), ("script",)),
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
    tls: TargetTls | None = None  # None: it is spoken to in clear
    send_proxy: SendProxy | None = None  # None: no PROXY header is sent
    source: Source | None = None  # None: its app's
    origin: str = ""  # the Discovery that has found it; "": the configuration has it
    ports: tuple[tuple[int, Address], ...] = ()  # a group: listening port -> server; then `address` is empty
    priority: int = 0  # its level, the lowest number first; backups come after all levels
    zone: str = ""  # where it is

    @property
    def level(self) -> tuple[bool, int]:
        """The lowest is used first."""
        return self.backup, self.priority

    @property
    def is_group(self) -> bool:
        """One server for each listening port, and one state for all of them."""
        return bool(self.ports) or not (self.address.port or self.address.path)

    @property
    def servers(self) -> tuple[Address, ...]:
        """All addresses; those with the port 0 are on the ports of the listeners."""
        return tuple(dict.fromkeys(address for _, address in self.ports)) if self.ports else (self.address,)

    @property
    def hosts(self) -> set[str]:
        return {address.host for address in self.servers if address.host}

    def checks(self, usual: tuple[Check, ...], source: Source | None = None) -> tuple[Check, ...]:
        """Its own, or else these. One that says nothing of it sends the header that sessions get, unless to another port.
        `source`: the app's."""
        mine = usual if self.health is None else self.health
        source = self.source or source
        if source is not None:
            mine = tuple(replace(check, source=source) for check in mine)
        if self.send_proxy is None:
            return mine
        version = self.send_proxy.version
        return tuple(
            replace(check, send_proxy=version)
            if check.send_proxy is None and check.port is None and check.type in CONNECTING
            else check
            for check in mine
        )

    def connect_check(self, seconds: float, source: Source | None = None) -> Check:
        """Whether it accepts a connection."""
        version = self.send_proxy.version if self.send_proxy is not None else 0
        return Check(timeout=seconds, send_proxy=version, source=self.source or source)

    @property
    def where(self) -> str:
        """The address as text."""
        return ", ".join(f"{port}: {address}" for port, address in self.ports) if self.ports else str(self.address)


# What is to be said of an app without any: right, for they may come by the management API.
NO_TARGETS = "has no targets: it turns every client away until there is one (by the management API, or a reload)"


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
class StickyCookie:
    """The cookie by which a client of mode http stays with its target."""

    name: str = "SERVERID"
    mode: str = "insert"  # insert, prefix: before the value of a cookie that the targets set
    path: str = "/"
    domain: str = ""
    max_age: int | None = None  # seconds; None: until the browser is closed
    secure: bool | None = None  # None: where the client has TLS with us
    http_only: bool = True
    samesite: str | None = "Lax"  # Lax, Strict, None, or null for none
    no_cache: bool = True  # Cache-Control: private beside it


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
    client_certificate: bool = False  # send X-Client-Certificate-*, what is known of a client's certificate
    cookie: StickyCookie | None = None  # by which clients stay (the key "sticky" there)


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
    environment: tuple[str, ...] = ()  # of the scripts: NAME (as ours), NAME=value, "*" (all of ours)


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions an app may have, and each of its clients, and how fast they may come; 0: no limit."""

    sessions: int = 0  # at one time, over all workers; of mode http: connections of clients
    sessions_per_client: int = 0
    rate: float = 0.0  # sessions a second, over all workers; of mode http: requests
    burst: int = 0  # that many at once; 0: those of a second
    rate_per_client: float = 0.0
    burst_per_client: int = 0
    bytes_per_second: int = 0  # of a session, in each direction
    bytes_per_second_per_client: int = 0  # of all its sessions together, in each direction
    action: str = "reset"  # reset, delay: what becomes of those above a rate
    clients: int = 262_144  # that something is known of
    ipv4_prefix: int = 32  # what a client is
    ipv6_prefix: int = 64
    queue: int = 0  # clients that wait for a place, here or with a target; of mode http: requests, too; 0: nobody waits
    queue_timeout: float = 30.0

    @property
    def table(self) -> tuple[int, ...]:
        """What there is a table of clients for (wire.client_table): another one, if any of this is different. (): none."""
        counts = bool(self.sessions_per_client or self.bytes_per_second_per_client)
        if not (counts or self.rate or self.rate_per_client):
            return ()
        return self.clients, self.ipv4_prefix, self.ipv6_prefix, counts


@dataclass(frozen=True, slots=True)
class Outlier:
    """When a target is ejected for what clients meet there; Envoy's outlier detection. 0: not for that."""

    consecutive_failures: int = 5  # connects, resets before a byte, answers of 500 and above, none, or late ones
    consecutive_gateway_failures: int = 0  # mode http: 502, 503, 504, or no answer
    slower_than: float = 0.0  # mode http: an answer that takes longer is a failure
    success_rate_stdev_factor: int = 1900  # thousandths of the standard deviation below the mean of all
    success_rate_minimum_targets: int = 5  # that have the volume; with fewer nobody is compared
    success_rate_request_volume: int = 100  # in an interval
    interval: float = 10.0
    base_ejection_time: float = 30.0  # times how often it was ejected
    max_ejection_time: float = 300.0
    max_ejected: int = 50  # per cent of the targets that could serve


@dataclass(frozen=True, slots=True)
class App:
    name: str
    listeners: tuple[ListenAddress, ...]
    targets: tuple[Target, ...]
    balance: str = "round_robin"
    hash: Hash = field(default_factory=Hash)  # of a policy with a key
    overprovisioning: int = 0  # per cent; 0: a level of targets is used when those above have nobody
    zone: str = ""  # ours, the same for all apps
    health: tuple[Check, ...] = (Check(),)
    failover: Failover = field(default_factory=Failover)  # of balance "failover"
    without_quorum: str | None = None  # stop, keep: a node that is cut off from its cluster; None: as `balance` has it
    on_down: str = "keep"  # keep, close
    retries: int = 3
    slow_start: float = 0.0  # seconds in which a target that comes, or comes back, rises to its weight; 0: at once
    panic: int = 0  # per cent; with fewer targets up all are used; 0: never
    outlier: Outlier | None = None  # None: nobody is ejected
    timeouts: Timeouts = field(default_factory=Timeouts)
    http: Http | None = None  # None: mode tcp
    sticky: Sticky | None = None
    tls: Tls | None = None  # None: clients are spoken to in clear, or have TLS with the targets
    sni_routes: tuple[SniRoute, ...] = ()  # of mode tcp; (): every client may go to every target
    accept_proxy: AcceptProxy | None = None  # None: clients send no PROXY headers
    access: Access | None = None  # None: everybody may connect
    limits: SessionLimits = field(default_factory=SessionLimits)
    source: Source | None = None  # None: the kernel chooses where connects come from
    discoveries: tuple[Discovery, ...] = ()  # where more targets are listed
    access_log: str | None = None  # None: the one of all; NO_LOG: none
    access_log_format: str | None = None  # None: as the log's

    @property
    def sources(self) -> list[Source]:
        """Its own, and those of its targets."""
        said = [self.source, *(target.source for target in self.targets)]
        return [source for source in said if source is not None]

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
class Cluster:
    """Proxies that share what they know, on etcd."""

    endpoints: tuple[str, ...]  # "http://host:port" or "https://host:port"
    name: str = "default"
    node: str = ""  # "": what the machine is called
    lease: int = 10  # seconds
    ca: str = ""  # path of a file; "": the system's authorities
    certificate: tuple[str, str] = ("", "")  # paths of chain and key; "": none is shown
    user: str = ""
    password_file: str = ""
    checkers: int | None = None  # how many nodes check the targets of an app; None: all


@dataclass(frozen=True, slots=True)
class Config:
    apps: tuple[App, ...]
    workers: int | None = None  # None: one per usable CPU
    faults: bool = False  # may be made, on purpose
    zone: str = ""  # where this proxy is; "": targets are the same to it wherever they are
    user: str | None = None  # whose the program is as soon as it has read this; None: who has started it
    group: str | None = None  # None: the user's
    pid_file: str | None = None
    state: str | None = None  # path of the state file; None: kept in memory
    shutdown_grace: float = 30.0
    access_log: str | None = None  # a path, or "-" for stdout
    nameservers: tuple[tuple[str, int], ...] = ()  # who is asked for SRV records; (): those of the system
    log: Log = field(default_factory=Log)
    api: Api | None = None  # None: no management API
    cluster: Cluster | None = None  # None: this proxy is alone
    tracing: Tracing | None = None  # None: nothing is traced

    @property
    def is_transparent(self) -> bool:
        """Whether connects come from clients' addresses anywhere."""
        return any(source.transparent for app in self.apps for source in app.sources)

    @property
    def access_logs(self) -> AccessLogs:
        usual = self.access_log or "", self.log.format
        apps = []
        for app in self.apps:
            path = usual[0] if app.access_log is None else "" if app.access_log == NO_LOG else app.access_log
            own = path, app.access_log_format or self.log.format
            if own != usual:
                apps.append((app.name, *own))
        return AccessLogs(*usual, tuple(apps), None if self.tracing is None else self.tracing.sample)

    @property
    def checks(self) -> Iterator[Check]:
        """Of all apps, and of targets that have their own."""
        for app in self.apps:
            yield from app.health
            for target in app.targets:
                yield from target.health or ()
