"""tcp-proxy-ctl: a word of the command line becomes a command, its result text or JSON, its end an exit status.

0 done · 1 refused · 2 usage · 3 the proxy cannot be reached · 130 Ctrl-C before it was done
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence

from tcp_proxy import __version__
from tcp_proxy.ctl import change, checks, look, sticks, top
from tcp_proxy.ctl.client import DEFAULT, BadAddress, Client, Refused, Unreachable
from tcp_proxy.ctl.command import Declined, Misused, Result
from tcp_proxy.ctl.show import clean

MODULES = (look, top, change, checks, sticks)
COMMANDS = {command.name: command for module in MODULES for command in module.commands}

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    args = _parser().parse_args(argv)
    is_endless = False
    try:
        found = COMMANDS[args.command].run(Client(args.api, _token(args.token_file)), args)
        if isinstance(found, Result):
            _print(found, args.json)
            return 0
        is_endless = True
        with contextlib.closing(found):  # it may have the terminal
            for result in found:
                _print(result, args.json, indent=None)
    except (Misused, BadAddress) as error:
        return _complain(USAGE, str(error))
    except Declined as error:
        return _complain(REFUSED, str(error))
    except Refused as error:
        if args.json:
            sys.stdout.write(json.dumps(error.problem, indent=2) + "\n")
        return _complain(REFUSED, *error.complaints)
    except Unreachable as error:
        return _complain(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        return 0 if is_endless else INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tcp-proxy-ctl",
        description="Look at a running tcp_proxy, and change it, by its management API (`api` of its configuration).",
        epilog="exit status: 0 done, 1 refused, 2 usage, 3 the proxy cannot be reached",
    )
    parser.add_argument("--version", action="version", version=f"tcp_proxy {__version__}")
    _common(parser, os.environ.get("TCP_PROXY_API", DEFAULT), os.environ.get("TCP_PROXY_TOKEN_FILE", ""), False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        one = commands.add_parser(command.name, help=command.help, description=command.help)
        _common(one, argparse.SUPPRESS, argparse.SUPPRESS, argparse.SUPPRESS)
        for argument in command.arguments:
            one.add_argument(*argument.names, **argument.options)
    return parser


def _common(parser: argparse.ArgumentParser, api: str, token_file: str, as_json: bool | str) -> None:
    """Before or after the command: what stands after it wins."""
    where = f"http://HOST:PORT or unix:/PATH (TCP_PROXY_API, else {DEFAULT})"
    parser.add_argument("--api", default=api, metavar="URL", help=where)
    parser.add_argument("--token-file", default=token_file, metavar="FILE", help="api.token_file (TCP_PROXY_TOKEN_FILE)")
    parser.add_argument("--json", action="store_true", default=as_json, help="JSON instead of text")


def _token(path: str) -> str:
    if not path:
        return ""
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise Misused(f"token file {path}: {reason}") from None
    if not token.isprintable():
        raise Misused(f"token file {path}: wanted one line")
    return token


def _print(result: Result, as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.value, indent=indent) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in result.lines))
        sys.stdout.flush()
        sys.stderr.write("".join(f"{line}\n" for line in result.notes))
    sys.stdout.flush()


def _complain(status: int, *lines: str) -> int:
    sys.stderr.write("".join(f"tcp-proxy-ctl: {clean(line)}\n" for line in lines))
    return status
