"""The apps as a worker sees them: targets, their states, and who gets the next session.

Owned by the worker's loop thread; `LiveTarget.give` is also called by relay threads, each with its own row. What the
supervisor says (messages) is applied here and nowhere else.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from socket import AF_UNIX
from typing import Any, Final
from zlib import crc32

from tcp_proxy.dataplane.balancing import Balancing
from tcp_proxy.dataplane.place_queue import PlaceQueue
from tcp_proxy.dataplane.places import Places, SessionPlaces
from tcp_proxy.dataplane.primary_queue import PrimaryQueue
from tcp_proxy.dataplane.session_state import tick_of
from tcp_proxy.dataplane.target_source import connect_of
from tcp_proxy.runtime.socket_options import first_ephemeral_port, keepalive_options, set_options
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.balance import KEYED
from tcp_proxy.sansio.levels import Levels
from tcp_proxy.sansio.reasons import Reason, errno_name, failure_of
from tcp_proxy.sansio.share import Share
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Row
from tcp_proxy.wire.messages import AppPart
from tcp_proxy.wire.views import AppView, Endpoint, FaultView, TargetView

Servers = tuple[tuple[int, tuple[Endpoint, ...]], ...]

ASK_EVERY: Final = 1.0  # seconds between two reports of failed connects to one target
_FIRST_EPHEMERAL: Final = first_ephemeral_port()
_LOOPBACK = ("127.", "::1")
_UP: Final[State] = State.UP  # looked up once: each request asks
_DOWN: Final[State] = State.DOWN
# Seconds. A session of this age, to twice this, gets keep-alive and PeerWatch: most never need either.
FIRST_TICK: Final = 1.0


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


class LiveApp:
    """One app: its targets and its policy. `choose` is the only way a session gets a target, or `choose_waiting` after a
    wait."""

    queue_line = 1  # of the counters: who waits for any of the targets

    def __init__(
        self, view: AppView, worker: int, rows: list[Row], row: Row, failed: Callable[..., Any], now: float = 0.0
    ) -> None:
        """`row`: the loop thread's; `failed(app, target, error)` asks the supervisor for a probe, or, with no
        error, for the address of a target that has none; with rows it tells of failures (TargetFailed)."""
        self.name = view.name
        self.slot = view.slot
        self.row = row
        self.targets: dict[str, LiveTarget] = {}
        self._rows = rows
        self._balancing = Balancing(worker)
        self._failed = failed
        self._looked_up_at = float("-inf")
        self._left: list[LiveTarget] = []  # with sessions that go on
        self._tls_contexts: Any = {}  # of targets
        self.primary_queue: PrimaryQueue | None = None  # of a failover app
        self.sticks: Any = None  # dataplane.sticky.copies.StickCopies, of a sticky app
        self.places: SessionPlaces | None = None  # with limits.sessions
        self.queue: PlaceQueue | None = None  # with limits.queue
        self.client_limits: Any = None  # dataplane.client_limits.ClientLimits, with limits of rates or by client
        self.outlier: Any = None  # dataplane.outlier.OutlierCounts, where targets may be ejected
        self.faults: Any = None  # dataplane.faults.Faults, while there are some
        self.edge: Any = None  # dataplane.edge.policy.Edge, where something is done to clients before they are sessions
        for _ in self.configuring(view, now, None, Share(), is_new=True):
            pass

    def __repr__(self) -> str:
        return f"<LiveApp {self.name}: {self.levels!r} eligible>"

    @property
    def holds(self) -> bool:
        """Whether nobody is to be accepted."""
        return self.primary_queue is not None and self.primary_queue.holds

    @property
    def is_over(self) -> bool:
        """Whether this node's time with the primary is (primary_queue), asked of the clock itself."""
        return self.primary_queue is not None and self.primary_queue.is_over()

    def configure(self, view: AppView, now: float = 0.0, part: AppPart | None = None) -> None:
        """Become what the view says, or `part` of it. Targets are told by their slots: who keeps his keeps his sessions."""
        for _ in self.configuring(view, now, part, Share()):
            pass

    def configuring(
        self, view: AppView, now: float, part: AppPart | None, share: Share, is_new: bool = False
    ) -> Iterator[None]:
        """The same in slices, between which sessions are served. Targets become others one by one, and those that stay have
        sessions as before; who may have new ones is found once, when all are there. `is_new`: without tables, for now."""
        known, contexts = {one.slot: one for one in self.targets.values()}, self._contexts(view, part is not None)
        told: dict[int, LiveTarget] = {}
        for each in view.targets:
            target = known.get(each.slot)
            if target is None:
                target = LiveTarget(each, self._rows)
            if contexts:
                target.tls = self._tls_of(each, view, target.tls)
            if each.slot in known or contexts:
                target.configure(each)
            told[each.slot] = target
            if share.is_used_up():
                yield
        leaving = known.keys() - told.keys() if part is None else frozenset(part.left)
        stay = {slot: target for slot, target in known.items() if slot not in leaving} if part is not None else {}
        self._left += [known[slot] for slot in leaving]  # whom a demotion ends, too
        targets = {target.name: target for target in (stay | told).values()}
        if not is_new:
            yield from self._balancing.building(view, [(name, one.weight) for name, one in targets.items()], share)
        self._set(view, now)
        self._set_targets(targets, part.order if part is not None else ())
        for slot in leaving:
            known[slot].leave()
            if share.is_used_up():
                yield
        with_sessions = []
        for target in self._left:
            if target.active:
                with_sessions.append(target)
            if share.is_used_up():
                yield
        self._left = with_sessions

    def _set(self, view: AppView, now: float) -> None:
        self.retries = view.retries
        self.http = view.http
        self.http_app: Any = None  # of mode http, made when it is needed
        self.timeouts = view.timeouts
        self.tick = tick_of(view.timeouts)
        self.first_tick = min(self.tick, FIRST_TICK)
        self._keepalive = keepalive_options(view.timeouts.keepalive)
        self.needs_key, self.hash = view.balance in KEYED, view.hash
        self._zone, self._overprovisioning = view.zone, view.overprovisioning
        self.is_in_turns = view.balance == "round_robin"
        self.sticky = view.sticky
        self._is_leased = view.is_leased
        if view.balance != "failover":
            self.primary_queue = None
        elif self.primary_queue is None:
            self.primary_queue = PrimaryQueue(view, now)
        else:
            self.primary_queue.configure(view, now)
        self._limit_sessions(view.limited)
        self.limits, self.clients = view.limits, view.clients
        self.has_rates = bool(view.limits.bytes_per_second or view.limits.bytes_per_second_per_client)
        self.meet(view.faults)
        if not view.clients:
            self.client_limits = None
        elif self.client_limits is not None:  # a table that has another number now is on its way
            self.client_limits.configure(view.limits, view.http is not None)
        if view.outlier is not None or self.outlier is not None:
            self._count_outliers(view)
        self._balancing.configure(view)
        self.latencies = self._balancing.latencies  # None but for least_time

    def meet(self, faults: Sequence[FaultView]) -> None:
        """Sessions that begin meet these; in mode http connections of clients."""
        if faults or self.faults is not None:
            from tcp_proxy.dataplane.faults import configured  # noqa: PLC0415  loaded with the first fault

            self.faults = configured(self.faults, faults)
        self.is_paced = self.has_rates or self.faults is not None

    def _count_outliers(self, view: AppView) -> None:
        from tcp_proxy.dataplane.outlier import OutlierCounts  # noqa: PLC0415  loaded with the first app that needs it

        def tell(rows: tuple[tuple[int, int, int], ...], target: str, error: str) -> None:
            self._failed(self.name, target, error, rows)

        settings, is_http = view.outlier, view.http is not None
        self.outlier = OutlierCounts(settings, is_http, self._rows, self.row, tell) if settings else None

    def _set_targets(self, targets: dict[str, LiveTarget], order: Sequence[str]) -> None:
        self.targets = {name: targets[name] for name in order} if order else targets
        self._limited = any([target.limited for target in targets.values()])
        has_groups = any([target.servers for target in targets.values()])
        is_timed = self.latencies is not None and self.http is None
        self.is_special = self.needs_key or has_groups or self.sticky is not None or is_timed
        self.levels: Levels[LiveTarget] = Levels()  # new pools: weights may be others
        self._sort()

    def target_at(self, name: str, slot: int) -> LiveTarget | None:
        """The one with this name and these counters, or that had it before it left."""
        target = self.targets.get(name)
        if target is not None and target.slot == slot:
            return target
        return next((left for left in self._left if left.slot == slot and left.name == name), None)

    def leave(self) -> None:
        """It is not an app any more; its sessions go on. Who is on the way to one finds no target."""
        for _ in self.leaving(Share()):
            pass

    def leaving(self, share: Share) -> Iterator[None]:
        """The same in slices."""
        self.levels.only(None)
        self.pool: tuple[LiveTarget, ...] = ()
        self.edge = self.client_limits = None
        if self.places is not None:
            self.places.leave(self.row)
        for target in tuple(self.targets.values()):
            target.leave()
            if share.is_used_up():
                yield
        self._sort()

    @property
    def may_be_demoted(self) -> bool:
        """Whether sessions are, or may come, that end when there is another primary."""
        targets = (*self.targets.values(), *self._left)
        closes = self.primary_queue is not None and self.primary_queue.closes
        return closes and any(target.active for target in targets)

    def cut(self, reason: Reason) -> frozenset[LiveTarget]:
        """Whom sessions of this app may be with, a former target too: they are given up (Session.cut_off)."""
        targets = frozenset((*self.targets.values(), *self._left))
        for target in targets:
            target.cut_reason = reason
            target.cut += 1
        return targets

    def _limit_sessions(self, is_limited: bool) -> None:
        """A new limit is in force when its semaphore has come; sessions are counted from now on."""
        if is_limited:
            self.places = self.places or SessionPlaces(self.slot, self._rows)
            self.places.limited = True
        elif self.places is not None:
            self.places.lift()
            if not self.places.holders:
                self.places = None

    def _contexts(self, view: AppView, is_part: bool) -> bool:
        """How targets may be spoken to over TLS; whether any is, or was."""
        if not view.target_tls and not self._tls_contexts:
            return False
        from tcp_proxy.dataplane import target_tls  # noqa: PLC0415  ssl is imported for the first app that needs it

        contexts = target_tls.contexts(view.target_tls, self._tls_contexts)
        self._tls_contexts = self._tls_contexts | contexts if is_part else contexts
        return True

    def _tls_of(self, each: TargetView, view: AppView, before: Any) -> Any:
        from tcp_proxy.dataplane import target_tls  # noqa: PLC0415  as above

        return target_tls.of_target(each, view.target_tls, self._tls_contexts, before) if each.tls >= 0 else None

    def use_queue(self, queue: PlaceQueue | None) -> None:
        """Clients wait there for places; whoever gives one back tells it."""
        self.queue = queue
        for target in self.targets.values():
            target.queue = queue
        if self.places is not None:
            self.places.queue = queue

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        """The target for a new session, already taken; None: `why_none` says why."""
        pool = self.pool
        if excluded or self._is_narrow:
            if self.queue is not None and not excluded and self.queue.holds_back(self.queue_line):
                return None
            return self._choose_narrowly(key, now, excluded or set())
        if not pool:
            return None
        target = pool[0] if len(pool) == 1 else self._balancing.whole.pick(pool, key, now, random.random)
        self.row[target.active_slot] += 1  # `take` of a target without a limit
        return target

    def choose_waiting(self, key: bytes, now: float, excluded: set[LiveTarget] | None = None) -> LiveTarget | None:
        """The same for one whose turn it is in the queue."""
        return self._choose_narrowly(key, now, excluded or set())

    def retake(self, target: LiveTarget) -> bool:
        """The same target once more, for the same session."""
        return target.is_eligible and target.take(self.row)

    def why_none(self, now: float) -> Reason:
        """Names without an address are looked up anew, for a client has come for them: at most once a second."""
        if self.pool and not (self._is_leased and self.is_over):
            return Reason.LIMIT
        if now - self._looked_up_at >= ASK_EVERY and self.primary_queue is None:
            self._looked_up_at = now
            for target in self.targets.values():
                if not target.endpoints and not target.servers:
                    self._failed(self.name, target.name, "")
        return Reason.NO_TARGET

    def offers(self, target: LiveTarget) -> bool:
        """Whether it is one of ours."""
        return self.targets.get(target.name) is target

    def is_alone(self, target: LiveTarget) -> bool:
        """Whether no other target could have the session."""
        return all(other is target for pool in self.levels.pools for other in pool)

    def connect_failed(self, target: LiveTarget, code: int, local: bool, now: float, text: str = "") -> None:
        """Count a failed connect; unless it is this machine's fault, let the supervisor probe the target now. `text`: why,
        where the errno does not say it."""
        self.row[target.slot + counters.FAILURES + failure_of(code)] += 1
        if self.primary_queue is not None:
            if not local and target.name == self.primary_queue.primary and not self.primary_queue.has_reported:
                self.primary_queue.has_reported = True
                self._failed(self.name, target.name, text or errno_name(code))
            return
        if self.outlier is not None and not local:
            self.outlier.connect_failed(target, text or errno_name(code), now)
        if not local and now - target.asked_at >= ASK_EVERY:
            target.asked_at = now
            self._failed(self.name, target.name, text or errno_name(code))

    def settle(self, sock: StreamSocket | None) -> None:
        """This session lives longer than most: notice when its target (None: given up) has died."""
        if sock is not None and sock.family != AF_UNIX:
            set_options(sock, self._keepalive)

    def change_target(
        self, name: str, state: str, endpoints: tuple[Endpoint, ...], servers: Servers = (), since: float = 0.0
    ) -> None:
        self.targets[name].change(state, endpoints, servers, since)
        self._sort()

    def _choose_narrowly(self, key: bytes, now: float, excluded: set[LiveTarget]) -> LiveTarget | None:
        """Leave out targets that were tried or are at their limit; a level comes when nobody of those before it is left."""
        if self._is_leased and self.is_over:
            return None
        levels, balancing = self.levels, self._balancing
        mark = (crc32(key) / (1 << 32) if key else random.random()) if levels.is_spread else 0.0
        for whole in levels.order(mark):
            pool = tuple(target for target in whole if target not in excluded)
            while pool:
                balancer = balancing.whole if len(pool) == len(whole) else balancing.part
                target = balancer.pick(whole if len(pool) == len(whole) else pool, key, now, random.random)
                if target.take(self.row):
                    return target
                pool = tuple(other for other in pool if other is not target)
        return None

    def elect(self, epoch: int, primary: str, since: float) -> None:
        """Of a failover app: this one is primary, since then; "": nobody is."""
        assert self.primary_queue is not None
        self.primary_queue.set(epoch, primary, since)
        self._sort()

    def _sort(self) -> None:
        if self.primary_queue is None:
            self.levels.sort(self.targets.values(), self._zone, self._overprovisioning)
        else:
            primary = self.targets.get(self.primary_queue.primary)
            self.levels.only(primary if primary is not None and primary.endpoints else None)
        self.pool = self.levels.pools[0] if self.levels.pools else ()
        self._is_narrow = self._limited or self.levels.is_spread or self._is_leased
