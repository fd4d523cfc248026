"""flopsy's command line: its flags as a configuration of ours, so that who has used flopsy need change nothing.

The supervisor's process only; imports next to nothing until `load`, for a worker is started first. What the flags stand
for is a document like any other (`--print-config` shows it), judged by the same rules; only the errors speak of flags
instead of keys.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcp_proxy.config.model import Config

NAME = "flopsy"  # of the app
LARGEST_BACKOFF = 1_000_000  # seconds, as everywhere; what flopsy takes beyond that, eleven days, is this
LARGEST_OF_FLOPSY = 2**32 - 1
# The keys that flags become, and what the user has written.
FLAGS = {
    "bind": "--bind", "ports": "--port", "targets": "--hosts", "failover.check": "--check-host",
    "failover.triggers": "--on-failover", "failover.max_backoff": "--max-backoff", "api.listen": "--api",
}  # fmt: skip


def add_flags(parser: argparse.ArgumentParser) -> None:
    flags = parser.add_argument_group(
        "failover without a file", "One port, and one of several hosts behind it; the same flags as flopsy's."
    )
    where = flags.add_mutually_exclusive_group()
    where.add_argument("-p", "--port", type=_whole("port", 1, 65535), metavar="N", help="listen on every address")
    where.add_argument("-b", "--bind", type=_bind, metavar="ADDR:PORT", help="listen on this one")
    flags.add_argument(
        "-H", "--hosts", action="append", metavar="HOST:PORT,…", help="who may be primary, the first of them first"
    )
    flags.add_argument("-c", "--check-host", metavar="PATH", help="an executable that says whether a host can be primary")
    flags.add_argument("-f", "--on-failover", metavar="PATH", help="an executable, or a folder, to run for a new primary")
    flags.add_argument(
        "-B", "--max-backoff", type=_whole("seconds", 0, LARGEST_OF_FLOPSY), metavar="SECONDS",
        help="the longest wait while no host can be primary (default: 60)",
    )  # fmt: skip
    flags.add_argument("--api", metavar="ADDR:PORT", help="serve the management API there, or at unix:/PATH")
    flags.add_argument("--print-config", action="store_true", help="print the configuration that these flags stand for")


def is_used(args: argparse.Namespace) -> bool:
    given = (args.port, args.bind, args.hosts, args.check_host, args.on_failover, args.max_backoff, args.api)
    return args.print_config or any(value is not None for value in given)


def refuse_file(args: argparse.Namespace, refuse: Callable[[str], Any]) -> None:
    """`-c FILE` and `-f FILE` alone are how other proxies are given their configuration."""
    alone = args.hosts is None and args.port is None and args.bind is None
    for flag, name, path in (("-c", "--check-host", args.check_host), ("-f", "--on-failover", args.on_failover)):
        if alone and path is not None:
            refuse(f"{flag} is {name} here, a script; a configuration is named without a flag: tcp-proxy {path}")


def missing(args: argparse.Namespace) -> str:
    """What is needed beside the flags that were given; "" if nothing is."""
    lacking = [] if args.port is not None or args.bind is not None else ["-p/--port or -b/--bind"]
    return ", ".join(lacking + ([] if _hosts(args) else ["-H/--hosts"]))


def _hosts(args: argparse.Namespace) -> list[str]:
    """As flopsy takes them: with spaces, a comma at the end, and one host twice."""
    hosts = (host.strip() for some in args.hosts or () for host in some.split(","))
    return [host for host in hosts if host]


def document(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags stand for."""
    host, port = ("*", args.port) if args.bind is None else args.bind
    failover: dict[str, Any] = {"while_electing": "refuse"}
    if args.check_host is not None:
        failover["check"] = args.check_host
    if args.on_failover is not None:
        failover["triggers"] = [args.on_failover]
    if args.check_host is not None or args.on_failover is not None:
        failover["environment"] = ["*"]  # what flopsy's scripts find
    if args.max_backoff is not None:
        failover["max_backoff"] = min(args.max_backoff, LARGEST_BACKOFF)
    hosts = list(dict.fromkeys(_hosts(args)))
    app = {
        "name": NAME, "bind": host, "ports": [port], "targets": hosts, "balance": "failover", "health": [],
        "failover": failover,
    }  # fmt: skip
    return {"apps": [app]} if args.api is None else {"api": {"listen": args.api}, "apps": [app]}


def load(plain: Mapping[str, Any]) -> "Config":
    """The configuration of a `document`. Raises ConfigErrors, which name flags."""
    from tcp_proxy.config.load import ConfigError, ConfigErrors, load_text  # noqa: PLC0415  slow, and a worker starts first

    try:
        return load_text(json.dumps(plain).encode(), "")
    except ConfigErrors as errors:
        found = [f"{_flag(error.path)}: {error.message}" for error in errors.errors]
        raise ConfigErrors(tuple(ConfigError("the command line", 0, 0, "", text) for text in found)) from None


def _flag(path: str) -> str:
    key = path.removeprefix("$.apps[0].").removeprefix("$.").partition("[")[0]
    return FLAGS.get(key, key)


def _whole(what: str, least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}; wanted a whole number from {least} to {most}")
        return int(text)

    return parse


def _bind(text: str) -> tuple[str, int]:
    """ADDR:PORT, [ADDR]:PORT; localhost is 127.0.0.1, an empty address all of them."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} has no port; wanted ADDR:PORT")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    known = {"localhost": "127.0.0.1", "": "*"}
    return known.get(host, host), _whole("port", 1, 65535)(port)
