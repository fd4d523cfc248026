"""What the API's process asks for every few seconds, to make rates and charts of it: the counters that change, as rows of
plain numbers, and no word more. Of 1,000 targets that are in use it is a third of the whole statistics' cost.

Main thread of the supervisor only. A sample says by itself what its columns are; targets that have never counted anything
are left out, and listeners that nobody has come by.

    {"columns": [...], "buckets": {"tcp": [seconds], "http": [seconds]}, "sessions": now, "accepted": total, "apps": {name: {
        "mode": "tcp", "states": {"up": 2, ...}, "queue": now or null, "refused": total,
        "statuses": null or, in mode http, {"2xx": total, ...}, "listeners": {address: [now, total]},
        "targets": {name: row}, "row": that of the app}}}

A row is its columns, then one number for each bucket of its mode (connects in tcp, answers in http) and one for all above.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from operator import add
from typing import Any, Protocol

from tcp_proxy.control.long_answer import LongMap, Made, Parts
from tcp_proxy.control.statistics.totals import NOTHING, STATUSES, Blocks, Key, View, Words
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.counters import (
    ACCEPTED,
    ACTIVE,
    APP_ACCEPTED,
    APP_SLOTS,
    BYTES_DOWN,
    BYTES_UP,
    CONNECT_BUCKETS,
    CONNECT_MICROSECONDS,
    CONNECT_SLOTS,
    CONNECTS,
    ENDS,
    FAILURES,
    HTTP_BUCKETS,
    HTTP_CONNECTIONS,
    HTTP_LATENCIES,
    HTTP_SLOTS,
    HTTP_STATUS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    QUEUED,
    REFUSED,
    RETRIES,
    SESSIONS,
    TARGET_SLOTS,
    Counters,
    Pages,
)

COLUMNS = (
    "sessions", "accepted", "requests", "up", "down", "failures", "errors", "retries", "connections",
)  # fmt: skip
FIVE_HUNDRED = HTTP_STATUS + 5
Owners = list[tuple[str, int]]  # name, first slot


class KnownTarget(Protocol):
    @property
    def state(self) -> State: ...


class KnownApp(Protocol):
    @property
    def config(self) -> Any: ...

    @property
    def targets(self) -> Mapping[str, KnownTarget]: ...


class Known(Protocol):
    @property
    def apps(self) -> Mapping[str, KnownApp]: ...


class Samples:
    def __init__(self, memory: Counters, slots: Blocks, known: Known) -> None:
        self._memory = memory
        self._slots = slots
        self._known = known

    def __repr__(self) -> str:
        return f"<Samples of {len(self._known.apps)} apps>"

    def take(self) -> View:
        """One, to be read in slices (control.long_answer)."""
        blocks, pages = self._slots.blocks, self._memory.pages()
        listeners = self._listeners(pages)
        own, left = _by_app(blocks("app")), _by_app(self._slots.earlier("target"))
        apps = list(self._known.apps.items())
        return Parts({
            "columns": COLUMNS,
            "buckets": {"tcp": CONNECT_BUCKETS, "http": HTTP_BUCKETS},
            "sessions": max(0, self._memory.total(SESSIONS)),
            "accepted": self._memory.total(ACCEPTED),
            "apps": LongMap((app, self._app(app, one, listeners[app], own[app], left[app], pages)) for app, one in apps),
        })  # fmt: skip

    def _listeners(self, pages: Pages) -> defaultdict[str, dict[str, list[int]]]:
        """By app and address, those that somebody has come by: sessions now, and in all."""
        blocks, totals = self._slots.blocks("listener"), self._memory.written_totals
        accepted = totals([slot + LISTENER_ACCEPTED for _, slot in blocks], pages)
        ended = totals([slot + LISTENER_ENDED for _, slot in blocks], pages)
        found: defaultdict[str, dict[str, list[int]]] = defaultdict(dict)
        for ((app, address), _), begun, over in zip(blocks, accepted, ended, strict=True):
            if begun:
                now, total = found[app].get(address, (0, 0))
                found[app][address] = [now + max(0, begun - over), total + begun]
        return found

    def _app(
        self,
        name: str,
        known: KnownApp,
        listeners: dict[str, list[int]],
        own: Owners,
        left: Owners,
        pages: Pages,
    ) -> View:
        is_http = known.config.http is not None
        block = [0] * APP_SLOTS
        for slot in [slot for _, slot in own if pages.have(slot, APP_SLOTS)]:
            block = _added(block, self._memory.sums(slot, APP_SLOTS))
        total, states = block[:TARGET_SLOTS], dict.fromkeys((state.value for state in State), 0)
        sessions = sum(now for now, _ in listeners.values()), block[APP_ACCEPTED] + sum(all for _, all in listeners.values())
        return Parts({
            "mode": "http" if is_http else "tcp",
            "queue": max(0, block[QUEUED]) if known.config.limits.queue else None,
            "refused": sum(block[REFUSED:QUEUED]),
            "listeners": listeners,
            "targets": LongMap(self._targets(name, list(known.targets.items()), left, total, states, is_http, pages)),
            "states": Made(lambda: states),
            "statuses": Made(lambda: dict(zip(STATUSES, total[HTTP_STATUS:], strict=False)) if is_http else None),
            "row": Made(lambda: [*sessions, *_row(total, is_http)[2:]]),
        })  # fmt: skip

    def _targets(
        self,
        app: str,
        targets: list[tuple[str, KnownTarget]],
        left: Owners,
        total: Words,
        states: dict[str, int],
        is_http: bool,
        pages: Pages,
    ) -> Iterator[tuple[str, list[int]] | None]:
        """Those that have counted anything; all are added to the app's words, those that have left, too."""
        owned = self._slots.owned("target")
        earlier: defaultdict[str, list[int]] = defaultdict(list)
        for name, slot in left:
            earlier[name].append(slot)
        for name, known in targets:
            states[known.state.value] += 1
            slots = earlier.pop(name, [])
            if (app, name) in owned:
                slots.append(owned[app, name])
            words = self._block_of(slots, total, pages)
            yield None if words is NOTHING else (name, _row(words, is_http))
        for slots in earlier.values():
            self._block_of(slots, total, pages)
            yield None

    def _block_of(self, slots: list[int], total: Words, pages: Pages) -> Words:
        """Of both, if an earlier owner of the name has sessions left."""
        words = NOTHING
        for slot in [slot for slot in slots if pages.have(slot, TARGET_SLOTS)]:
            found = self._memory.sums(slot, TARGET_SLOTS)
            if found != NOTHING:
                words = found if words is NOTHING else _added(words, found)
        if words is not NOTHING:
            total[:] = _added(total, words)
        return words


