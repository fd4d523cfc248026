"""The limits of an app that are about how fast its clients come, and about each client for itself; exact over all workers.

`lets_in` is asked of each client, which is what most of them pay, and `admit` of whom it does not let in (`admit_request` of
each request, in mode http), in the loop's thread; `release` is called by whatever thread a session ends in, `count_in` by
every thread for its own. What all workers know is in a wire.client_table, changed under one of its locks: so each question
costs about a microsecond, and asks nobody.

A client is an address, or its network of `ipv4_prefix` or `ipv6_prefix` bits. What is over a limit changes nothing: neither
its own bucket nor the app's. Who waits for its turn (action delay) has taken its token: it is as good as in, only later.

Always true: a session is counted for its client from `admit` to `release`, once, in the column of this worker; who has no
entry in the table (`untracked`) is not limited by client.
"""

import threading
from collections.abc import Iterable
from hashlib import blake2b
from socket import AF_INET6, inet_aton, inet_pton
from typing import Any, NamedTuple

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.runtime.process_locks import try_lock, unlock
from tcp_proxy.sansio.address import ip_of
from tcp_proxy.sansio.token_bucket import SECOND, TokenBucket
from tcp_proxy.wire.client_table import APP_FULL_AT, APP_LOCK, STRIPES, WAYS, WORKERS, ClientTable, Place
from tcp_proxy.wire.counters import (
    CLIENTS_FORGOTTEN,
    CLIENTS_UNTRACKED,
    DELAY_MICROSECONDS,
    DELAYED,
    LIMITED,
    LIMITS,
    Row,
)

REMEMBERED = 20_000  # addresses whose entry is known without a search
ANY_NUMBER = 1 << 40
RATE, RATE_PER_CLIENT, SESSIONS_PER_CLIENT = range(len(LIMITS))
_IPV4 = 1 << 32  # keys of IPv4 are above it; of IPv6 there is no network there
_NOBODY = 1 << 33  # instead of 0


# Its key, its entry or -1, where that is, and its lock; numbers as they are in the tables, for a compiled build would make
# others of them and back each time they are looked at.
Known = tuple[Any, Any, Any, Any]


class Verdict(NamedTuple):
    """A client, or request, that is not let in at once. `limit`: one of wire.counters.LIMITS; -1: it has its turn in `wait`
    seconds. Otherwise that is when it would have had one, 0 where nobody knows."""

    limit: int
    wait: float


