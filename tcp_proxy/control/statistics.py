"""All statistics of the program as one plain value: what the counters' memory says, with names instead of slots.

Main thread of the supervisor only; `as_dict()` holds nothing that JSON cannot say, so that another process can make
metrics of it (control.metrics). docs/statistics.md says what each number means.

Peaks: no thread sees all rows change, so a peak is the largest sum seen at a look: one each second, and one whenever the
statistics are asked for. Gauges are sums over rows that change while they are read; one that comes out below zero was.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from tcp_proxy import __version__
from tcp_proxy.counters import (
    ACCEPTED,
    ACTIVE,
    APP_ACCEPTED,
    APP_SLOTS,
    BLOCKS,
    BYTES_DOWN,
    BYTES_UP,
    CONNECT_BUCKETS,
    CONNECT_MICROSECONDS,
    CONNECT_SLOTS,
    CONNECTS,
    DURATIONS,
    ENDS,
    FAILURES,
    HTTP_BUCKETS,
    HTTP_FAILURES,
    HTTP_LATENCIES,
    HTTP_MICROSECONDS,
    HTTP_SLOTS,
    HTTP_STATUS,
    LISTENER_ACCEPTED,
    LISTENER_ENDED,
    LOST,
    RETRIES,
    SESSION_BUCKETS,
    SESSION_MICROSECONDS,
    SESSION_SLOTS,
    SESSIONS,
    STICK_FALLBACKS,
    TARGET_SLOTS,
    Counters,
)
from tcp_proxy.sansio import reasons
from tcp_proxy.sansio.reasons import Reason

SAMPLE_EVERY = 1.0  # seconds
REASONS = tuple(reason.value for reason in Reason)
STATUSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")  # of requests in mode http
WORKER_DIED = "worker_died"  # beside the reasons: nobody was left to write a record

Key = tuple[str, ...]
View = dict[str, Any]
Words = list[int]
Now = Mapping[tuple[str, Key], int]  # (kind, key) of an owner -> its sessions now


class Blocks(Protocol):
    """Who owns which counters; a key may come twice."""

    def blocks(self, kind: str) -> Iterable[tuple[Key, int]]: ...


class KnownTarget(Protocol):
    @property
    def state(self) -> Any: ...


class KnownConfig(Protocol):
    @property
    def http(self) -> object: ...

    @property
    def sticky(self) -> object: ...


class KnownApp(Protocol):
    @property
    def config(self) -> KnownConfig: ...

    @property
    def targets(self) -> Mapping[str, KnownTarget]: ...


class Known(Protocol):
    @property
    def apps(self) -> Mapping[str, KnownApp]: ...


class ProbeResults(Protocol):
    def all(self) -> Mapping[tuple[str, str], dict[str, Any]]: ...


class Peaks:
    """The largest value seen of each owner's sessions."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Key], int] = {}

    def __repr__(self) -> str:
        return f"<Peaks of {len(self._seen)}>"

    def see(self, now: Now) -> None:
        """All owners there are, and what they have now; others are forgotten."""
        before = self._seen.get
        self._seen = {owner: max(count, before(owner, 0)) for owner, count in now.items()}

    def of(self, kind: str, key: Key) -> int:
        return self._seen.get((kind, key), 0)


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
        self._started = started
        self._peaks = Peaks()

    def __repr__(self) -> str:
        return f"<Statistics of {len(self._known.apps)} apps, {self._peaks!r}>"

    def sample(self) -> dict[tuple[str, Key], int]:
        """Look at all sessions there are now, for the peaks."""
        listeners, targets = list(self._slots.blocks("listener")), list(self._slots.blocks("target"))
        totals = self._memory.totals
        accepted = totals([slot + LISTENER_ACCEPTED for _, slot in listeners])
        ended = totals([slot + LISTENER_ENDED for _, slot in listeners])
        active = totals([slot + ACTIVE for _, slot in targets])
        now: dict[tuple[str, Key], int] = {("process", ()): max(0, self._memory.total(SESSIONS))}
        for (key, _), begun, over in zip(listeners, accepted, ended, strict=True):
            current = max(0, begun - over)
            now["listener", key] = now.get(("listener", key), 0) + current
            now["app", key[:1]] = now.get(("app", key[:1]), 0) + current
        for (key, _), current in zip(targets, active, strict=True):
            now["target", key] = now.get(("target", key), 0) + max(0, current)
        self._peaks.see(now)
        return now

    def as_dict(self) -> View:
        """Everything."""
        words, now = self._words, self.sample()
        look = _Look(now, words("listener"), words("target"), words("app"), self._probes.all())
        return {
            "version": __version__,
            "started": self._started,
            "workers_died": self.workers_died,
            "sessions": {**self._sessions(look, "process", ()), "total": self._memory.total(ACCEPTED)},
            "apps": {name: self._app(look, name, known) for name, known in self._known.apps.items()},
        }

    def _app(self, look: "_Look", name: str, known: KnownApp) -> View:
        """What the app's own block counts, and what its targets' do, the ones that have left among them."""
        own = look.apps[name].get((name,), [0] * APP_SLOTS)
        accepted = {key[1]: words[LISTENER_ACCEPTED] for key, words in look.listeners[name].items()}
        total = own[APP_ACCEPTED] + sum(accepted.values())
        is_http = known.config.http is not None
        sticky = {} if known.config.sticky is None else {"stick_fallbacks": own[STICK_FALLBACKS]}
        return {
            "sessions": {**self._sessions(look, "app", (name,)), "total": total},
            **sticky,
            **_block(_added([own, *look.targets[name].values()]), is_http),
            "listeners": {
                address: {"sessions": {**self._sessions(look, "listener", (name, address)), "total": count}}
                for address, count in accepted.items()
            },
            "targets": {target: self._target(look, (name, target), one, is_http) for target, one in known.targets.items()},
        }

    def _target(self, look: "_Look", key: tuple[str, str], known: KnownTarget, is_http: bool) -> View:
        words = look.targets[key[0]].get(key, [0] * TARGET_SLOTS)
        connected = sum(words[CONNECTS : CONNECTS + CONNECT_SLOTS])
        return {
            "state": known.state.value,
            "sessions": {**self._sessions(look, "target", key), "total": connected},
            **_block(words, is_http),
            "probes": look.probes.get(key, {}),
        }

    def _sessions(self, look: "_Look", kind: str, key: Key) -> View:
        return {"current": look.now.get((kind, key), 0), "peak": self._peaks.of(kind, key)}

    def _words(self, kind: str) -> defaultdict[str, dict[Key, Words]]:
        """By app and key: the sums of the owner's block; of both, if an earlier owner of the name has sessions left."""
        found: defaultdict[str, dict[Key, Words]] = defaultdict(dict)
        for key, slot in self._slots.blocks(kind):
            words, there = self._memory.sums(slot, BLOCKS[kind]), found[key[0]]
            there[key] = _added([there[key], words]) if key in there else words
        return found


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at everything. The sums of all blocks are by app, then by key."""

    now: Now
    listeners: defaultdict[str, dict[Key, Words]]
    targets: defaultdict[str, dict[Key, Words]]
    apps: defaultdict[str, dict[Key, Words]]
    probes: Mapping[tuple[str, str], View]


def _block(words: Words, is_http: bool) -> View:
    """What the blocks of targets and apps have in common."""
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
        "seconds": _histogram(HTTP_BUCKETS, words[HTTP_LATENCIES:][:HTTP_SLOTS], words[HTTP_MICROSECONDS]),
    }


def _histogram(bounds: tuple[float, ...], counts: Words, microseconds: int) -> View:
    """`upto` counts what is at most each of `bounds`; `count` counts all."""
    *upto, count = accumulate(counts)
    return {"bounds": list(bounds), "upto": upto, "count": count, "sum": microseconds / 1e6}


def _added(blocks: list[Words]) -> Words:
    """Word by word, as far as the shortest goes."""
    return list(map(sum, zip(*blocks, strict=False)))
