"""All statistics of the program as one plain value: what the counters' memory says, with names instead of slots.

Main thread of the supervisor only; `as_dict()` holds nothing that JSON cannot say, so that another process can make
metrics of it (control.statistics.prometheus). docs/statistics.md says what each number means.

Peaks: no thread sees all rows change, so a peak is the largest sum seen at a look: one each second, and one whenever the
statistics are asked for. Gauges are sums over rows that change while they are read; one that comes out below zero was.
"""

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from functools import cache, partial
from itertools import accumulate, compress
from typing import Any, Protocol

from tcp_proxy import __version__, build
from tcp_proxy.config.model import Access, SessionLimits
from tcp_proxy.control.long_answer import LongMap, Made, Parts
from tcp_proxy.sansio import reasons
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.reasons import Reason, Refusal
from tcp_proxy.wire.counters import (
    ACCEPTED,
    ACTIVE,
    APP_ACCEPTED,
    APP_SLOTS,
    BYTES_DOWN,
    BYTES_UP,
    CLIENTS_FORGOTTEN,
    CLIENTS_UNTRACKED,
    CONNECT_BUCKETS,
    CONNECT_MICROSECONDS,
    CONNECT_SLOTS,
    CONNECTS,
    DELAY_MICROSECONDS,
    DELAYED,
    DURATIONS,
    ENDS,
    FAILURES,
    FAULTED,
    HTTP_BUCKETS,
    HTTP_CONNECTIONS,
    HTTP_FAILURES,
    HTTP_LATENCIES,
    HTTP_MICROSECONDS,
    HTTP_SLOTS,
    HTTP_STATUS,
    LIMITED,
    LIMITS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    OUTLIER_FAILURES,
    QUEUE_MICROSECONDS,
    QUEUED,
    QUEUED_TOTAL,
    REFUSED,
    RETRIES,
    SESSION_BUCKETS,
    SESSION_MICROSECONDS,
    SESSION_SLOTS,
    SESSIONS,
    STICK_FALLBACKS,
    TARGET_SLOTS,
    Counters,
    Pages,
)

SAMPLE_EVERY = 1.0  # seconds
AT_ONCE = 2500  # targets that are looked at in a slice
REFUSALS = tuple(refusal.value for refusal in Refusal)
REASONS = tuple(reason.value for reason in Reason)
STATUSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")  # of requests in mode http
WORKER_DIED = "worker_died"  # beside the reasons: nobody was left to write a record

Key = tuple[str, ...]
View = dict[str, Any]
Words = list[int]
NOTHING = [0] * TARGET_SLOTS  # nobody changes it


class Blocks(Protocol):
    """Who owns which counters; a key may come twice."""

    def blocks(self, kind: str) -> list[tuple[Key, int]]: ...

    def owned(self, kind: str) -> Mapping[Key, int]: ...

    def earlier(self, kind: str) -> list[tuple[Key, int]]: ...


class KnownTarget(Protocol):
    @property
    def state(self) -> Any: ...

    @property
    def ejected(self) -> str: ...

    @property
    def ejections(self) -> Mapping[str, int] | None: ...


class KnownConfig(Protocol):
    @property
    def http(self) -> object: ...

    @property
    def sticky(self) -> object: ...

    @property
    def limits(self) -> SessionLimits: ...

    @property
    def access(self) -> Access | None: ...

    @property
    def panic(self) -> float: ...

    @property
    def outlier(self) -> object: ...


class KnownApp(Protocol):
    @property
    def config(self) -> KnownConfig: ...

    @property
    def targets(self) -> Mapping[str, KnownTarget]: ...

    @property
    def is_panicking(self) -> bool: ...


class Known(Protocol):
    @property
    def apps(self) -> Mapping[str, KnownApp]: ...


class ProbeResults(Protocol):
    def of(self, app: str, target: str) -> Mapping[str, Any]: ...


