"""The statistics as Prometheus metrics: the only file that knows their names. A value of control.statistics.totals
in, text out (control.statistics.exposition).

Imported by the process that answers HTTP, not by the supervisor. Names follow Prometheus' conventions: base units, `_total`
for what only grows. docs/statistics.md has the list.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from tcp_proxy.control.statistics.exposition import (
    COUNTER,
    GAUGE,
    Family,
    Row,
    at,
    encoded,
    histogram,
    label,
    of_rows,
    one,
    some,
    split,
)

View = dict[str, Any]
Rows = list[Row]

PREFIX = "tcp_proxy_"
PEAK = "Most sessions {}seen at once; looked at every second."
DIRECTIONS = {"up": "client_to_target", "down": "target_to_client"}


def render(statistics: View, accept: str = "") -> tuple[Iterator[bytes], str]:
    """The text, piece by piece, in the format that `accept` (the header of that name) prefers, and its content type."""
    return encoded(families(statistics), accept)


def families(statistics: View) -> Iterator[Family]:
    """All metrics of one snapshot. Of targets that have counted nothing it may have only what they have else; the rest is in
    `nothing`, by mode."""
    apps: View = statistics["apps"]
    of_apps = [Row(view, app) for app, view in apps.items()]
    listeners = [
        Row(view, app, f",{label('listener', at)}") for app, known in apps.items() for at, view in known["listeners"].items()
    ]
    targets = list(_targets(apps, statistics.get("nothing", {})))
    yield from _process(statistics)
    yield from _sessions("app", of_apps, "accepted by the app's listeners")
    yield from _traffic("app", of_apps)
    yield from _requests("app", of_apps)
    yield from _queues(_with("queue", of_apps))
    yield from _limits(_with("limits", of_apps))
    yield _refused(of_apps)
    yield from _access(apps)
    yield from _of_app("stick_fallbacks", "app_stick_fallbacks", STICK_FALLBACKS, of_apps)
    yield from _of_app("panicking", "app_panicking", PANICKING, of_apps, GAUGE)
    yield from _of_app("faulted", "app_faulted_sessions", "Sessions that met a fault on purpose.", of_apps)
    yield from _sessions("listener", listeners, "accepted by the listener")
    yield from _sessions("target", targets, "connected to the target")
    yield from _traffic("target", targets)
    yield from _requests("target", targets)
    yield from _health(targets)
    yield from _outliers(_with("outlier", targets))
    yield from _elections(statistics.get("elections", {}))
    yield from _certificates(statistics.get("certificates", ()))
    yield from _discoveries(statistics.get("discoveries", ()))
    yield from _lists(statistics.get("revocation_lists", ()))


def _targets(apps: View, nothing: View) -> Iterator[Row]:
    for app, known in apps.items():
        rest = nothing.get("http" if "requests" in known else "tcp", {})
        for name, view in known["targets"].items():
            is_quiet = "bytes" not in view
            yield Row({**rest, **view} if is_quiet else view, app, f",{label('target', name)}", is_quiet)


def _with(key: str, rows: Rows) -> Rows:
    return [row for row in rows if key in row.view]


def _process(statistics: View) -> Iterator[Family]:
    told = "Always 1; the labels say the version and the build."
    labels = {"version": statistics["version"], "build": statistics["build"]}
    yield some(GAUGE, PREFIX + "build_info", told, [(labels, 1)])
    yield one(GAUGE, PREFIX + "start_time_seconds", "When it was started (Unix time).", statistics["started"])
    died = "Worker processes that ended unasked."
    yield one(COUNTER, PREFIX + "worker_deaths", died, statistics["workers_died"])
    if "state_file" in statistics:
        failing = "1 while the state file cannot be written; what it is to hold is in memory alone."
        yield one(GAUGE, PREFIX + "state_file_failing", failing, int(statistics["state_file"]["failing"]))
    if "traces" in statistics:
        yield from _traces(statistics["traces"])
    if "cluster" in statistics:
        yield from _cluster(statistics["cluster"])
    sessions = statistics["sessions"]
    yield one(COUNTER, PREFIX + "sessions", "Sessions accepted by all listeners.", sessions["total"])
    yield one(GAUGE, PREFIX + "sessions_current", "Sessions now.", sessions["current"])
    yield one(GAUGE, PREFIX + "sessions_peak", PEAK.format(""), sessions["peak"])


def _traces(view: View) -> Iterator[Family]:
    exported = "Spans that the collector of traces has taken."
    yield one(COUNTER, PREFIX + "spans_exported", exported, view["exported"])
    dropped = "Spans that were dropped: it did not take them, or not as fast as they came."
    yield one(COUNTER, PREFIX + "spans_dropped", dropped, view["dropped"])
    failing = "1 while the collector of traces takes nothing."
    yield one(GAUGE, PREFIX + "spans_failing", failing, int(view["failing"]))


def _cluster(view: View) -> Iterator[Family]:
    """Of this proxy as a node of its cluster."""
    joined = "1 while this node is joined to its cluster; 0 while it is cut off from etcd."
    yield one(GAUGE, PREFIX + "cluster_joined", joined, int(view["joined"]))
    members = "Nodes of the cluster, this one among them, as far as it knows."
    yield one(GAUGE, PREFIX + "cluster_members", members, view["members"])
    different = "Other nodes whose configuration differs from this one's."
    yield one(GAUGE, PREFIX + "cluster_different_nodes", different, view["different"])
    if view["lag"] >= 0:
        lag = "Seconds that what this node says took to come back by etcd."
        yield one(GAUGE, PREFIX + "cluster_lag_seconds", lag, view["lag"])
    cut_off = "How often this node was cut off from etcd."
    yield one(COUNTER, PREFIX + "cluster_cut_off", cut_off, view["cut_off"])
    starts = "Processes of the cluster agent that were started."
    yield one(COUNTER, PREFIX + "cluster_agent_starts", starts, view["agent_starts"])


def _sessions(owner: str, rows: Rows, what: str) -> Iterator[Family]:
    """How many of an owner's sessions there were, are, and were at most."""
    name = f"{PREFIX}{owner}_sessions"
    for kind, full, text, key in (
        (COUNTER, name, f"Sessions {what}.", "total"),
        (GAUGE, f"{name}_current", f"Sessions of the {owner} now.", "current"),
        (GAUGE, f"{name}_peak", PEAK.format(f"of the {owner} "), "peak"),
    ):
        yield of_rows(kind, full, text, rows, at("sessions", key))


