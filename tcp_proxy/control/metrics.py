"""The statistics as Prometheus metrics: the only file that knows their names. A value of control.statistics in, text out.

Imported by the process that answers HTTP, not by the supervisor. Names follow Prometheus' conventions: base units, `_total`
for what only grows. docs/statistics.md has the list.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

View = dict[str, Any]
Rows = Iterable[tuple[list[str], View]]  # labels, and the view they belong to

PREFIX = "tcp_proxy_"
PEAK = "Most sessions {}seen at once; looked at every second."
DIRECTIONS = {"up": "client_to_target", "down": "target_to_client"}


def render(statistics: View, accept: str = "") -> tuple[bytes, str]:
    """The text, in the format that `accept` (the header of that name) prefers, and its content type."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Once(statistics))
    return encode(registry), content_type


class _Once(Collector):
    def __init__(self, statistics: View) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering it does not collect

    def collect(self) -> Iterator[Metric]:
        return families(self._statistics)


def families(statistics: View) -> Iterator[Metric]:
    """All metrics of one snapshot."""
    apps: View = statistics["apps"]
    listeners = [([app, at], view) for app, known in apps.items() for at, view in known["listeners"].items()]
    targets = [([app, name], view) for app, known in apps.items() for name, view in known["targets"].items()]
    yield from _process(statistics)
    of_apps: Rows = [([app], view) for app, view in apps.items()]
    yield from _sessions("app", ["app"], of_apps, "accepted by the app's listeners")
    yield from _traffic("app", ["app"], of_apps)
    yield from _requests("app", ["app"], of_apps)
    yield from _sticky([([app], view) for app, view in apps.items() if "stick_fallbacks" in view])
    yield from _sessions("listener", ["app", "listener"], listeners, "accepted by the listener")
    yield from _sessions("target", ["app", "target"], targets, "connected to the target")
    yield from _traffic("target", ["app", "target"], targets)
    yield from _requests("target", ["app", "target"], targets)
    yield from _health(targets)
    yield from _elections(statistics.get("elections", {}))


def _process(statistics: View) -> Iterator[Metric]:
    info = GaugeMetricFamily(PREFIX + "build_info", "Always 1; the label says the version.", labels=["version"])
    info.add_metric([statistics["version"]], 1)
    yield info
    yield GaugeMetricFamily(PREFIX + "start_time_seconds", "When it was started (Unix time).", statistics["started"])
    died = "Worker processes that ended unasked."
    yield CounterMetricFamily(PREFIX + "worker_deaths", died, statistics["workers_died"])
    sessions = statistics["sessions"]
    yield CounterMetricFamily(PREFIX + "sessions", "Sessions accepted by all listeners.", sessions["total"])
    yield GaugeMetricFamily(PREFIX + "sessions_current", "Sessions now.", sessions["current"])
    yield GaugeMetricFamily(PREFIX + "sessions_peak", PEAK.format(""), sessions["peak"])


def _sessions(owner: str, labels: list[str], rows: Rows, what: str) -> Iterator[Metric]:
    """How many of an owner's sessions there were, are, and were at most."""
    name = f"{PREFIX}{owner}_sessions"
    total = CounterMetricFamily(name, f"Sessions {what}.", labels=labels)
    current = GaugeMetricFamily(f"{name}_current", f"Sessions of the {owner} now.", labels=labels)
    peak = GaugeMetricFamily(f"{name}_peak", PEAK.format(f"of the {owner} "), labels=labels)
    for values, view in rows:
        sessions = view["sessions"]
        total.add_metric(values, sessions["total"])
        current.add_metric(values, sessions["current"])
        peak.add_metric(values, sessions["peak"])
    yield from (total, current, peak)