class Peaks:
    """The largest value seen of each owner's sessions; of those that have had any."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[Key, int]] = {}

    def __repr__(self) -> str:
        return f"<Peaks of {sum(map(len, self._seen.values()))}>"

    def given(self) -> list[list[Any]]:
        """For a program that takes over."""
        return [[kind, list(key), count] for kind, seen in self._seen.items() for key, count in seen.items()]

    def take(self, given: list[list[Any]]) -> None:
        for kind, key, count in given:
            self._seen.setdefault(kind, {})[tuple(key)] = count

    def see(self, kind: str, keys: Iterable[Key], now: Collection[int]) -> None:
        """Some owners of a kind, and what they have now."""
        seen = self._seen.setdefault(kind, {})
        for key, count in zip(compress(keys, now), compress(now, now), strict=True):
            if count > seen.get(key, 0):
                seen[key] = count

    def keep(self, kind: str, owners: Container[Key]) -> None:
        """Others are forgotten."""
        seen = self._seen.get(kind, {})
        for key in [key for key in seen if key not in owners]:
            del seen[key]

    def of(self, kind: str, key: Key, now: int) -> int:
        """`now` is a look, too."""
        seen = self._seen.setdefault(kind, {})
        if now > seen.get(key, 0):
            seen[key] = now
        return seen.get(key, 0)


class Statistics:
    """`started`: Unix time."""

    def __init__(
        self,
        memory: Counters,
        slots: Blocks,
        known: Known,
        probes: ProbeResults,
        started: float,
    ) -> None:
        self.workers_died = 0
        self._memory = memory
        self._slots = slots
        self._known = known
        self._probes = probes
        self.started = started
        self.peaks = Peaks()

    def __repr__(self) -> str:
        return f"<Statistics of {len(self._known.apps)} apps, {self.peaks!r}>"

    def sampling(self) -> Iterator[None]:
        """Look at all sessions there are now, for the peaks. Every second, in slices: with 20,000 targets 10 ms in all."""
        pages = self._memory.pages()
        self._look_at_listeners(pages)
        owned, earlier = self._slots.owned("target"), self._slots.earlier("target")
        blocks = [*pages.among(owned.items(), ACTIVE), *pages.among(earlier, ACTIVE)]
        for begin in range(0, len(blocks), AT_ONCE):
            some = blocks[begin : begin + AT_ONCE]
            self.peaks.see("target", [key for key, _ in some], self._active([slot for _, slot in some]))
            yield
        begun: dict[Key, int] = {}
        for key, slot in earlier if len(earlier) < AT_ONCE else ():  # both are one
            begun[key] = begun.get(key, 0) + self._active([slot])[0]
        for key, count in begun.items():
            if count and key in owned:
                self.peaks.see("target", [key], [count + self._active([owned[key]])[0]])
        self.peaks.keep("target", owned.keys() | begun.keys())

    def sample(self) -> None:
        """The same at once."""
        for _ in self.sampling():
            pass

    def _active(self, slots: list[int]) -> list[int]:
        return [max(0, count) for count in self._memory.totals([slot + ACTIVE for slot in slots])]

    def _look_at_listeners(self, pages: Pages) -> tuple[dict[Key, int], dict[Key, int]]:
        listeners, apps = self._listeners(pages)
        queues, totals = self._slots.blocks("app"), self._memory.written_totals
        self.peaks.see("queue", [key for key, _ in queues], totals([slot + QUEUED for _, slot in queues], pages))
        self.peaks.see("process", [()], [max(0, self._memory.total(SESSIONS))])
        for kind, now in (("listener", listeners), ("app", apps)):
            self.peaks.see(kind, now, now.values())
            self.peaks.keep(kind, now)
        return listeners, apps

    def _listeners(self, pages: Pages) -> tuple[dict[Key, int], dict[Key, int]]:
        """The sessions that listeners have now, and their apps."""
        blocks, totals = self._slots.blocks("listener"), self._memory.written_totals
        slots = [slot for _, slot in blocks]
        accepted, ended = (totals([slot + word for slot in slots], pages) for word in (LISTENER_ACCEPTED, LISTENER_ENDED))
        listeners: dict[Key, int] = {}
        apps: dict[Key, int] = {}
        for (key, _), begun, over in zip(blocks, accepted, ended, strict=True):
            current = max(0, begun - over)
            listeners[key] = listeners.get(key, 0) + current
            apps[key[:1]] = apps.get(key[:1], 0) + current
        return listeners, apps

    def as_dict(self, is_brief: bool = False) -> View:
        """Everything, to be read in slices (control.long_answer). `is_brief`: of a target that has counted nothing only what
        is its own; the rest is in `nothing`, by mode."""
        pages = self._memory.pages()
        of_left: defaultdict[str, dict[Key, list[int]]] = defaultdict(dict)
        for key, slot in self._slots.earlier("target"):
            of_left[key[0]].setdefault(key, []).append(slot)
        now = self._look_at_listeners(pages)
        look = _Look(*now, self._by_app("listener"), self._by_app("app"), of_left, pages)
        sessions = self._sessions("process", (), max(0, self._memory.total(SESSIONS)))
        return Parts({
            "version": __version__,
            "build": build(),
            "started": self.started,
            "workers_died": self.workers_died,
            "sessions": {**sessions, "total": self._memory.total(ACCEPTED)},
            "apps": LongMap((name, self._app(look, name, one, is_brief)) for name, one in list(self._known.apps.items())),
            **({"nothing": {"tcp": _quiet(False), "http": _quiet(True)}} if is_brief else {}),
        })  # fmt: skip

    def _app(self, look: "_Look", name: str, known: KnownApp, is_brief: bool) -> View:
        """What the app's own block counts, and what its targets' do, the ones that have left among them."""
        slots = [slot for slot in look.app_blocks[name].get((name,), ()) if look.pages.have(slot, APP_SLOTS)]
        total = _added([[0] * APP_SLOTS, *(self._memory.sums(slot, APP_SLOTS) for slot in slots)])
        is_http = known.config.http is not None
        sticky = {} if known.config.sticky is None else {"stick_fallbacks": total[STICK_FALLBACKS]}
        queue = {"queue": self._queue(name, total)} if known.config.limits.queue else {}
        panic = {"panicking": known.is_panicking} if known.config.panic else {}
        listeners = look.listener_blocks[name]
        accepted = {
            key[1]: sum(self._memory.total(slot + LISTENER_ACCEPTED) for slot in slots if look.pages.have(slot))
            for key, slots in listeners.items()
        }
        words = total[:TARGET_SLOTS]
        block = cache(partial(_block, words, is_http))  # of what there is in the end, once for all that is shown of it
        return Parts({
            "sessions": {
                **self._sessions("app", (name,), look.apps.get((name,), 0)),
                "total": total[APP_ACCEPTED] + sum(accepted.values()),
            },
            **sticky,
            **queue,
            **panic,
            **({"faulted": total[FAULTED]} if total[FAULTED] else {}),
            **({"limits": _limits(total)} if known.config.limits.table else {}),
            **({"access": self._access(name, known.config.access.rules)} if known.config.access is not None else {}),
            "refused": dict(zip(REFUSALS, total[REFUSED:], strict=False)),
            "listeners": LongMap(
                (address, {"sessions": {
                    **self._sessions("listener", (name, address), look.listeners.get((name, address), 0)), "total": count
                }})
                for address, count in accepted.items()
            ),
            "targets": LongMap(self._targets(look, name, known, words, is_http, is_brief)),
            **{key: Made(partial(lambda key: block()[key], key)) for key in _nothing(is_http)},
        })  # fmt: skip

    def _access(self, app: str, rules: Iterable[tuple[str, str]]) -> list[View]:
        """The clients of each rule."""
        owned = self._slots.owned("rule")
        slots = [(rule, owned.get((app, *rule))) for rule in rules]
        totals = self._memory.totals([slot for _, slot in slots if slot is not None])
        counts = iter(totals)
        return [
            {"action": action, "rule": entry, "clients": 0 if slot is None else next(counts)}
            for (action, entry), slot in slots
        ]

    def _targets(
        self, look: "_Look", app: str, of: KnownApp, total: Words, is_http: bool, is_brief: bool
    ) -> Iterator[tuple[str, View] | None]:
        """Each target; what it counts is added to its app's, and what those that have left did."""
        owned, has_outlier, left = self._slots.owned("target"), of.config.outlier is not None, look.of_left[app]
        for name, known in list(of.targets.items()):
            key = app, name
            slots = [owned[key]] if key in owned else []
            words = self._block_of(slots + left.pop(key, []) if left else slots, total, look.pages)
            view = self._brief(key, known) if is_brief and words is NOTHING else self._target(key, known, words, is_http)
            yield name, {**view, "outlier": _outlier(known, words)} if has_outlier else view
        for slots in left.values():
            self._block_of(slots, total, look.pages)
            yield None

    def _block_of(self, slots: Iterable[int], total: Words, pages: Pages) -> Words:
        """Of both, if an earlier owner of the name has sessions left."""
        words = NOTHING
        for slot in [slot for slot in slots if pages.have(slot, TARGET_SLOTS)]:
            found = self._memory.sums(slot, TARGET_SLOTS)
            if found != NOTHING:
                words = found if words is NOTHING else _added([words, found])
        if words is not NOTHING:
            total[:] = _added([total, words])
        return words

    def _target(self, key: tuple[str, str], known: KnownTarget, words: Words, is_http: bool) -> View:
        connected = sum(words[CONNECTS : CONNECTS + CONNECT_SLOTS])
        return {
            "state": known.state.value,
            "sessions": {**self._sessions("target", key, max(0, words[ACTIVE])), "total": connected},
            **(_nothing(is_http) if words is NOTHING else _block(words, is_http)),
            "probes": self._probes.of(*key),
        }

    def _brief(self, key: tuple[str, str], known: KnownTarget) -> View:
        """Of one that has counted nothing."""
        probes, peak = self._probes.of(*key), self.peaks.of("target", key, 0)
        had = {"sessions": {"current": 0, "peak": peak, "total": 0}} if peak else {}
        return {"state": known.state.value, **had, **({"probes": probes} if probes else {})}

    def _sessions(self, kind: str, key: Key, now: int) -> View:
        return {"current": now, "peak": self.peaks.of(kind, key, now)}

    def _queue(self, app: str, total: Words) -> View:
        """Clients that wait for a place; those who had to, and for how long in all."""
        seconds = total[QUEUE_MICROSECONDS] / 1e6
        return {**self._sessions("queue", (app,), max(0, total[QUEUED])), "total": total[QUEUED_TOTAL], "seconds": seconds}

    def _by_app(self, kind: str) -> defaultdict[str, dict[Key, list[int]]]:
        """The first slots of all blocks, by app and key."""
        found: defaultdict[str, dict[Key, list[int]]] = defaultdict(dict)
        for key, slot in self._slots.blocks(kind):
            found[key[0]].setdefault(key, []).append(slot)
        return found


