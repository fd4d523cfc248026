"""The apps as a worker sees them: targets, their states, and who gets the next session.

Owned by the worker's loop thread; `LiveTarget.give` is also called by relay threads, each with its own row. What the
supervisor says (messages) is applied here and nowhere else.

A target takes a session by `take` and gets it back by `give`: the gauge of its sessions and, with max_connections, one
token of the semaphore that all workers share (an eventfd: see docs/decisions.md) change together, so the supervisor
can return the tokens of a worker that died by looking at its gauges (test_tokens_of_a_dead_worker_come_back).

A limit that changes is a new semaphore. `adopt` buys a token of it for every session there is; those for which there is
none are `unpaid`, and as many of the next that end give nothing back (test_a_limit_below_the_sessions_there_are…). What
`give` of a limited target and `adopt` share is under `lock`; a target that gets its first limit is `guard`ed before, until
no relay thread is in the middle of a `give` without the lock any more.
"""

import os
import random
import threading
from collections.abc import Callable, Sequence
from socket import AF_UNIX, SocketType
from typing import Any

from tcp_proxy import counters
from tcp_proxy.config.model import Timeouts
from tcp_proxy.counters import Row
from tcp_proxy.dataplane.parking import Parking
from tcp_proxy.messages import AppView, Endpoint, TargetView
from tcp_proxy.sansio.balance import make
from tcp_proxy.sansio.reasons import Reason, errno_name, failure_of
from tcp_proxy.sansio.verdict import State
from tcp_proxy.socket_options import first_ephemeral_port, keepalive_options, set_options

Servers = tuple[tuple[int, tuple[Endpoint, ...]], ...]

ASK_EVERY = 1.0  # seconds between two reports of failed connects to one target
_FIRST_EPHEMERAL = first_ephemeral_port()
_LOOPBACK = ("127.", "::1")
TICK_LEAST, TICK_MOST = 0.25, 10.0  # seconds between two looks at a session's peers
# A session of this age, to twice this, gets keep-alive on its target's socket and Patience with its peers: most sessions
# never need either (of 23 system calls of a short one, 16 are left).
FIRST_TICK = 1.0  # seconds


