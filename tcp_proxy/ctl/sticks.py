"""The commands about clients that stay with their target: who belongs where, and to have it otherwise."""

from argparse import Namespace
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import APP, Commands, Misused, Result, argument
from tcp_proxy.ctl.show import clean, duration, plural, table
from tcp_proxy.ctl.top import WATCH

commands = Commands()
View = dict[str, Any]

PAGE = 1000
KEY = argument("key", metavar="KEY", help="an address, one and a slice in hex, in quotes, or what a header says")


@commands.add(
    "sticks",
    "which client of an app belongs to which target, by key",
    APP,
    argument("--target", default="", help="with this target"),
    argument("--contains", default="", metavar="TEXT", help="with this in the key"),
    argument("--in-use", action="store_true", help="that have sessions now"),
    argument("--limit", type=int, default=100, metavar="N", help="at most so many; 0: all (default: %(default)s)"),
    *WATCH,
)
def sticks(api: Client, args: Namespace) -> Result:
    filters: View = {"target": args.target, "contains": args.contains}
    if args.in_use:
        filters["in_use"] = "true"
    wanted, after = args.limit if args.limit > 0 else float("inf"), ""
    found: list[View] = []
    page: View = {}
    while after is not None and len(found) < wanted:
        page = api.get("apps", args.app, "sticks", **filters, after=after, limit=min(PAGE, wanted - len(found)))
        found += page["entries"]
        after = page["next"]
    notes = ["there are more: --limit 0 shows all"] if after is not None else []
    lines = table(("key", "target", "sessions", "for", "expires in"), map(_row, found), right="for expires in")
    shares = ", ".join(f"{target} {count}" for target, count in sorted(page["by_target"].items()))
    known = f"{page['known']} of at most {plural(page['size'], 'key')}, {page['in_use']} in use"
    return Result(found, [lines, clean(f"{known}{': ' if shares else ''}{shares}")], notes)


@commands.add(
    "stick",
    "one key: which target it belongs to; or give it to another one",
    APP,
    KEY,
    argument("target", metavar="TARGET", nargs="?", help="from its next session on it belongs there"),
)
def stick(api: Client, args: Namespace) -> Result:
    path = "apps", args.app, "sticks", args.key
    now = api.get(*path) if args.target is None else api.ask("PUT", path, {"target": args.target})
    return Result(now, [table(("key", "target", "sessions", "for", "expires in"), [_row(now)], right="for expires in")])


@commands.add(
    "unstick",
    "forget one key, those of a target, or all; their sessions go on",
    APP,
    argument("key", metavar="KEY", nargs="?", help="an address, or one and a slice in hex, in quotes"),
    argument("--target", default="", help="all keys of this target"),
    argument("--all", action="store_true", help="all keys of the app"),
)
def unstick(api: Client, args: Namespace) -> Result:
    if sum(map(bool, (args.key, args.target, args.all))) != 1:
        raise Misused("wanted a KEY, --target or --all")
    path = ("apps", args.app, "sticks", args.key) if args.key else ("apps", args.app, "sticks")
    found = api.ask("DELETE", path, query={"target": args.target} if args.target else None)
    return Result(found, [clean(f"app {args.app}: {plural(found['deleted'], 'key')} forgotten")])


def _row(one: View) -> tuple[Any, ...]:
    left = "" if one["expires_in"] is None else duration(one["expires_in"])
    return one["key"], one["target"], "yes" if one["in_use"] else "no", duration(one["seconds"]), left