@dataclass(frozen=True, slots=True)
class _Look:
    """Sessions now of listeners and apps; whose block is where."""

    listeners: dict[Key, int]
    apps: dict[Key, int]
    listener_blocks: defaultdict[str, dict[Key, list[int]]]
    app_blocks: defaultdict[str, dict[Key, list[int]]]
    of_left: defaultdict[str, dict[Key, list[int]]]  # those of targets that have left
    pages: Pages


def _limits(total: Words) -> View:
    """Clients, or requests, that were above a limit, by which one; those that had to wait for their turn."""
    return {
        "refused": dict(zip(LIMITS, total[LIMITED:], strict=False)),
        "delayed": total[DELAYED],
        "delay_seconds": total[DELAY_MICROSECONDS] / 1e6,
        "untracked": total[CLIENTS_UNTRACKED],
        "forgotten": total[CLIENTS_FORGOTTEN],
    }


def _outlier(known: KnownTarget, words: Words) -> View:
    ejections = {cause.value: (known.ejections or {}).get(cause.value, 0) for cause in reasons.Cause}
    return {"ejected": bool(known.ejected), "ejections": ejections, "failures": words[OUTLIER_FAILURES]}


@cache
def _nothing(is_http: bool) -> View:
    """Of a target that has counted nothing: of many, most."""
    return _block(NOTHING, is_http)