def _traffic(owner: str, labels: list[str], rows: Rows) -> Iterator[Metric]:
    """What the sessions of an app or a target did."""
    name = f"{PREFIX}{owner}_"
    yield _split(
        f"{name}bytes", "Bytes delivered.", [*labels, "direction"], rows,
        lambda view: {DIRECTIONS[way]: count for way, count in view["bytes"].items()},
    )  # fmt: skip
    yield _split(
        f"{name}connect_failures", "Connects that failed.", [*labels, "reason"], rows, lambda view: view["connect_failures"]
    )
    retries = CounterMetricFamily(
        f"{name}connect_retries", "Connects after another one of the same session had failed.", labels=labels
    )
    for values, view in rows:
        retries.add_metric(values, view["connect_retries"])
    yield retries
    yield _split(f"{name}session_ends", "Sessions that ended.", [*labels, "reason"], rows, lambda view: view["session_ends"])
    connect = "Seconds from accept until a target was connected."
    yield _histogram(f"{name}connect_duration_seconds", connect, labels, rows, "connect_seconds")
    yield _histogram(f"{name}session_duration_seconds", "Seconds from accept to end.", labels, rows, "session_seconds")


def _requests(owner: str, labels: list[str], rows: Rows) -> Iterator[Metric]:
    """Of apps in mode http."""
    name = f"{PREFIX}{owner}_"
    rows = [(values, view["requests"]) for values, view in rows if "requests" in view]
    if rows:
        text = "Requests by the status of their answer."
        yield _split(f"{name}requests", text, [*labels, "status"], rows, lambda view: view["statuses"])
        failures = CounterMetricFamily(
            f"{name}request_failures", "Requests that the target did not answer well.", labels=labels
        )
        for values, view in rows:
            failures.add_metric(values, view["failures"])
        yield failures
        text = "Seconds from the whole head of a request to that of its answer."
        yield _histogram(f"{name}response_seconds", text, labels, rows, "seconds")


def _sticky(rows: Rows) -> Iterator[Metric]:
    text = "Clients of a sticky app that said nothing in time and are known by their address alone."
    fallbacks = CounterMetricFamily(f"{PREFIX}app_stick_fallbacks", text, labels=["app"])
    for values, view in rows:
        fallbacks.add_metric(values, view["stick_fallbacks"])
    yield from [fallbacks] if rows else []


def _health(rows: Rows) -> Iterator[Metric]:
    up = GaugeMetricFamily(PREFIX + "target_up", "1 while the target takes new sessions.", labels=["app", "target"])
    state = GaugeMetricFamily(
        PREFIX + "target_state", "1 for the state that the target is in.", labels=["app", "target", "state"]
    )
    probes = CounterMetricFamily(
        PREFIX + "target_probes", "Rounds of health checks.", labels=["app", "target", "check", "result"]
    )
    for values, view in rows:
        up.add_metric(values, float(view["state"] == "up"))
        for name in ("up", "draining", "down"):
            state.add_metric([*values, name], float(view["state"] == name))
        for check, results in view["probes"].items():
            for result, count in results.items():
                probes.add_metric([*values, check, result], count)
    yield from (up, state, probes)


def _elections(apps: View) -> Iterator[Metric]:
    """Of the apps that have a primary."""
    held = CounterMetricFamily(PREFIX + "elections", "Elections that found a primary.", labels=["app"])
    seconds = CounterMetricFamily(PREFIX + "election_seconds", "Time without a primary.", labels=["app"])
    fruitless = CounterMetricFamily(PREFIX + "election_fruitless_rounds", "Rounds that found nobody.", labels=["app"])
    primary = GaugeMetricFamily(PREFIX + "primary", "1: the target is primary.", labels=["app", "target"])
    for app, view in apps.items():
        held.add_metric([app], view["elections"])
        seconds.add_metric([app], view["total_seconds"])
        fruitless.add_metric([app], view["fruitless_rounds"])
        if view["primary"]:
            primary.add_metric([app, view["primary"]], 1)
    yield from (held, seconds, fruitless, primary)


def _split(name: str, text: str, labels: list[str], rows: Rows, parts: Callable[[View], dict[str, int]]) -> Metric:
    """A counter whose last label says which part of the whole."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, view in rows:
        for part, count in parts(view).items():
            family.add_metric([*values, part], count)
    return family


def _histogram(name: str, text: str, labels: list[str], rows: Rows, key: str) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, view in rows:
        known = view[key]
        buckets = [(str(bound), count) for bound, count in zip(known["bounds"], known["upto"], strict=True)]
        family.add_metric(values, [*buckets, ("+Inf", known["count"])], known["sum"])
    return family
