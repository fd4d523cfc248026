"""The statistics as Prometheus metrics: the only file that knows their names. A value of control.statistics.totals
in, text out.

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
    yield from _queues([([app], view) for app, view in apps.items() if "queue" in view])
    yield from _limits([([app], view) for app, view in apps.items() if "limits" in view])
    yield from _refused([([app], view) for app, view in apps.items()])
    yield from _access([([app], view) for app, view in apps.items() if "access" in view])
    yield from _sticky([([app], view) for app, view in apps.items() if "stick_fallbacks" in view])
    yield from _panics([([app], view) for app, view in apps.items() if "panicking" in view])
    yield from _faults([([app], view) for app, view in apps.items() if "faulted" in view])
    yield from _sessions("listener", ["app", "listener"], listeners, "accepted by the listener")
    yield from _sessions("target", ["app", "target"], targets, "connected to the target")
    yield from _traffic("target", ["app", "target"], targets)
    yield from _requests("target", ["app", "target"], targets)
    yield from _health(targets)
    yield from _outliers([(values, view["outlier"]) for values, view in targets if "outlier" in view])
    yield from _elections(statistics.get("elections", {}))
    yield from _certificates(statistics.get("certificates", ()))
    yield from _discoveries(statistics.get("discoveries", ()))
    yield from _lists(statistics.get("revocation_lists", ()))


def _process(statistics: View) -> Iterator[Metric]:
    told = "Always 1; the labels say the version and the build."
    info = GaugeMetricFamily(PREFIX + "build_info", told, labels=["version", "build"])
    info.add_metric([statistics["version"], statistics["build"]], 1)
    yield info
    yield GaugeMetricFamily(PREFIX + "start_time_seconds", "When it was started (Unix time).", statistics["started"])
    died = "Worker processes that ended unasked."
    yield CounterMetricFamily(PREFIX + "worker_deaths", died, statistics["workers_died"])
    if "state_file" in statistics:
        failing = "1 while the state file cannot be written; what it is to hold is in memory alone."
        yield GaugeMetricFamily(PREFIX + "state_file_failing", failing, int(statistics["state_file"]["failing"]))
    if "traces" in statistics:
        yield from _traces(statistics["traces"])
    if "cluster" in statistics:
        yield from _cluster(statistics["cluster"])
    sessions = statistics["sessions"]
    yield CounterMetricFamily(PREFIX + "sessions", "Sessions accepted by all listeners.", sessions["total"])
    yield GaugeMetricFamily(PREFIX + "sessions_current", "Sessions now.", sessions["current"])
    yield GaugeMetricFamily(PREFIX + "sessions_peak", PEAK.format(""), sessions["peak"])


def _traces(view: View) -> Iterator[Metric]:
    exported = "Spans that the collector of traces has taken."
    yield CounterMetricFamily(PREFIX + "spans_exported", exported, view["exported"])
    dropped = "Spans that were dropped: it did not take them, or not as fast as they came."
    yield CounterMetricFamily(PREFIX + "spans_dropped", dropped, view["dropped"])
    failing = "1 while the collector of traces takes nothing."
    yield GaugeMetricFamily(PREFIX + "spans_failing", failing, int(view["failing"]))


def _cluster(view: View) -> Iterator[Metric]:
    """Of this proxy as a node of its cluster."""
    joined = "1 while this node is joined to its cluster; 0 while it is cut off from etcd."
    yield GaugeMetricFamily(PREFIX + "cluster_joined", joined, int(view["joined"]))
    members = "Nodes of the cluster, this one among them, as far as it knows."
    yield GaugeMetricFamily(PREFIX + "cluster_members", members, view["members"])
    different = "Other nodes whose configuration differs from this one's."
    yield GaugeMetricFamily(PREFIX + "cluster_different_nodes", different, view["different"])
    if view["lag"] >= 0:
        lag = "Seconds that what this node says took to come back by etcd."
        yield GaugeMetricFamily(PREFIX + "cluster_lag_seconds", lag, view["lag"])
    cut_off = "How often this node was cut off from etcd."
    yield CounterMetricFamily(PREFIX + "cluster_cut_off", cut_off, view["cut_off"])
    starts = "Processes of the cluster agent that were started."
    yield CounterMetricFamily(PREFIX + "cluster_agent_starts", starts, view["agent_starts"])


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
        text = "Connections to targets that are open for requests, idle ones too; tunnels are sessions."
        connections = GaugeMetricFamily(f"{name}upstream_connections", text, labels=labels)
        for values, view in rows:
            connections.add_metric(values, view["connections"])
        yield connections
        text = "Seconds from the whole head of a request to that of its answer."
        yield _histogram(f"{name}response_seconds", text, labels, rows, "seconds")


def _sticky(rows: Rows) -> Iterator[Metric]:
    text = "Clients of a sticky app that said nothing in time and are known by their address alone."
    fallbacks = CounterMetricFamily(f"{PREFIX}app_stick_fallbacks", text, labels=["app"])
    for values, view in rows:
        fallbacks.add_metric(values, view["stick_fallbacks"])
    yield from [fallbacks] if rows else []


def _panics(rows: Rows) -> Iterator[Metric]:
    text = "1 while too few targets of the app are up, so that all are used."
    family = GaugeMetricFamily(PREFIX + "app_panicking", text, labels=["app"])
    for values, view in rows:
        family.add_metric(values, int(view["panicking"]))
    yield from [family] if rows else []


def _faults(rows: Rows) -> Iterator[Metric]:
    """Of apps whose sessions have met a fault on purpose."""
    family = CounterMetricFamily(PREFIX + "app_faulted_sessions", "Sessions that met a fault on purpose.", labels=["app"])
    for values, view in rows:
        family.add_metric(values, view["faulted"])
    yield from [family] if rows else []


def _queues(rows: Rows) -> Iterator[Metric]:
    """Of apps where clients wait for places."""
    name = PREFIX + "app_queue"
    total = CounterMetricFamily(f"{name}_clients", "Clients that had to wait for a place.", labels=["app"])
    current = GaugeMetricFamily(f"{name}_current", "Clients that wait for a place now.", labels=["app"])
    peak = GaugeMetricFamily(f"{name}_peak", "The most clients that waited at one time.", labels=["app"])
    seconds = CounterMetricFamily(f"{name}_seconds", "The times that clients have waited, added up.", labels=["app"])
    for values, view in rows:
        for family, key in ((total, "total"), (current, "current"), (peak, "peak"), (seconds, "seconds")):
            family.add_metric(values, view["queue"][key])
    yield from (total, current, peak, seconds) if rows else ()


def _limits(rows: Rows) -> Iterator[Metric]:
    """Of apps with limits of a rate, or by client."""
    if not rows:
        return
    text = "Clients, or requests in mode http, that were above a limit."
    yield _split(f"{PREFIX}app_limited", text, ["app", "limit"], rows, lambda view: view["limits"]["refused"])
    for name, key, text in (
        ("app_delayed", "delayed", "Clients that had to wait for their turn."),
        ("app_delay_seconds", "delay_seconds", "The times that clients had to wait for their turn, added up."),
        ("app_clients_untracked", "untracked", "Clients that came while there was no room for what is known of them."),
        ("app_clients_forgotten", "forgotten", "Clients that were forgotten to make room, before their buckets were full."),
    ):
        family = CounterMetricFamily(PREFIX + name, text, labels=["app"])
        for values, view in rows:
            family.add_metric(values, view["limits"][key])
        yield family


def _refused(rows: Rows) -> Iterator[Metric]:
    text = "Clients that were refused before they were sessions."
    yield _split(f"{PREFIX}app_refused_clients", text, ["app", "cause"], rows, lambda view: view["refused"])


def _access(rows: Rows) -> Iterator[Metric]:
    text = "Clients by the entry of access that decided."
    clients = CounterMetricFamily(f"{PREFIX}app_access_clients", text, labels=["app", "action", "rule"])
    for values, view in rows:
        for rule in view["access"]:
            clients.add_metric([*values, rule["action"], rule["rule"]], rule["clients"])
    yield from [clients] if rows else []


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


def _outliers(rows: Rows) -> Iterator[Metric]:
    """Of targets that may be ejected."""
    labels = ["app", "target"]
    ejected = GaugeMetricFamily(PREFIX + "target_ejected", "1 while the target is ejected.", labels=labels)
    text = "What counted as a failure for outlier detection."
    failures = CounterMetricFamily(PREFIX + "target_outlier_failures", text, labels=labels)
    for values, view in rows:
        ejected.add_metric(values, int(view["ejected"]))
        failures.add_metric(values, view["failures"])
    if ejected.samples:
        yield from (ejected, failures)
        text = "How often the target was ejected."
        yield _split(PREFIX + "target_ejections", text, [*labels, "cause"], rows, lambda view: view["ejections"])


def _elections(apps: View) -> Iterator[Metric]:
    """Of the apps that have a primary."""
    held = CounterMetricFamily(PREFIX + "elections", "Elections that found a primary.", labels=["app"])
    seconds = CounterMetricFamily(PREFIX + "election_seconds", "Time without a primary.", labels=["app"])
    fruitless = CounterMetricFamily(PREFIX + "election_fruitless_rounds", "Rounds that found nobody.", labels=["app"])
    primary = GaugeMetricFamily(PREFIX + "primary", "1: the target is primary.", labels=["app", "target"])
    leader = GaugeMetricFamily(PREFIX + "election_leader", "1: the node of the cluster decides.", labels=["app", "node"])
    for app, view in apps.items():
        if view.get("leader"):
            leader.add_metric([app, view["leader"]], 1)
        held.add_metric([app], view["elections"])
        seconds.add_metric([app], view["total_seconds"])
        fruitless.add_metric([app], view["fruitless_rounds"])
        if view["primary"]:
            primary.add_metric([app, view["primary"]], 1)
    yield from (held, seconds, fruitless, primary)
    if leader.samples:
        yield leader


def _certificates(known: Iterable[View]) -> Iterator[Metric]:
    """`target` is "" for those that clients are shown."""
    text = "When the certificate expires (Unix time)."
    family = GaugeMetricFamily(PREFIX + "certificate_expiry_seconds", text, labels=["app", "target", "file"])
    for one in known:
        family.add_metric([one["app"], one["target"], one["file"]], one["not_after"])
    if family.samples:
        yield family


def _discoveries(known: Iterable[View]) -> Iterator[Metric]:
    """Of sources of targets."""
    name, labels = PREFIX + "discovery_", ["source"]
    targets = GaugeMetricFamily(name + "targets", "Targets that the source lists.", labels=labels)
    failing = GaugeMetricFamily(name + "failing", "Whether its last answer was none, or wrong.", labels=labels)
    changes = CounterMetricFamily(name + "changes", "Changes that were applied.", labels=labels)
    failures = CounterMetricFamily(name + "failures", "Answers that were none, or wrong.", labels=labels)
    for one in known:
        targets.add_metric([one["source"]], one["targets"])
        failing.add_metric([one["source"]], bool(one["error"]))
        changes.add_metric([one["source"]], one["changes"])
        failures.add_metric([one["source"]], one["failures"])
    if targets.samples:
        yield from (targets, failing, changes, failures)


def _lists(known: Iterable[View]) -> Iterator[Metric]:
    text = "When the list of revoked certificates is over its time (Unix time)."
    family = GaugeMetricFamily(PREFIX + "revocation_list_expiry_seconds", text, labels=["app", "file"])
    for one in known:
        family.add_metric([one["app"], one["file"]], one["not_after"])
    if family.samples:
        yield family


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