def _quiet(is_http: bool) -> View:
    """What those have that are said in brief, if they say nothing else."""
    return {"sessions": {"current": 0, "peak": 0, "total": 0}, **_nothing(is_http), "probes": {}}


def _block(words: Words, is_http: bool) -> View:
    """What the blocks of targets and apps have in common."""
    if words == NOTHING and words is not NOTHING:
        return _nothing(is_http)
    requests = {"requests": _requests(words)} if is_http else {}
    return {
        **requests,
        "bytes": {"up": words[BYTES_UP], "down": words[BYTES_DOWN]},
        "connect_failures": dict(zip(reasons.FAILURES, words[FAILURES:], strict=False)),
        "connect_retries": words[RETRIES],
        "session_ends": {**dict(zip(REASONS, words[ENDS:], strict=False)), WORKER_DIED: words[LOST]},
        "connect_seconds": _histogram(CONNECT_BUCKETS, words[CONNECTS:][:CONNECT_SLOTS], words[CONNECT_MICROSECONDS]),
        "session_seconds": _histogram(SESSION_BUCKETS, words[DURATIONS:][:SESSION_SLOTS], words[SESSION_MICROSECONDS]),
    }


def _requests(words: Words) -> View:
    return {
        "statuses": dict(zip(STATUSES, words[HTTP_STATUS:], strict=False)),
        "failures": words[HTTP_FAILURES],
        "connections": max(0, words[HTTP_CONNECTIONS]),
        "seconds": _histogram(HTTP_BUCKETS, words[HTTP_LATENCIES:][:HTTP_SLOTS], words[HTTP_MICROSECONDS]),
    }


def _histogram(bounds: tuple[float, ...], counts: Words, microseconds: int) -> View:
    """`upto` counts what is at most each of `bounds`; `count` counts all."""
    *upto, count = accumulate(counts)
    return {"bounds": list(bounds), "upto": upto, "count": count, "sum": microseconds / 1e6}


def _added(blocks: list[Words]) -> Words:
    """Word by word, as far as the shortest goes."""
    return list(map(sum, zip(*blocks, strict=False)))
