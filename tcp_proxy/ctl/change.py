"""The commands that change something, or ask what a change would be: drain, disable, ready, weight, add,
remove, probe, reset, close, rebalance, reload, upgrade, plan."""

import sys
from argparse import Namespace
from threading import Event
from typing import Any

from tcp_proxy.ctl.client import Client, Refused, Unreachable
from tcp_proxy.ctl.command import APP, TARGET, Commands, Declined, Misused, Result, argument
from tcp_proxy.ctl.show import clean, plural, state_of

commands = Commands()

LOOK = 0.2  # seconds between two looks whether another program has taken over


@commands.add("drain", "no new sessions for a target; those it has go on", APP, TARGET)
def drain(api: Client, args: Namespace) -> Result:
    return _set(api, args, admin="drain")


@commands.add("disable", "no sessions and no health checks for a target; those it has go on", APP, TARGET)
def disable(api: Client, args: Namespace) -> Result:
    return _set(api, args, admin="disabled")


@commands.add("ready", "a target that was drained or disabled may have sessions again", APP, TARGET)
def ready(api: Client, args: Namespace) -> Result:
    return _set(api, args, admin="ready")


@commands.add(
    "weight", "give a target another weight", APP, TARGET, argument("weight", type=int, metavar="N", help="0 to 256")
)
def weight(api: Client, args: Namespace) -> Result:
    return _set(api, args, weight=args.weight)


@commands.add(
    "add",
    "add a target; it stays over reloads, until the file has one of its name",
    APP,
    argument("address", metavar="ADDRESS", help="HOST:PORT, [IPv6]:PORT or unix:/PATH"),
    argument("--name", help="the address, when left out"),
    argument("--weight", type=int, metavar="N", help="0 to 256"),
    argument("--max-connections", type=int, metavar="N", help="0: no limit"),
    argument("--backup", action="store_true", default=None, help="only when no other target is up"),
    argument("--priority", type=int, metavar="N", help="its level, 0 to 127"),
    argument("--zone", help="where it is"),
    argument("--drain", action="store_true", default=None, help="no sessions yet"),
)
def add(api: Client, args: Namespace) -> Result:
    keys = ("address", "name", "weight", "max_connections", "backup", "priority", "zone", "drain")
    body = {key: getattr(args, key) for key in keys if getattr(args, key) is not None}
    return _told(api.ask("POST", ("apps", args.app, "targets"), body))


@commands.add("remove", "remove a target; its sessions go on", APP, TARGET)
def remove(api: Client, args: Namespace) -> Result:
    api.ask("DELETE", ("apps", args.app, "targets", args.target))
    return Result({"removed": args.target}, [clean(f"app {args.app}: target {args.target} is removed")])


@commands.add("probe", "check a target now", APP, TARGET)
def probe(api: Client, args: Namespace) -> Result:
    found = api.ask("POST", ("apps", args.app, "targets", args.target, "probe"))
    return Result(found, [clean(f"app {args.app}: target {args.target} is checked now")])


@commands.add("promote", "make a target the primary of its app", APP, TARGET)
def promote(api: Client, args: Namespace) -> Result:
    found = api.ask("POST", ("apps", args.app, "targets", args.target, "promote"))
    return Result(found, [clean(f"app {args.app}: an election has begun; target {args.target} is tried first")])


def _set(api: Client, args: Namespace, **change: Any) -> Result:
    return _told(api.ask("PATCH", ("apps", args.app, "targets", args.target), change))


def _told(now: dict[str, Any]) -> Result:
    words = f"{state_of(now)}, weight {now['weight']}: {now['why']}"
    said = [one for one in now["overrides"] if one["key"] != "added" and one["value"] != one["file"]]
    file = [f"{one['key']} {one['file']}" for one in said]
    words += f" (the file says {', '.join(file)})" if file else ""
    return Result(now, [clean(f"app {now['app']}: target {now['name']} is {words}")])


@commands.add(
    "reset",
    "back to the file: what was said of targets at run time stands no longer",
    argument("app", nargs="?", metavar="APP", help="of this app"),
    argument("target", nargs="?", metavar="TARGET", help="of this target alone"),
    argument("--all", action="store_true", help="of all apps"),
)
def reset(api: Client, args: Namespace) -> Result:
    if (args.app is None) != args.all:
        raise Misused("wanted an APP, an APP and a TARGET, or --all")
    query = {key: value for key, value in (("app", args.app), ("target", args.target)) if value is not None}
    found = api.ask("DELETE", ("overrides",), query=query)
    lines = [clean(f"no longer: {one['text']}") for one in found["reset"]]
    return Result(found, lines or ["nothing was said at run time: all is as the file says"])


