"""The commands about the program as a whole: its configuration as it runs, all that is counted, what there is room for."""

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import Commands, Declined, Result, argument
from tcp_proxy.ctl.rates import percentiles
from tcp_proxy.ctl.show import Table, clean, duration, plural, table
from tcp_proxy.ctl.statistics import statistics_of
from tcp_proxy.ctl.top import WATCH

View = dict[str, Any]

commands = Commands()


@commands.add("config", "the configuration as it runs, every default filled in; one that can be loaded")
def config(api: Client, _args: Namespace) -> Result:
    found, said = api.get("config"), api.get("overrides")
    return Result(found, [json.dumps(found, indent=2)], [clean(one["text"]) for one in said])


@commands.add(
    "statistics",
    "everything that is counted, a number a line",
    argument("app", nargs="?", metavar="APP", help="of this one"),
    argument("--all", action="store_true", help="what is zero, too"),
    *WATCH,
)
def statistics(api: Client, args: Namespace) -> Result:
    found = statistics_of(api)
    if args.app is not None:
        if args.app not in found["apps"]:
            raise Declined(f"there is no app named {args.app!r}")
        found = found["apps"][args.app]
    return Result(found, map(clean, _numbers(found, "", is_all=args.all)))


def _numbers(found: Any, path: str, *, is_all: bool) -> Iterator[str]:
    """Paths as in the JSON; of histograms their number, their mean and three percentiles."""
    if isinstance(found, dict) and {"bounds", "upto"} <= found.keys():
        if found["count"]:
            shares = percentiles(found).items()
            within = ", ".join(f"{name} {duration(value)}" for name, value in shares if value is not None)
            yield f"{path} {found['count']}, mean {duration(found['sum'] / found['count'])}, {within}"
        elif is_all:
            yield f"{path} 0"
    elif isinstance(found, dict):
        for key, value in found.items():
            yield from _numbers(value, f"{path}.{key}" if path else key, is_all=is_all)
    elif isinstance(found, list):
        for number, value in enumerate(found):
            yield from _numbers(value, f"{path}[{number}]", is_all=is_all)
    elif found or is_all:
        yield f"{path} {found}"


@commands.add("limits", "what there is room for, and how much of it is used", *WATCH)
def limits(api: Client, _args: Namespace) -> Result:
    found = api.get("limits")
    return Result(found, _limits(found))


def _limits(found: View) -> Iterator[str | Table]:
    open_now, most = found["descriptors"]["open"], found["descriptors"]["limit"]
    yield f"supervisor: {open_now} of {plural(most, 'descriptor')} open"
    rows = [(one["index"], one["pid"], one["capacity"], one["descriptors"]) for one in found["workers"]]
    yield table(("worker", "process", "sessions", "open descriptors"), rows, right="worker process sessions")
    if found["apps"]:
        yield ""
        of_apps = [(one["app"], one["sessions"], one["limit"]) for one in found["apps"]]
        yield table(("app", "now", "limits.sessions"), of_apps, right="now limits.sessions")
    if found["rates"]:
        yield ""
        rows = [(one["app"], one["limit"], f"{one['most']:g}", one["refused"]) for one in found["rates"]]
        yield table(("app", "limit", "most", "refused"), rows, right="most refused")
    if found["targets"]:
        yield ""
        rows = [(one["app"], one["target"], one["sessions"], one["max_connections"]) for one in found["targets"]]
        yield table(("app", "target", "now", "max_connections"), rows, right="now max_connections")
    yield ""
    yield f"kept: the last {found['events_kept']} events, the last {found['records_kept']} sessions of each worker"
