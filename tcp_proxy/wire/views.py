"""What a worker needs to know of an app and its targets: frozen values that messages carry (wire.messages)."""

from dataclasses import field
from typing import Any

from tcp_proxy.config.model import AcceptProxy, Hash, Http, Outlier, SendProxy, SessionLimits, Sticky, Timeouts
from tcp_proxy.config.target_model import Source
from tcp_proxy.config.tls_model import SniRoute, TargetTls, Tls
from tcp_proxy.sansio.frozen_dataclass import dataclass

# An address family and what socket.connect() takes for it: (AF_INET, ("127.0.0.1", 80)), (AF_UNIX, "/run/x.sock").
Endpoint = tuple[int, Any]


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target as a worker needs it. `slot` is the first of its counters (counters.TARGET_SLOTS of them)."""

    name: str
    slot: int
    weight: int
    backup: bool
    limited: bool  # max_connections is set: its semaphore comes with a Limits message
    state: str  # sansio.verdict.State
    endpoints: tuple[Endpoint, ...]
    servers: tuple[tuple[int, tuple[Endpoint, ...]], ...] = ()  # of a group: by listening port; `endpoints` are of all
    hosts: tuple[tuple[int, str], ...] = ()  # of mode http: what it is called in Host, by listening port (0: on every one)
    tls: int = -1  # which of the `target_tls` that it comes with; -1: it is spoken to in clear
    server_names: tuple[tuple[int, str], ...] = ()  # with `tls`, as `hosts`: whom it must be; "": anybody
    send_proxy: SendProxy | None = None
    source: Source | None = None
    since: float = 0.0  # when it came (back), by the clock that all loops have in common; 0: it was there from the start
    priority: int = 0
    zone: str = ""


@dataclass(frozen=True, slots=True)
class AccessView:
    """Who may connect. `slots`: where each of the `rules` (config.model.Access) counts its clients."""

    rules: tuple[tuple[str, str], ...]
    slots: tuple[int, ...]
    table: tuple[str, str, str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class FaultView:
    """A fault on purpose. Seconds, bytes a second, per cent; 0: not this one. `text` says it for people."""

    number: int
    text: str
    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: int = 0
    reset: float = 0.0
    timeout: bool = False
    slicer: int = 0  # bytes
    slow_close: float = 0.0
    direction: str = "both"  # both, up (to the target), down
    share: float = 100.0
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppView:
    """`slot` is the first of its counters (counters.APP_SLOTS of them)."""

    name: str
    slot: int
    balance: str
    retries: int
    timeouts: Timeouts
    targets: tuple[TargetView, ...]
    primary: str = ""  # of a failover app; "": there is none now
    epoch: int = 0
    election_wait: float = 0.0
    refuses: bool = False  # its ports are closed while there is no primary
    since: float = 0.0  # when the primary was found, by the clock that all loops of this machine have in common
    http: Http | None = None  # None: mode tcp
    sticky: Sticky | None = None
    is_leased: bool = False  # of a failover app: its primary counts until the time of Renewed, in a cluster
    closes: bool = False  # of a failover app: nobody has a session while nobody is primary
    tls: Tls | None = None  # with clients
    target_tls: tuple[TargetTls, ...] = ()  # with targets: each way to speak it once, for files may be big
    sni_routes: tuple[SniRoute, ...] = ()
    accept_proxy: AcceptProxy | None = None
    access: AccessView | None = None
    slow_start: float = 0.0
    outlier: Outlier | None = None
    limited: bool = False  # limits.sessions is set: its semaphore comes with a Limits message
    clients: int = 0  # the number of its table of clients, which comes so, too; 0: it has none
    limits: SessionLimits = field(default_factory=SessionLimits)
    hash: Hash = field(default_factory=Hash)
    zone: str = ""  # ours
    overprovisioning: int = 0
    faults: tuple[FaultView, ...] = ()
    later: str = field(default="", repr=False)  # instead of `targets`: the text of them (wire.later)