def _by_app(blocks: list[tuple[Key, int]]) -> defaultdict[str, Owners]:
    """The last part of each one's name, and its first slot."""
    found: defaultdict[str, Owners] = defaultdict(list)
    for key, slot in blocks:
        found[key[0]].append((key[-1], slot))
    return found


def _added(one: Words, other: Words) -> Words:
    return list(map(add, one, other))


def _row(words: Words, is_http: bool) -> list[int]:
    """In mode http errors are answers of 5xx, and none; else sessions that ended in another way than well."""
    statuses = words[HTTP_STATUS : FIVE_HUNDRED + 1]
    errors = statuses[0] + statuses[-1] if is_http else sum(words[ENDS + 1 : ENDS + len(Reason)]) + words[LOST]
    latencies = words[HTTP_LATENCIES:][:HTTP_SLOTS] if is_http else words[CONNECTS:][:CONNECT_SLOTS]
    return [
        max(0, words[ACTIVE]), sum(words[CONNECTS : CONNECTS + CONNECT_SLOTS]), sum(statuses), words[BYTES_UP],
        words[BYTES_DOWN], sum(words[FAILURES:CONNECT_MICROSECONDS]), errors, words[RETRIES],
        max(0, words[HTTP_CONNECTIONS]), *latencies,
    ]  # fmt: skip
