"""The commands about health: the results of a target's checks, its own report that it is not well, and a node's that it is
unfit."""

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import APP, TARGET, Commands, Result, argument
from tcp_proxy.ctl.show import clean, duration, moment
from tcp_proxy.ctl.top import WATCH

commands = Commands()
View = dict[str, Any]

WORDS = {True: "success", False: "failure", None: "not checked"}


@commands.add("checks", "the last results of a target's health checks", APP, TARGET, *WATCH)
def checks(api: Client, args: Namespace) -> Result:
    found = api.get("apps", args.app, "targets", args.target, "probes")
    lines = [line for one in found for line in _check(one)]
    return Result(found, lines or [clean(f"app {args.app}: target {args.target} is not checked")])


def _check(one: View) -> Iterator[str]:
    check = one["check"]
    kind = check.get("preset") or check["type"]
    port = f", port {one['port']}" if one["port"] is not None else ""
    yield clean(f"{kind} every {check['interval']:g} s{port}: {one['verdict']}")
    for probe in one["probes"]:
        how = f"{duration(probe['seconds']):>7}  {WORDS[probe['success']]:<11}"
        yield clean(f"  {moment(probe['at'])}  {how}  {probe['text']}")


@commands.add(
    "unhealthy",
    "a target reports itself not well: no sessions for so long, whatever its checks find",
    APP,
    TARGET,
    argument("seconds", type=float, metavar="SECONDS", help="how long; 0: it is well again"),
    argument("--why", default="", help="for the log, and beside its state"),
)
def unhealthy(api: Client, args: Namespace) -> Result:
    body = {"for": args.seconds, "why": args.why}
    now = api.ask("POST", ("apps", args.app, "targets", args.target, "unhealthy"), body)
    return Result(now, [clean(f"app {now['app']}: target {now['name']} is {now['state']} ({now['why']})")])


@commands.add(
    "unfit",
    "this node of a cluster is unfit: what it finds does not count, and it decides on no primary",
    argument("--why", default="", help="for the log, and beside its name"),
)
def unfit(api: Client, args: Namespace) -> Result:
    told = api.ask("PUT", ("cluster", "unfit"), {"why": args.why})
    return Result(told, ["this node is unfit, as soon as all have heard of it"])


@commands.add("fit", "this node of a cluster is fit again")
def fit(api: Client, _args: Namespace) -> Result:
    return Result(api.ask("DELETE", ("cluster", "unfit")), ["this node is fit again, as soon as all have heard of it"])