class ClientLimits:
    """Of one app, whose counters begin at `slot`. `row`: of the loop's thread."""

    def __init__(
        self, table: ClientTable, number: int, slot: int, row: Row, limits: SessionLimits, is_http: bool = False
    ) -> None:
        self.number = number  # of the table
        self.holders: dict[int, int] = {}  # number of a session -> its client's entry; changed by one call each time
        self._table = table
        self._keys, self._full_at, self._own, self._own_of_others = table.keys, table.full_at, table.own, table.own_of_others
        self._words = table.words
        self._stuck, self._app_lock = table.locks.stuck, table.locks.at[APP_LOCK]
        self._row = row
        self._lock = threading.Lock()  # guards the column of all threads but the loop's
        self._slot = slot
        self._known: dict[str, Known] = {}  # by address
        self._at, self._nanoseconds = -1.0, 0  # the same time: of this turn of the loop
        self.configure(limits, is_http)

    def __repr__(self) -> str:
        return f"<ClientLimits {len(self.holders)} held of {self._table!r}>"

    def configure(self, limits: SessionLimits, is_http: bool) -> None:
        """What is known of clients stays."""
        self.limits = limits
        app = TokenBucket(limits.rate, limits.burst) if limits.rate else None
        client = TokenBucket(limits.rate_per_client, limits.burst_per_client) if limits.rate_per_client else None
        pace = limits.bytes_per_second_per_client
        self._client_bytes = TokenBucket(pace) if pace else None
        self._most = limits.sessions_per_client or (ANY_NUMBER if pace else 0)  # 0: sessions are not counted by client
        self._of_sessions = (None, None) if is_http else (app, client)
        self._by_client = self._most > 0 or self._of_sessions[1] is not None
        self._of_requests = app, client
        self._wait_most = int(limits.queue_timeout * SECOND) if limits.action == "delay" else 0
        client = self._of_sessions[1]
        self._interval, self._depth = (client.interval, client.depth) if client is not None else (0, 0)
        if not self._by_client:
            self._known = {}

    # -- questions, in the loop's thread

    def lets_in(self, address: tuple[Any, ...], number: int, now: float) -> bool:
        """Whether the session may begin at once, and is its client's, whom we know; else nothing has changed, and `admit`
        says more. In one piece, on what `configure` has laid out: most clients pay this and nothing else."""
        known, app = self._known.get(address[0]), self._of_sessions[0]
        if known is None:
            return not self._by_client and (app is None or self._is_below(app, int(now * SECOND)))
        key, entry, place, lock = known
        code = try_lock(lock)
        if code or self._stuck:
            return self._leave_to_admit(place[2], code)
        try:
            if entry < 0 or self._keys[entry] != key:
                return False
            most, mine = self._most, 0
            if most:
                mine = self._own[entry]
                is_alone = self._words[WORKERS] == 1
                if (mine + self._own_of_others[entry] if is_alone else self._table.sessions(entry)) >= most:
                    return False
            if now != self._at:
                self._at, self._nanoseconds = now, int(now * SECOND)
            at = later = self._nanoseconds
            interval = self._interval
            if interval:  # as TokenBucket.take
                later = self._full_at[entry]
                later = (later if later > at else at) + interval
                if later - at > self._depth:
                    return False
            if app is not None and not self._is_below(app, at):
                return False
            if interval:
                self._full_at[entry] = later
            if most:
                self._own[entry] = mine + 1
                self.holders[number] = entry
            return True
        finally:
            unlock(lock)

    def _is_below(self, app: TokenBucket, now: int) -> bool:
        """Whether the app has a token, which is taken then."""
        lock = self._app_lock
        code = try_lock(lock)
        if code or self._stuck:
            return self._leave_to_admit(APP_LOCK, code)
        full_at, wait = app.take(self._words[APP_FULL_AT], now)
        if wait <= 0:
            self._words[APP_FULL_AT] = full_at
        unlock(lock)
        return wait <= 0

    def _leave_to_admit(self, number: int, code: int) -> bool:
        """This lock is not to be had at once, or something is the matter with it."""
        locks = self._table.locks
        if locks.take_late(number, code):
            locks.give(number)
        return False

    def admit(self, address: tuple[Any, ...], number: int, now: float) -> Verdict | None:
        """None: the session may begin, and is its client's."""
        app, client = self._of_sessions
        if self._by_client:
            return self._of_client(address, number, now, app, client)
        return self._of_app(app, int(now * SECOND), 0) if app is not None else None

    def admit_request(self, address: tuple[Any, ...], now: float) -> Verdict | None:
        app, client = self._of_requests
        if client is not None:
            return self._of_client(address, 0, now, app, client)
        return self._of_app(app, int(now * SECOND), 0) if app is not None else None

    def _of_client(
        self, address: tuple[Any, ...], number: int, now: float, app: TokenBucket | None, client: TokenBucket | None
    ) -> Verdict | None:
        """All or nothing. `number` 0: it is no session, but a request."""
        ip, table, most = address[0], self._table, self._most if number else 0
        known = self._known.get(ip) or self._remember(ip, address)
        key, entry, place, at = known
        stripe, verdict, locks = place[2], None, table.locks
        code = try_lock(at)
        is_ours = locks.take_late(stripe, code) if code or locks.stuck else True
        try:
            if entry < 0 or table.keys[entry] != key:
                entry = self._entry_of(ip, key, place, now)
            if entry < 0:
                return self._of_app(app, int(now * SECOND), 0) if app is not None else None
            if most and table.sessions(entry) >= most:
                return self._refused(SESSIONS_PER_CLIENT, 0)
            if client is not None or app is not None:
                nanoseconds, wait = int(now * SECOND), 0
                if client is not None:  # as TokenBucket.take
                    full_at = table.full_at[entry]
                    full_at = (full_at if full_at > nanoseconds else nanoseconds) + client.interval
                    wait = full_at - nanoseconds - client.depth
                    if wait > self._wait_most:
                        return self._refused(RATE_PER_CLIENT, wait)
                if app is not None or wait > 0:
                    verdict = self._of_app(app, nanoseconds, wait) if app is not None else self._later(wait)
                    if verdict is not None and verdict.limit >= 0:
                        return verdict
                if client is not None:
                    table.full_at[entry] = full_at
            if most:
                table.own[entry] += 1
                self.holders[number] = entry
            return verdict
        finally:
            if is_ours:
                unlock(at)

    def _of_app(self, app: TokenBucket, now: int, wait: int) -> Verdict | None:
        """`wait`: that the client has to in any case."""
        words, locks = self._table.words, self._table.locks
        at = locks.at[APP_LOCK]
        code = try_lock(at)
        is_ours = locks.take_late(APP_LOCK, code) if code or locks.stuck else True
        full_at, for_app = app.take(words[APP_FULL_AT], now)
        if for_app <= self._wait_most:
            words[APP_FULL_AT] = full_at
        if is_ours:
            unlock(at)
        if for_app > self._wait_most:
            return self._refused(RATE, for_app)
        if for_app > wait:
            wait = for_app
        return self._later(wait) if wait > 0 else None

    def _refused(self, limit: int, wait: int) -> Verdict:
        self._row[self._slot + LIMITED + limit] += 1
        return Verdict(limit, wait / SECOND)

    def _later(self, wait: int) -> Verdict | None:
        if wait <= 0:
            return None
        self._row[self._slot + DELAYED] += 1
        self._row[self._slot + DELAY_MICROSECONDS] += wait // 1000
        return Verdict(-1, wait / SECOND)

    def _entry_of(self, ip: str, key: int, place: Place, now: float) -> int:
        """Under the lock of the client's stripe, in the loop's thread."""
        entry = self._table.find(key, place)
        if entry < 0:
            entry, is_forgotten = self._table.find_room(key, place, int(now * SECOND))
            self._row[self._slot + CLIENTS_FORGOTTEN] += is_forgotten
        if entry < 0:
            self._row[self._slot + CLIENTS_UNTRACKED] += 1
        self._known[ip] = (key, entry, place, self._table.locks.at[place[2]])
        return entry

    # -- sessions

    def release(self, number: int, row: Row) -> None:
        """This session is over; one that is not counted may say so, too. In its own thread, whose row it is."""
        entry: Any = self.holders.pop(number, -1)
        if entry >= 0:
            if row is self._row:
                self._own[entry] -= 1
            else:
                self._count(entry, -1, row)

    def _count(self, entry: int, change: int, row: Row) -> None:
        if row is self._row:
            self._table.own[entry] += change
        else:
            with self._lock:
                self._table.own_of_others[entry] += change

    def spend(self, number: int, is_down: bool, count: int, now: int) -> int:
        """A session has moved so many bytes: for how many nanoseconds its client may move nothing more in that direction. In
        the loop's thread."""
        bucket, entry = self._client_bytes, self.holders.get(number, -1)
        if bucket is None or entry < 0:
            return 0
        table, stripe = self._table, entry // WAYS % STRIPES
        is_ours = table.locks.take(stripe)
        full_at, wait = bucket.spend(table.bytes_full_at[is_down][entry], now, count)
        table.bytes_full_at[is_down][entry] = full_at
        if is_ours:
            table.locks.give(stripe)
        return wait

    def count_in(self, members: Iterable[Any], now: float, row: Row) -> None:
        """In the thread of these sessions, which are of the app: those that are not counted yet, whatever the limit is."""
        for member in members if self._most else ():
            if member.number not in self.holders:
                key, _, place, _ = self._remember(member.address[0], member.address)
                is_ours = self._table.locks.take(place[2])
                entry = self._table.find(key, place)
                if entry < 0:
                    entry, _ = self._table.find_room(key, place, int(now * SECOND))
                if entry >= 0:
                    self.holders[member.number] = entry
                    self._count(entry, 1, row)
                else:
                    row[self._slot + CLIENTS_UNTRACKED] += 1
                if is_ours:
                    self._table.locks.give(place[2])

    # -- keys

    def _remember(self, ip: str, address: tuple[Any, ...]) -> Known:
        """In any thread; the entry is not known yet."""
        key = self._key_of(ip_of(address))
        if len(self._known) >= REMEMBERED:
            self._known = {}
        place = self._table.place_of(key)
        known = self._known[ip] = (key, -1, place, self._table.locks.at[place[2]])
        return known

    def _key_of(self, ip: str) -> int:
        """Of 64 bits, never 0. Networks of IPv6 longer than that are told by a hash of them, keyed with what is in the
        table: two that have the same one are one client, which nobody can bring about."""
        if ":" not in ip:
            left_out = 32 - self.limits.ipv4_prefix
            return _IPV4 | int.from_bytes(inet_aton(ip), "big") >> left_out << left_out
        left_out = 128 - self.limits.ipv6_prefix
        network = int.from_bytes(inet_pton(AF_INET6, ip.partition("%")[0]), "big") >> left_out << left_out
        if self.limits.ipv6_prefix > 64:
            digest = blake2b(network.to_bytes(16, "big"), digest_size=8, key=self._table.words[1:4].tobytes())
            return int.from_bytes(digest.digest(), "big") or _NOBODY
        return network >> 64 or _NOBODY


def why(verdict: Verdict, limits: SessionLimits) -> str:
    """For the record of a client, or request, that was not let in."""
    if verdict.limit == SESSIONS_PER_CLIENT:
        return f"it has as many sessions as limits.sessions_per_client allows ({limits.sessions_per_client})"
    if verdict.limit == RATE:
        return f"the app is above its limits.rate ({limits.rate:g}/s)"
    return f"it is above limits.rate_per_client ({limits.rate_per_client:g}/s)"
