"""The commands that change something, or ask what a change would be: drain, disable, ready, weight, add,
remove, probe, close, reload, plan."""

import sys
from argparse import Namespace
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import APP, TARGET, Commands, Misused, Result, argument
from tcp_proxy.ctl.show import clean, plural

commands = Commands()


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
    argument("--drain", action="store_true", default=None, help="no sessions yet"),
)
def add(api: Client, args: Namespace) -> Result:
    keys = ("address", "name", "weight", "max_connections", "backup", "drain")
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
    words = f"{now['admin']}, weight {now['weight']}, {now['state']} ({now['why']})"
    return Result(now, [clean(f"app {now['app']}: target {now['name']} is {words}")])


@commands.add("close", "end a session: both sides are reset", argument("session", metavar="SESSION"))
def close(api: Client, args: Namespace) -> Result:
    api.ask("DELETE", ("sessions", args.session))
    return Result({"closed": args.session}, [f"session {args.session} is closed"])


@commands.add("reload", "have the configuration file read again")
def reload(api: Client, _args: Namespace) -> Result:
    found = api.ask("POST", ("reload",))
    return Result(found, _changes(found["changes"]))


@commands.add(
    "plan", "what a reload of another file would change", argument("file", metavar="FILE", help="a configuration; -: stdin")
)
def plan(api: Client, args: Namespace) -> Result:
    found = api.ask("POST", ("plan",), _content(args.file))
    lines = _changes(found["changes"])
    closes = sum(change["closes"] for change in found["changes"])
    if closes:
        lines.append(f"{plural(closes, 'listener')} would be closed for a moment: clients that come then are refused")
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


def _changes(changes: list[dict[str, Any]]) -> list[str]:
    notes = (("needs_restart", " (at the next start)"), ("closes", " (closed for a moment)"))
    lines = [change["text"] + "".join(note for key, note in notes if change[key]) for change in changes]
    return [clean(line) for line in lines] or ["nothing is different"]
