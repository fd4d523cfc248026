"""The commands that look: status, sessions, why, events."""

import re
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import Commands, Declined, Result, Results, argument
from tcp_proxy.ctl.rates import percentiles
from tcp_proxy.ctl.show import SAID, Table, clean, duration, is_said, mark, moment, plural, size, state_of, table
from tcp_proxy.ctl.statistics import statistics_of
from tcp_proxy.ctl.top import WATCH, short_look

View = dict[str, Any]

SESSION = re.compile(r"[0-9a-z]+\.[0-9]+-[0-9]+")  # any other id is one of a request
PAGE = 1000  # sessions; the most that the API gives at once
MOST_NAMED = 3  # apps in one cell

commands = Commands()


@commands.add(
    "status", "the program, its apps and targets", argument("app", nargs="?", metavar="APP", help="of this one"), *WATCH
)
def status(api: Client, args: Namespace) -> Result:
    program, workers = api.get("status"), api.get("workers")
    apps = api.get("apps") if args.app is None else [api.get("apps", args.app)]
    frame = short_look(api) if any(app["mode"] == "http" for app in apps) else {"apps": {}}
    statistics = statistics_of(api)
    value = {"status": program, "workers": workers, "apps": apps, "statistics": statistics, "rates": frame}
    return Result(value, _status(program, workers, apps, statistics, frame["apps"]))


def _status(
    program: View, workers: list[View], apps: list[View], statistics: View, rates: View
) -> Iterator[str | Table]:
    sessions = statistics["sessions"]
    yield f"tcp_proxy {program['version']}, process {program['pid']}: {program['state']}, since {moment(program['started'])}"
    states = ", ".join(f"{worker['index']} {worker['state']} ({worker['pid']})" for worker in workers)
    died = f"; {plural(statistics['workers_died'], 'worker')} died" if statistics["workers_died"] else ""
    yield f"workers: {states or 'none'}{died}"
    yield f"sessions: {sessions['current']} now, {sessions['peak']} at most, {sessions['total']} in all"
    if program["first_expiry"] is not None:
        yield f"certificates: the first expires {moment(program['first_expiry'])}"
    if program["first_list_end"] is not None:
        yield f"lists of revoked certificates: the first is over {moment(program['first_list_end'])}"
    for app in apps:
        yield ""
        yield from _app(app, statistics["apps"].get(app["name"]), rates.get(app["name"]))
    if any(target["overrides"] for app in apps for target in app["targets"]) or any(app["removed"] for app in apps):
        yield ""
        yield f"{SAID} said at run time; it stands in the place of the file's until `tcp-proxy-ctl reset`"


def _app(app: View, counted: View | None, rates: View | None) -> Iterator[str | Table]:
    now = f", {plural(counted['sessions']['current'], 'session')} now" if counted else ""
    mode = "http, " if app["mode"] == "http" else ""
    yield clean(f"app {app['name']}: {mode}{app['balance']} on {', '.join(app['listeners'])}{now}")
    if counted is not None and "requests" in counted:
        yield _requests(counted, rates)
    if counted is not None and "queue" in counted:
        queue = counted["queue"]
        yield f"  queue: {queue['current']} waiting, {queue['peak']} at most, {queue['total']} in all"
    if app["panicking"]:
        yield "  panic: too few targets are up, so all are used, whatever their state"
    if counted is not None and "limits" in counted:
        yield f"  limits: {_limited(counted['limits'])}"
    if app.get("primary") == "":
        yield "  no primary: it is looked for"
    if app["removed"]:
        yield clean(f"  removed at run time{SAID}: {', '.join(app['removed'])}")
    if not app["targets"]:
        yield "  no targets"
        return
    numbers = HTTP_NUMBERS if app["mode"] == "http" else NUMBERS
    found, now_at = (counted or {}).get("targets", {}), (rates or {}).get("targets", {})
    rows = []
    for target in app["targets"]:
        name, is_http = target["name"], numbers is HTTP_NUMBERS
        cells: list[object] = ["-"] * len(numbers)  # it came between two questions
        if name in found:
            cells = _http_numbers(found[name], now_at.get(name)) if is_http else _numbers(found[name])
        rows.append((*_target(target, app.get("primary")), *cells, target["why"]))
    head = ("target", "state", "weight", *numbers, "why")
    yield table(head, rows, " ".join(("weight", *numbers)), "  ", optional=OPTIONAL)


