"""A target as a worker sees it: where it is, whether it may have sessions, how many it has.

Owned by the worker's loop thread; `give` is also called by relay threads, each with its own row. What changes comes from its
app (dataplane.apps).
"""

from socket import AF_UNIX
from typing import Any, Final

from tcp_proxy.dataplane.places import Places
from tcp_proxy.dataplane.target_source import connect_of
from tcp_proxy.runtime.socket_options import first_ephemeral_port
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.counters import Row
from tcp_proxy.wire.views import Endpoint, TargetView

Servers = tuple[tuple[int, tuple[Endpoint, ...]], ...]

_FIRST_EPHEMERAL: Final = first_ephemeral_port()
_LOOPBACK = ("127.", "::1")
_UP: Final[State] = State.UP  # looked up once: each request asks
_DOWN: Final[State] = State.DOWN


class LiveTarget(Places):
    """One target: where it is, whether it may have sessions, how many it has."""

    __slots__ = (
        "asked_at", "backup", "connect", "cut", "cut_reason", "endpoints", "hosts", "is_near", "is_personal",
        "may_be_ourselves", "name", "priority", "rotation", "send_proxy", "servers", "since", "state", "tls", "weight",
        "zone",
    )  # fmt: skip

    def __init__(self, view: TargetView, rows: list[Row]) -> None:
        super().__init__(view.slot, rows)
        self.rotation = 0
        self.hosts: dict[int, bytes] = {}
        self.asked_at = float("-inf")
        self.cut = 0  # how often its sessions were ended from above; a session that moved meanwhile compares
        self.cut_reason = Reason.TARGET_DOWN
        self.tls: Any = None  # dataplane.target_tls.TargetTls; None: it is spoken to in clear
        self.connect: Any = None  # runtime.source.SourceConnect; None: from where the kernel says
        self.configure(view)

    def configure(self, view: TargetView) -> None:
        """All that may change while it lives. A new limit is in force when its semaphore has come."""
        self.name = view.name
        self.weight = view.weight
        self.backup, self.priority, self.zone = view.backup, view.priority, view.zone
        self.send_proxy = view.send_proxy
        self.connect = connect_of(view.source, self.connect)
        self.is_personal = view.send_proxy is not None or (view.source is not None and view.source.transparent)
        if view.hosts:  # else its app is not, or not any more, one of mode http; requests that are under way go on
            self.hosts = {port: host.encode() for port, host in view.hosts}
        self.limited = view.limited or self.tokens >= 0
        if not view.limited:
            self.lift()
        self.change(view.state, view.endpoints, view.servers, view.since)

    def change(self, state: str, endpoints: tuple[Endpoint, ...], servers: Servers = (), since: float = 0.0) -> None:
        self.state = State(state)
        self.since = since
        self.endpoints = endpoints
        self.servers = dict(servers)  # of a group: its endpoints by listening port
        self.may_be_ourselves = any(
            family != AF_UNIX and address[1] >= _FIRST_EPHEMERAL for family, address in endpoints
        )
        # On this machine: the handshake is over before connect() returns, and what it takes can be sent.
        self.is_near = self.tls is None and all(
            family != AF_UNIX and address[0].startswith(_LOOPBACK) for family, address in endpoints
        )

    def __repr__(self) -> str:
        return f"<LiveTarget {self.name} {self.state} active={self.active}>"

    @property
    def active(self) -> int:
        """Sessions now, in all workers."""
        slot = self.active_slot
        return sum([row[slot] for row in self.rows])

    @property
    def is_eligible(self) -> bool:
        return self.state is _UP and self.weight > 0 and bool(self.endpoints)

    @property
    def may_keep(self) -> bool:
        """Whether it may have sessions of those who belong to it."""
        return self.state is not _DOWN and bool(self.endpoints)

    def leave(self) -> None:
        """It is not a target any more; its sessions go on."""
        self.change(State.DOWN, ())
        if self.limited:
            self.lift()

    def endpoints_to_try(self) -> tuple[Endpoint, list[Endpoint] | None]:
        """The first address to try, in rotation, and the others, last first."""
        endpoints = self.endpoints
        if len(endpoints) == 1:
            return endpoints[0], None
        return self._rotated(endpoints)

    def endpoints_on(self, port: int) -> tuple[Endpoint, list[Endpoint] | None]:
        """The same, for a client of this listening port."""
        return self._rotated(self.servers[port] if self.servers else self.endpoints)

    def _rotated(self, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, list[Endpoint] | None]:
        self.rotation = (self.rotation + 1) % len(endpoints)
        rotated = endpoints[self.rotation :] + endpoints[: self.rotation]
        return rotated[0], list(rotated[:0:-1])