def _traffic(owner: str, rows: Rows) -> Iterator[Family]:
    """What the sessions of an app or a target did."""
    name = f"{PREFIX}{owner}_"
    yield split(
        COUNTER, f"{name}bytes", "Bytes delivered.", "direction", rows,
        lambda view: {DIRECTIONS[way]: count for way, count in view["bytes"].items()}, is_counted=True,
    )  # fmt: skip
    yield split(
        COUNTER, f"{name}connect_failures", "Connects that failed.", "reason", rows, at("connect_failures"), is_counted=True
    )
    retries = "Connects after another one of the same session had failed."
    yield of_rows(COUNTER, f"{name}connect_retries", retries, rows, at("connect_retries"))
    yield split(COUNTER, f"{name}session_ends", "Sessions that ended.", "reason", rows, at("session_ends"), is_counted=True)
    yield histogram(
        f"{name}connect_duration_seconds", "Seconds from accept until a target was connected.", rows, at("connect_seconds")
    )
    yield histogram(f"{name}session_duration_seconds", "Seconds from accept to end.", rows, at("session_seconds"))


def _requests(owner: str, rows: Rows) -> Iterator[Family]:
    """Of apps in mode http."""
    name = f"{PREFIX}{owner}_"
    rows = _with("requests", rows)
    if rows:
        text = "Requests by the status of their answer."
        yield split(COUNTER, f"{name}requests", text, "status", rows, at("requests", "statuses"), is_counted=True)
        text = "Requests that the target did not answer well."
        yield of_rows(COUNTER, f"{name}request_failures", text, rows, at("requests", "failures"))
        text = "Connections to targets that are open for requests, idle ones too; tunnels are sessions."
        yield of_rows(GAUGE, f"{name}upstream_connections", text, rows, at("requests", "connections"))
        text = "Seconds from the whole head of a request to that of its answer."
        yield histogram(f"{name}response_seconds", text, rows, at("requests", "seconds"))


STICK_FALLBACKS = "Clients of a sticky app that said nothing in time and are known by their address alone."
PANICKING = "1 while too few targets of the app are up, so that all are used."


def _of_app(key: str, name: str, text: str, rows: Rows, kind: str = COUNTER) -> Iterator[Family]:
    """What some apps have."""
    rows = _with(key, rows)
    if rows:
        yield of_rows(kind, PREFIX + name, text, rows, lambda view: int(view[key]))


def _queues(rows: Rows) -> Iterator[Family]:
    """Of apps where clients wait for places."""
    name = PREFIX + "app_queue"
    for kind, full, text, key in (
        (COUNTER, f"{name}_clients", "Clients that had to wait for a place.", "total"),
        (GAUGE, f"{name}_current", "Clients that wait for a place now.", "current"),
        (GAUGE, f"{name}_peak", "The most clients that waited at one time.", "peak"),
        (COUNTER, f"{name}_seconds", "The times that clients have waited, added up.", "seconds"),
    ):
        if rows:
            yield of_rows(kind, full, text, rows, at("queue", key))