def _limited(counted: View) -> str:
    """Who was turned away, by which limit; who had to wait."""
    words = [f"{count} refused by {limit}" for limit, count in counted["refused"].items() if count]
    words += [f"{counted['delayed']} delayed"] * bool(counted["delayed"])
    return ", ".join(words) or "nobody refused"


NUMBERS = ("now", "total", "in", "out", "failed")
HTTP_NUMBERS = (
    "req/s", "requests", "4xx", "5xx", "none", "p50", "p99", "active", "conns", "retries", "failed", "in", "out",
)  # fmt: skip
OPTIONAL = "in out none retries 4xx active p50 weight total"  # the first to go where the terminal has no room


def _target(target: View, primary: str | None) -> tuple[str, str, str]:
    marks = ["primary"] * (target["name"] == primary)
    marks += ["backup"] * target["backup"]
    marks += [f"priority {target['priority']}"] * bool(target["priority"])
    state = mark(state_of(target), said=is_said(target, "admin"))
    state = f"{state} ({', '.join(marks)})" if marks else state
    return (
        mark(target["name"], said=is_said(target, "added")), state,
        mark(target["weight"], said=is_said(target, "weight")),
    )  # fmt: skip


def _numbers(counted: View) -> list[object]:
    sessions, moved = counted["sessions"], counted["bytes"]
    failed = sum(counted["connect_failures"].values())
    return [sessions["current"], sessions["total"], size(moved["up"]), size(moved["down"]), failed]


def _http_numbers(counted: View, rates: View | None) -> list[object]:
    """Of requests: how many a second now, the others since the start."""
    requests, moved = counted["requests"], counted["bytes"]
    statuses, times = requests["statuses"], percentiles(requests["seconds"])
    per_second = "-" if rates is None else f"{rates['requests']['per_second']:.1f}"
    return [
        per_second, sum(statuses.values()), statuses["4xx"], statuses["5xx"], statuses["none"],
        *("-" if times[name] is None else duration(times[name] or 0.0) for name in ("p50", "p99")),
        counted["sessions"]["current"], requests["connections"], counted["connect_retries"],
        sum(counted["connect_failures"].values()), size(moved["up"]), size(moved["down"]),
    ]  # fmt: skip


def _requests(counted: View, rates: View | None) -> str:
    """A line about all requests of an app."""
    requests = counted["requests"]
    statuses = [f"{count} {name}" for name, count in requests["statuses"].items() if count and name != "none"]
    statuses += [f"{requests['statuses']['none']} without an answer"] * bool(requests["statuses"]["none"])
    now = f"{rates['requests']['per_second']:.1f}/s, " if rates else ""
    times = percentiles(requests["seconds"])
    within = (("p50", "half"), ("p90", "90 %"), ("p99", "99 %"))
    answers = [f"{duration(times[name] or 0.0)} ({share})" for name, share in within if times[name] is not None]
    parts = [f"  requests: {now}{sum(requests['statuses'].values())} in all", *([", ".join(statuses)] if statuses else [])]
    parts += [f"answers within {', '.join(answers)}"] * bool(answers)
    parts += [plural(requests["failures"], "failure") + " of targets", f"{counted['connect_retries']} retried"]
    return "; ".join([*parts, f"{plural(requests['connections'], 'connection')} to targets"])


