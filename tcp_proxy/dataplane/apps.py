"""The apps as a worker sees them: targets, their states, and who gets the next session.

Owned by the worker's loop thread. What the supervisor says (messages) is applied here and nowhere else.

Of an app that nobody has come by its targets may be the text of them (AppView.later): they are made when somebody asks for
one, whoever that is, and what was said of them meanwhile counts then.

    LATER ──targets, or a choice──> made ── as any others      `_later` is that text, `_news` what was said
"""

import random
from collections.abc import Callable, Iterator, Sequence
from socket import AF_UNIX
from typing import Any, Final
from zlib import crc32

from tcp_proxy.dataplane.balancing import Balancing
from tcp_proxy.dataplane.live_target import LiveTarget, Servers
from tcp_proxy.dataplane.place_queue import PlaceQueue
from tcp_proxy.dataplane.places import SessionPlaces
from tcp_proxy.dataplane.primary_queue import PrimaryQueue
from tcp_proxy.dataplane.session_state import tick_of
from tcp_proxy.runtime import memory
from tcp_proxy.runtime.socket_options import keepalive_options, set_options
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.balance import KEYED
from tcp_proxy.sansio.levels import Levels
from tcp_proxy.sansio.reasons import Reason, errno_name, failure_of
from tcp_proxy.sansio.share import Share
from tcp_proxy.wire import counters
from tcp_proxy.wire.counters import Row
from tcp_proxy.wire.later import targets_of
from tcp_proxy.wire.messages import AppPart
from tcp_proxy.wire.views import AppView, Endpoint, FaultView, TargetView

ASK_EVERY: Final = 1.0  # seconds between two reports of failed connects to one target
# Seconds. A session of this age, to twice this, gets keep-alive and PeerWatch: most never need either.
FIRST_TICK: Final = 1.0


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
        self._targets: dict[str, LiveTarget] = {}
        self._later = ""  # the text of those that are to be made when somebody asks for one (wire.later)
        self._news: dict[str, tuple[Any, ...]] = {}  # of those: what they have become
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
        if view.later:
            self._later = view.later
            self._set(view, now)
            self._set_targets({}, ())
            return
        for _ in self.configuring(view, now, None, Share(), is_new=True):
            pass

    def __repr__(self) -> str:
        return f"<LiveApp {self.name}: {self.levels!r} eligible>"

    @property
    def targets(self) -> dict[str, LiveTarget]:
        """Made now, if nobody has asked for one yet."""
        if self._later:
            self._make_targets()
        return self._targets

    @property
    def made_targets(self) -> dict[str, LiveTarget]:
        """None, if nobody has asked for one yet: none of those has a limit."""
        return self._targets

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
        views = targets_of(view.later) if view.later else view.targets
        known, contexts = {one.slot: one for one in self.targets.values()}, self._contexts(view, part is not None)
        told: dict[int, LiveTarget] = {}
        for each in views:
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
        self._targets = {name: targets[name] for name in order} if order else targets
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
        self._later, self._news = "", {}  # nobody comes for one any more
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
        """It may have left: a change of the configuration was broken off, for the program ends."""
        if self._later:
            self._news[name] = state, endpoints, servers, since
        elif name in self._targets:
            self._targets[name].change(state, endpoints, servers, since)
            self._sort()

    def _choose_narrowly(self, key: bytes, now: float, excluded: set[LiveTarget]) -> LiveTarget | None:
        """Leave out targets that were tried or are at their limit; a level comes when nobody of those before it is left."""
        if self._is_leased and self.is_over:
            return None
        if self._later:
            self._make_targets()
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
            self.levels.sort(self._targets.values(), self._zone, self._overprovisioning)
        else:
            primary = self._targets.get(self.primary_queue.primary)
            self.levels.only(primary if primary is not None and primary.endpoints else None)
        self.pool = self.levels.pools[0] if self.levels.pools else ()
        self._is_narrow = self._limited or self.levels.is_spread or self._is_leased or self._later != ""

    def _make_targets(self) -> None:
        """They stay: the search for garbage need not look at them, as at those that were there when the worker began."""
        memory.hold_collection()
        try:
            targets = {view.name: LiveTarget(view, self._rows) for view in targets_of(self._later)}
            for name in targets.keys() & self._news.keys():
                targets[name].change(*self._news[name])
            told, self._later = self._later, ""
            try:
                self._set_targets(targets, ())
            except MemoryError:  # half of it is done: the next who asks has them made
                self._later = told
                raise
            self._news = {}
        finally:
            memory.release_collection()