def _limits(rows: Rows) -> Iterator[Family]:
    """Of apps with limits of a rate, or by client."""
    if not rows:
        return
    text = "Clients, or requests in mode http, that were above a limit."
    yield split(COUNTER, f"{PREFIX}app_limited", text, "limit", rows, at("limits", "refused"))
    for name, key, text in (
        ("app_delayed", "delayed", "Clients that had to wait for their turn."),
        ("app_delay_seconds", "delay_seconds", "The times that clients had to wait for their turn, added up."),
        ("app_clients_untracked", "untracked", "Clients that came while there was no room for what is known of them."),
        ("app_clients_forgotten", "forgotten", "Clients that were forgotten to make room, before their buckets were full."),
    ):
        yield of_rows(COUNTER, PREFIX + name, text, rows, at("limits", key))


def _refused(rows: Rows) -> Family:
    text = "Clients that were refused before they were sessions."
    return split(COUNTER, f"{PREFIX}app_refused_clients", text, "cause", rows, at("refused"))


def _access(apps: View) -> Iterator[Family]:
    text = "Clients by the entry of access that decided."
    samples = [
        ({"app": app, "action": rule["action"], "rule": rule["rule"]}, rule["clients"])
        for app, view in apps.items()
        for rule in view.get("access", ())
    ]
    if samples:
        yield some(COUNTER, f"{PREFIX}app_access_clients", text, samples)


def _health(rows: Rows) -> Iterator[Family]:
    text = "1 while the target takes new sessions."
    yield of_rows(GAUGE, PREFIX + "target_up", text, rows, lambda view: float(view["state"] == "up"))
    text = "1 for the state that the target is in."
    yield split(
        GAUGE, PREFIX + "target_state", text, "state", rows,
        lambda view: {name: float(view["state"] == name) for name in ("up", "draining", "down")},
    )  # fmt: skip
    yield split(COUNTER, PREFIX + "target_probes", "Rounds of health checks.", "check", rows, _probes)


def _probes(view: View) -> dict[str, int]:
    """Two labels, by names of ours."""
    return {
        f'{check}",result="{result}': count for check, results in view["probes"].items() for result, count in results.items()
    }


def _outliers(rows: Rows) -> Iterator[Family]:
    """Of targets that may be ejected."""
    if rows:
        text = "1 while the target is ejected."
        yield of_rows(GAUGE, PREFIX + "target_ejected", text, rows, lambda view: int(view["outlier"]["ejected"]))
        text = "What counted as a failure for outlier detection."
        yield of_rows(COUNTER, PREFIX + "target_outlier_failures", text, rows, at("outlier", "failures"))
        text = "How often the target was ejected."
        yield split(COUNTER, PREFIX + "target_ejections", text, "cause", rows, at("outlier", "ejections"))


def _elections(apps: View) -> Iterator[Family]:
    """Of the apps that have a primary."""
    rows = [Row(view, app) for app, view in apps.items()]
    for name, key, text in (
        ("elections", "elections", "Elections that found a primary."),
        ("election_seconds", "total_seconds", "Time without a primary."),
        ("election_fruitless_rounds", "fruitless_rounds", "Rounds that found nobody."),
    ):
        yield of_rows(COUNTER, PREFIX + name, text, rows, at(key))
    primaries = [({"app": app, "target": view["primary"]}, 1) for app, view in apps.items() if view["primary"]]
    yield some(GAUGE, PREFIX + "primary", "1: the target is primary.", primaries)
    leaders = [({"app": app, "node": view["leader"]}, 1) for app, view in apps.items() if view.get("leader")]
    if leaders:
        yield some(GAUGE, PREFIX + "election_leader", "1: the node of the cluster decides.", leaders)


def _certificates(known: Iterable[View]) -> Iterator[Family]:
    """`target` is "" for those that clients are shown."""
    text = "When the certificate expires (Unix time)."
    yield from _expiries("certificate_expiry_seconds", text, ("app", "target", "file"), known)


def _lists(known: Iterable[View]) -> Iterator[Family]:
    text = "When the list of revoked certificates is over its time (Unix time)."
    yield from _expiries("revocation_list_expiry_seconds", text, ("app", "file"), known)


def _expiries(name: str, text: str, labels: tuple[str, ...], known: Iterable[View]) -> Iterator[Family]:
    samples = [({key: view[key] for key in labels}, view["not_after"]) for view in known]
    if samples:
        yield some(GAUGE, PREFIX + name, text, samples)


def _discoveries(known: Iterable[View]) -> Iterator[Family]:
    """Of sources of targets."""
    known = list(known)
    for kind, name, key, text in (
        (GAUGE, "targets", "targets", "Targets that the source lists."),
        (GAUGE, "failing", "error", "Whether its last answer was none, or wrong."),
        (COUNTER, "changes", "changes", "Changes that were applied."),
        (COUNTER, "failures", "failures", "Answers that were none, or wrong."),
    ):
        if known:
            samples = [({"source": view["source"]}, bool(view[key]) if key == "error" else view[key]) for view in known]
            yield some(kind, f"{PREFIX}discovery_{name}", text, samples)
