"""The commands that look: status, sessions, why, events."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import Commands, Declined, Result, Results, argument
from tcp_proxy.ctl.show import clean, duration, moment, plural, size, table

View = dict[str, Any]

PAGE = 1000  # sessions; the most that the API gives at once

commands = Commands()


@commands.add("status", "the program, its apps and targets", argument("app", nargs="?", metavar="APP", help="of this one"))
def status(api: Client, args: Namespace) -> Result:
    program, workers, statistics = api.get("status"), api.get("workers"), api.get("statistics")
    apps = api.get("apps") if args.app is None else [api.get("apps", args.app)]
    value = {"status": program, "workers": workers, "apps": apps, "statistics": statistics}
    return Result(value, _status(program, workers, apps, statistics))


def _status(program: View, workers: list[View], apps: list[View], statistics: View) -> Iterator[str]:
    sessions = statistics["sessions"]
    yield f"tcp_proxy {program['version']}, process {program['pid']}: {program['state']}, since {moment(program['started'])}"
    states = ", ".join(f"{worker['index']} {worker['state']} ({worker['pid']})" for worker in workers)
    died = f"; {plural(statistics['workers_died'], 'worker')} died" if statistics["workers_died"] else ""
    yield f"workers: {states or 'none'}{died}"
    yield f"sessions: {sessions['current']} now, {sessions['peak']} at most, {sessions['total']} in all"
    for app in apps:
        yield ""
        yield from _app(app, statistics["apps"].get(app["name"]))


def _app(app: View, counted: View | None) -> Iterator[str]:
    now = f", {plural(counted['sessions']['current'], 'session')} now" if counted else ""
    yield clean(f"app {app['name']}: {app['balance']} on {', '.join(app['listeners'])}{now}")
    found = counted["targets"] if counted else {}
    if app.get("primary") == "":
        yield "  no primary: it is looked for"
    rows = [_target(target, found.get(target["name"]), app.get("primary")) for target in app["targets"]]
    if not rows:
        yield "  no targets"
        return
    head = ("target", "state", "weight", "now", "total", "in", "out", "failed", "why")
    yield from table(head, rows, right="weight now total in out failed", indent="  ")


def _target(target: View, counted: View | None, primary: str | None) -> tuple[Any, ...]:
    marks = ["primary"] * (target["name"] == primary)
    marks += [mark for mark in (target["admin"],) if mark != "ready"] + ["backup"] * target["backup"]
    state = f"{target['state']} ({', '.join(marks)})" if marks else target["state"]
    if counted is None:  # it came between two questions
        return target["name"], state, target["weight"], *"-----", target["why"]
    sessions, moved = counted["sessions"], counted["bytes"]
    failed = sum(counted["connect_failures"].values())
    numbers = sessions["current"], sessions["total"], size(moved["up"]), size(moved["down"]), failed
    return target["name"], state, target["weight"], *numbers, target["why"]


@commands.add(
    "sessions",
    "those that go on",
    argument("--app", default="", help="of this app"),
    argument("--target", default="", help="with this target"),
    argument("--client", default="", help="of this address, with or without a port"),
    argument("--listener", default="", help="by this listener"),
    argument("--limit", type=int, default=100, metavar="N", help="at most so many; 0: all (default: %(default)s)"),
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
    head = ("session", "app", "client", "listener", "target", "state", "age", "idle", "in", "out")
    return Result(found, table(head, map(_session, found), right="age idle in out"), notes)


def _session(one: View) -> tuple[Any, ...]:
    times = duration(one["seconds"]), duration(one["idle_seconds"])
    ends = one["client"], one["listener"], one["target"] or "-"
    return one["id"], one["app"], *ends, one["state"], *times, size(one["bytes_up"]), size(one["bytes_down"])


@commands.add(
    "why", "the story of one session, also when it has ended", argument("session", metavar="SESSION", help="its id")
)
def why(api: Client, args: Namespace) -> Result:
    found = api.get("sessions", args.session, "why")
    if found["state"] == "unknown":
        raise Declined(found["story"])
    return Result(found, map(clean, found["story"].splitlines()))


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
    names = [f"{key}={value}" for key, value in data.items() if key not in ("text", "why") and value not in (None, [], "")]
    return clean("  ".join([f"{event['number']:>5}", moment(event["at"]), f"{event['kind']:<14}", " ".join(names), *said]))
