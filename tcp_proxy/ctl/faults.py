"""The command about faults on purpose: what is to go wrong with sessions of an app, for a while."""

import re
from argparse import Namespace
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.command import Commands, Misused, Result, argument
from tcp_proxy.ctl.show import clean, duration, table

commands = Commands()
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
BYTES = {"": 1, "B": 1, "KB": 1000, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z%/]*)")
KINDS = "latency jitter bandwidth reset timeout slicer slow_close direction share networks for"


@commands.add(
    "fault",
    "faults on purpose: add APP WHAT…, list, or remove NUMBER",
    argument("action", choices=("add", "list", "remove"), metavar="ACTION", help="add, list or remove"),
    argument("words", nargs="*", metavar="WORD", help="of add: APP, and latency=50ms jitter=10ms bandwidth=1MB/s reset=1%% "
             "timeout slicer=100 slow_close=2s direction=up share=10%% networks=192.0.2.0/24 for=10m; of remove: NUMBER"),
)  # fmt: skip
def fault(api: Client, args: Namespace) -> Result:
    words = list(args.words)
    if args.action == "add":
        if len(words) < 2:
            raise Misused("wanted an APP, and what is to go wrong, such as latency=50ms")
        found = api.ask("POST", ("apps", words[0], "faults"), said(words[1:]))
        text = f"app {found['app']}: fault {found['number']} for {duration(found['seconds'])}: {found['text']}"
        return Result(found, [clean(text)])
    if args.action == "remove":
        if len(words) != 1 or not words[0].isdecimal():
            raise Misused("wanted the number of a fault: see fault list")
        return Result(api.ask("DELETE", ("faults", words[0])), [f"fault {words[0]} is over"])
    if words:
        raise Misused("list takes no further words")
    known = api.get("faults")
    rows = [(one["number"], one["app"], duration(one["seconds"]), one["text"]) for one in known]
    lines = table(("fault", "app", "for", "what"), rows, right="fault for") if rows else clean("no faults on purpose")
    return Result(known, [lines])


def said(words: list[str]) -> dict[str, Any]:
    """The body of the request. Raises Misused."""
    body: dict[str, Any] = {}
    for word in words:
        key, has_value, value = word.partition("=")
        if key not in KINDS.split() or (bool(has_value) is (key == "timeout")):
            raise Misused(f"{word}: wanted {', '.join(f'{one}=…' for one in KINDS.split() if one != 'timeout')} or timeout")
        if key in ("latency", "jitter", "slow_close", "for"):
            body["seconds" if key == "for" else key] = _number(word, value, SECONDS)
        elif key in ("bandwidth", "slicer"):
            body[key] = int(_number(word, value.removesuffix("/s") if key == "bandwidth" else value, BYTES))
        elif key in ("reset", "share"):
            body[key] = _number(word, value, {"%": 1, "": 1})
        else:
            body[key] = True if key == "timeout" else value.split(",") if key == "networks" else value
    return body


def _number(word: str, value: str, units: dict[str, float] | dict[str, int]) -> float:
    found = NUMBER.fullmatch(value)
    if found is None or found[2] not in units:
        raise Misused(f"{word}: wanted a number{' with a unit: ' if any(units) else ''}{', '.join(filter(None, units))}")
    return float(found[1]) * units[found[2]]