class LiveTarget:
    """One target: where it is, whether it may have sessions, how many it has."""

    __slots__ = (
        "active_slot", "asked_at", "backup", "cut", "cut_reason", "endpoints", "is_near", "limited", "lock",
        "may_be_ourselves", "name", "rotation", "rows", "servers", "slot", "state", "tokens", "unpaid", "weight",
    )  # fmt: skip

    def __init__(self, view: TargetView, rows: list[Row]) -> None:
        self.slot = view.slot
        self.active_slot = view.slot + counters.ACTIVE
        self.rows = rows
        self.rotation = 0
        self.lock = threading.Lock()  # guards tokens and unpaid, and the gauge together with them
        self.tokens = -1  # the semaphore's descriptor, once it has come
        self.unpaid = 0  # sessions of this worker that have no token
        self.asked_at = float("-inf")
        self.cut = 0  # how often its sessions were ended from above; a session that moved meanwhile compares
        self.cut_reason = Reason.TARGET_DOWN
        self.configure(view)

    def configure(self, view: TargetView) -> None:
        """All that may change while it lives. A new limit is in force when its semaphore has come."""
        self.name = view.name
        self.weight = view.weight
        self.backup = view.backup
        self.limited = view.limited or self.tokens >= 0
        if not view.limited:
            self.lift()
        self.change(view.state, view.endpoints, view.servers)

    def change(self, state: str, endpoints: tuple[Endpoint, ...], servers: Servers = ()) -> None:
        self.state = State(state)
        self.endpoints = endpoints
        self.servers = dict(servers)  # of a group: its endpoints by listening port
        self.may_be_ourselves = any(
            family != AF_UNIX and address[1] >= _FIRST_EPHEMERAL for family, address in endpoints
        )
        # On this machine: the handshake is over before connect() returns.
        self.is_near = all(family != AF_UNIX and address[0].startswith(_LOOPBACK) for family, address in endpoints)

    def __repr__(self) -> str:
        return f"<LiveTarget {self.name} {self.state} active={self.active}>"

    @property
    def active(self) -> int:
        """Sessions now, in all workers."""
        slot = self.active_slot
        return sum([row[slot] for row in self.rows])

    @property
    def is_eligible(self) -> bool:
        return self.state is State.UP and self.weight > 0 and bool(self.endpoints)

    @property
    def may_keep(self) -> bool:
        """Whether it may have sessions of those who belong to it."""
        return self.state is not State.DOWN and bool(self.endpoints)

    def take(self, row: Row) -> bool:
        """Count one session more; False, and nothing changed, when it is at its limit."""
        row[self.active_slot] += 1
        if self.tokens >= 0:
            try:
                os.eventfd_read(self.tokens)
            except BlockingIOError:
                row[self.active_slot] -= 1
                return False
        return True

    def give(self, row: Row) -> None:
        """One session less; `row` is the calling thread's."""
        if self.limited:
            self._give_back(row)
        else:
            row[self.active_slot] -= 1

    def _give_back(self, row: Row) -> None:
        with self.lock:
            if self.unpaid:
                self.unpaid -= 1
                row[self.slot + counters.UNPAID] -= 1
            elif self.tokens >= 0:
                os.eventfd_write(self.tokens, 1)
            row[self.active_slot] -= 1

    def adopt(self, tokens: int, mine: Sequence[Row], number: int = 0) -> None:
        """In the loop's thread: from now on this semaphore counts. `mine`: this worker's rows, the loop's first."""
        unpaid_slot = self.slot + counters.UNPAID
        with self.lock:
            old, self.tokens = self.tokens, tokens
            self.unpaid = sum(row[self.active_slot] for row in mine)
            while self.unpaid and _bought(tokens):
                self.unpaid -= 1
            mine[0][unpaid_slot] += self.unpaid - sum(row[unpaid_slot] for row in mine)
            mine[0][self.slot + counters.SEMAPHORE] = number
        _close(old)

    def lift(self) -> None:
        """In the loop's thread: no limit (any more)."""
        with self.lock:
            old, self.tokens = self.tokens, -1
            self.unpaid = 0  # what the counter says of it is put right by the next adopt
        self.limited = False
        _close(old)

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
    """One app: its targets and its policy. `choose` is the only way a session gets a target."""

    def __init__(
        self, view: AppView, worker: int, rows: list[Row], row: Row, failed: Callable[[str, str, str], Any], now: float = 0.0
    ) -> None:
        """`row`: the loop thread's; `failed(app, target, error)` asks the supervisor for a probe."""
        self.name = view.name
        self.slot = view.slot
        self.row = row
        self.targets: dict[str, LiveTarget] = {}
        self._rows = rows
        self._worker = worker
        self._failed = failed
        self._policy = ""
        self.parking: Parking | None = None  # of a failover app
        self.sticks: Any = None  # dataplane.sticks.Sticks, of a sticky app
        self.configure(view, now)

    def __repr__(self) -> str:
        return f"<LiveApp {self.name}: {len(self.primaries)} primaries, {len(self.backups)} backups eligible>"

    @property
    def holds(self) -> bool:
        """Whether nobody is to be accepted."""
        return self.parking is not None and self.parking.holds

    def configure(self, view: AppView, now: float = 0.0) -> None:
        """Become what the view says. Targets are told by their slots: who keeps his keeps his sessions."""
        self.retries = view.retries
        self.http = view.http
        self.site: Any = None  # of mode http, made when it is needed
        self.timeouts = view.timeouts
        self.tick = tick_of(view.timeouts)
        self.first_tick = min(self.tick, FIRST_TICK)
        self._keepalive = keepalive_options(view.timeouts.keepalive)
        self.needs_key = view.balance == "source_hash"
        self.is_in_turns = view.balance == "round_robin"
        if view.balance != "failover":
            self.parking = None
        elif self.parking is None:
            self.parking = Parking(view, now)
        else:
            self.parking.configure(view, now)
        if view.balance != self._policy:
            self._policy = view.balance
            self._balancer = make(view.balance, self._worker)
            # For choices among a part of the targets: their tuples come and go and would disturb the balancer's memory.
            self._narrow_balancer = make(view.balance, self._worker)
        known = {target.slot: target for target in self.targets.values()}
        self.targets = {target.name: self._live(target, known.pop(target.slot, None)) for target in view.targets}
        for target in known.values():
            target.leave()
        self._limited = any(target.limited for target in self.targets.values())
        has_groups = any(target.servers for target in self.targets.values())
        self.is_special = self.needs_key or has_groups or view.sticky is not None
        self.primaries: tuple[LiveTarget, ...] = ()
        self.backups: tuple[LiveTarget, ...] = ()
        self._sort()

    def leave(self) -> None:
        """It is not an app any more; its sessions go on."""
        for target in self.targets.values():
            target.leave()
        self._sort()

    def _live(self, view: TargetView, known: LiveTarget | None) -> LiveTarget:
        if known is None:
            return LiveTarget(view, self._rows)
        known.configure(view)
        return known

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        """The target for a new session, already taken; None: `why_none` says why."""
        pool = self.primaries or self.backups
        if excluded or self._limited:
            return self._choose_narrowly(key, now, excluded or set())
        if not pool:
            return None
        target = pool[0] if len(pool) == 1 else self._balancer.pick(pool, key, now, random.random)
        self.row[target.active_slot] += 1  # `take` of a target without a limit
        return target

    def retake(self, target: LiveTarget) -> bool:
        """The same target once more, for the same session."""
        return target.is_eligible and target.take(self.row)

    def why_none(self) -> Reason:
        return Reason.LIMIT if self.primaries or self.backups else Reason.NO_TARGET

    def is_alone(self, target: LiveTarget) -> bool:
        """Whether no other target could have the session."""
        return all(other is target for other in self.primaries + self.backups)

    def connect_failed(self, target: LiveTarget, code: int, local: bool, now: float) -> None:
        """Count a failed connect; unless it is this machine's fault, let the supervisor probe the target now."""
        self.row[target.slot + counters.FAILURES + failure_of(code)] += 1
        if self.parking is not None:
            if not local and target.name == self.parking.primary and not self.parking.has_reported:
                self.parking.has_reported = True
                self._failed(self.name, target.name, errno_name(code))
            return
        if not local and now - target.asked_at >= ASK_EVERY:
            target.asked_at = now
            self._failed(self.name, target.name, errno_name(code))

    def settle(self, sock: SocketType) -> None:
        """This session lives longer than most: notice when its target has died."""
        set_options(sock, self._keepalive)

    def change_target(self, name: str, state: str, endpoints: tuple[Endpoint, ...], servers: Servers = ()) -> None:
        self.targets[name].change(state, endpoints, servers)
        self._sort()

    def _choose_narrowly(self, key: bytes, now: float, excluded: set[LiveTarget]) -> LiveTarget | None:
        """Leave out targets that were tried or are at their limit; the backups come when no primary is left."""
        for whole in (self.primaries, self.backups):
            pool = tuple(target for target in whole if target not in excluded)
            while pool:
                balancer = self._balancer if len(pool) == len(whole) else self._narrow_balancer
                target = balancer.pick(whole if len(pool) == len(whole) else pool, key, now, random.random)
                if target.take(self.row):
                    return target
                pool = tuple(other for other in pool if other is not target)
        return None

    def elect(self, epoch: int, primary: str, since: float) -> None:
        """Of a failover app: this one is primary, since then; "": nobody is."""
        assert self.parking is not None
        self.parking.set(epoch, primary, since)
        self._sort()

    def _sort(self) -> None:
        if self.parking is not None:
            primary = self.targets.get(self.parking.primary)
            self.primaries = (primary,) if primary is not None and primary.endpoints else ()
            self.backups = ()
            return
        eligible = [target for target in self.targets.values() if target.is_eligible]
        primaries = tuple(target for target in eligible if not target.backup)
        backups = tuple(target for target in eligible if target.backup)
        # A balancer may remember by identity: the tuples change only when the sets do.
        if primaries != self.primaries:
            self.primaries = primaries
        if backups != self.backups:
            self.backups = backups


def _close(tokens: int) -> None:
    if tokens >= 0:
        os.close(tokens)


def _bought(tokens: int) -> bool:
    try:
        os.eventfd_read(tokens)
    except BlockingIOError:
        return False
    return True


def tick_of(timeouts: Timeouts) -> float:
    """How often the peers of a session are looked at: often enough for its shortest patience."""
    shortest = min(timeouts.unacked, timeouts.half_closed, timeouts.idle)
    return min(TICK_MOST, max(TICK_LEAST, shortest / 4))