@commands.add(
    "sessions",
    "those that go on",
    argument("--app", default="", help="of this app"),
    argument("--target", default="", help="with this target"),
    argument("--client", default="", help="of this address, with or without a port"),
    argument("--listener", default="", help="by this listener"),
    argument("--limit", type=int, default=100, metavar="N", help="at most so many; 0: all (default: %(default)s)"),
    *WATCH,
)
def sessions(api: Client, args: Namespace) -> Result:
    filters = {key: getattr(args, key) for key in ("app", "target", "client", "listener")}
    wanted, after = args.limit if args.limit > 0 else float("inf"), ""
    found: list[View] = []
    silent: set[int] = set()
    while after is not None and len(found) < wanted:
        page = api.get("sessions", **filters, after=after, limit=min(PAGE, wanted - len(found)))
        found += page["sessions"]
        silent.update(page["silent"])
        after = page["next"]
    notes = ["there are more: --limit 0 shows all"] if after is not None else []
    notes += [f"worker {index} did not answer in time: its sessions are missing" for index in sorted(silent)]
    if not found and args.app:
        api.get("apps", args.app)  # refused when there is none of this name
    if not found:
        return Result(found, ["no sessions"], notes)
    head = ("session", "app", "client", "listener", "target", "state", "age", "idle", "in", "out")
    optional = "idle listener app age in out"
    return Result(found, [table(head, map(_session, found), "age idle in out", optional=optional)], notes)


def _session(one: View) -> tuple[Any, ...]:
    times = duration(one["seconds"]), duration(one["idle_seconds"])
    client = f"{one['client']} by {one['peer']}" if one.get("peer") else one["client"]
    ends = client, one["listener"], one["target"] or "-"
    return one["id"], one["app"], *ends, one["state"], *times, size(one["bytes_up"]), size(one["bytes_down"])


@commands.add(
    "why",
    "what became of one session, or of one request of mode http, also when it has ended",
    argument("id", metavar="ID", help="of a session or a request, as in the access log; or X-Request-ID"),
)
def why(api: Client, args: Namespace) -> Result:
    found = api.get("sessions" if SESSION.fullmatch(args.id) else "requests", args.id, "why")
    if found["state"] == "unknown":
        raise Declined(found["story"])
    return Result(found, map(clean, found["story"].splitlines()))


@commands.add("cluster", "this proxy as a node of its cluster, and the others")
def cluster(api: Client, _args: Namespace) -> Result:
    found = api.get("cluster")
    return Result(found, _cluster(found))


def _cluster(found: View) -> Iterator[str | Table]:
    why = f": {found['text']}" if found["text"] else ""
    yield clean(f"cluster {found['name']}: node {found['node']} is {found['state']} for {duration(found['since'])}{why}")
    yield clean(f"etcd: {found['endpoint'] or 'nobody was asked so far'}, revision {found['revision']}")
    rows = [
        (
            one["node"] + " (this one)" * one["self"], one["version"], one["address"] or "-", one["api"] or "-",
            duration(one["age"]), "-" if one["lag"] is None else duration(one["lag"]), duration(one["heard"]),
            _some(one["leads"]),
        )
        for one in found["members"]
    ]  # fmt: skip
    if rows:
        head = ("node", "version", "address", "api", "age", "lag", "heard", "leads")
        yield table(head, rows, "age lag heard", optional="api version")
    for one in found["members"]:
        if one["unfit"] is not None:
            yield clean(f"node {one['node']} is unfit: {one['unfit'] or 'without a reason'}")
        for text in one["differs"]:
            yield clean(f"node {one['node']} has another configuration: {text}")


def _some(names: list[str]) -> str:
    """The first ones, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "") or "-"


@commands.add(
    "events",
    "what happened: changes of state, reloads, workers",
    argument("--after", type=int, metavar="N", help="those after event number N"),
    argument("--follow", "-f", action="store_true", help="go on with what happens, until Ctrl-C"),
)
def events(api: Client, args: Namespace) -> Results:
    if args.follow:
        return (Result(event, [_event(event)]) for event in api.stream("events", "stream", after=args.after))
    found = api.get("events", after=args.after)
    return Result(found, map(_event, found))


def _event(event: View) -> str:
    data = event["data"]
    said = [data[key] for key in ("text", "why") if data.get(key)]
    left_out = ["text", "why"] + ["was"] * ("was" in data and data["was"] == data.get("state"))
    names = [f"{key}={value}" for key, value in data.items() if key not in left_out and value not in (None, [], "")]
    return clean("  ".join([f"{event['number']:>5}", moment(event["at"]), f"{event['kind']:<14}", " ".join(names), *said]))