@commands.add("close", "end a session: both sides are reset", argument("session", metavar="SESSION"))
def close(api: Client, args: Namespace) -> Result:
    api.ask("DELETE", ("sessions", args.session))
    return Result({"closed": args.session}, [f"session {args.session} is closed"])


@commands.add(
    "rebalance",
    "even out long sessions over the workers, which go on where they come to",
    argument("--empty", type=int, metavar="WORKER", help="all of this one go to the others, and it is replaced"),
)
def rebalance(api: Client, args: Namespace) -> Result:
    found = api.ask("POST", ("rebalance",) if args.empty is None else ("workers", str(args.empty), "empty"))
    lines = [
        f"worker {one['from']} gave {plural(one['moved'], 'session')} to worker {one['to']}{_because(one)}"
        for one in found["moves"]
    ]
    replaced = found["replaced"]
    if replaced is not None:
        lines.append(f"{_has(replaced)}: they move to the others, and another takes its place")
    elif not lines:
        lines.append("no worker has more sessions than the others")
    return Result(found, [*lines, *map(_has, found["workers"])])


def _has(worker: dict[str, Any]) -> str:
    return f"worker {worker['worker']} (pid {worker['pid']}) has {plural(worker['sessions'], 'session')}"


def _because(one: dict[str, Any]) -> str:
    return f"; {one['refused']} stay: {one['why']}" if one["refused"] else f"; then {one['why']}" if one["why"] else ""


@commands.add("reload", "have the configuration file read again")
def reload(api: Client, _args: Namespace) -> Result:
    found = api.ask("POST", ("reload",))
    return Result(found, _changes(found))


@commands.add(
    "upgrade",
    "have the program that is installed now take over from the one that runs",
    argument("--dry-run", action="store_true", help="say what would go over, and which sessions end in the old workers"),
    argument("--wait", type=float, default=60.0, metavar="SECONDS", help="for the new program (default: 60)"),
)
def upgrade(api: Client, args: Namespace) -> Result:
    before = api.get("upgrade")
    if args.dry_run:
        return Result(before, _would_move(before))
    api.ask("POST", ("upgrade",))
    pause = Event()
    for _ in range(max(1, int(args.wait / LOOK))):
        pause.wait(LOOK)
        try:
            found = api.get("upgrade")
        except (Unreachable, Refused):  # from one to the other there is nobody to answer
            continue
        if found["pid"] != before["pid"]:
            text = f"process {found['pid']} (version {found['version']}) has taken over from {found['taken_over_from']}"
            return Result(found, [clean(text)])
        if found["state"] == "failed":
            raise Declined(f"nothing has changed: {found['error']}")
    raise Declined(f"no other program has taken over within {args.wait:g} s")


def _would_move(found: dict[str, Any]) -> list[str]:
    moves = found["moves"]
    lines = [f"it would be refused: {found['refusal']}"] if found["refusal"] else []
    lines.append(f"moves: {plural(moves['listeners'], 'listener')}, counters, limits, files with their locks")
    lines += [f"moves: app {app} keeps its primary {target}" for app, target in moves["primaries"].items()]
    lines += [f"moves: the stick tables of {plural(moves['sticky'], 'app')}"] if moves["sticky"] else []
    lines += [f"moves: what was said of {plural(moves['overrides'], 'target')} at run time"] if moves["overrides"] else []
    workers = [one for one in found["drains"] if one["sessions"]]
    for one in workers:
        lines.append(f"moves: worker {one['worker']} (pid {one['pid']}) has {plural(one['sessions'], 'session')}")
    if workers:
        lines.append("moves later: sessions whose connect, or request, is under way, when it is done")
    lines += [f"drains: app {one['app']}, {one['why']}: its sessions end in the old workers" for one in found["stays"]]
    return [clean(line) for line in lines]


@commands.add(
    "plan", "what a reload of another file would change", argument("file", metavar="FILE", help="a configuration; -: stdin")
)
def plan(api: Client, args: Namespace) -> Result:
    found = api.ask("POST", ("plan",), _content(args.file))
    lines = _changes(found)
    closes = sum(change["closes"] for change in found["changes"])
    if closes:
        lines.append(f"{plural(closes, 'listener')} would be closed for a moment: who connects then is refused")
    return Result(found, lines)


def _content(path: str) -> bytes:
    """Read here: the file may be on another machine than the proxy."""
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Misused(f"{path}: {error.strerror}") from None


def _changes(found: dict[str, Any]) -> list[str]:
    """What the file changes, and what it does not, for it was said at run time."""
    lines = [clean(change["text"]) for change in found["changes"]] or ["nothing is different"]
    return lines + [clean(f"stands: {one['text']}") for one in found["overrides"]]
