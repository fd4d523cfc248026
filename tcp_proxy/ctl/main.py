"""tcp-proxy-ctl: a word of the command line becomes a command, its result text or JSON, its end an exit status.

0 done · 1 refused · 2 usage · 3 the proxy cannot be reached · 130 Ctrl-C before it was done

With --watch a command that looks is run again and again: on a terminal as one picture that changes.
"""

import argparse
import contextlib
import difflib
import itertools
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from tcp_proxy import __version__, build
from tcp_proxy.ctl import change, checks, completion, faults, look, program, sticks, top
from tcp_proxy.ctl.client import DEFAULT, BadAddress, Client, Refused, Unreachable, token_of
from tcp_proxy.ctl.command import Command, Declined, Misused, Result
from tcp_proxy.ctl.show import clean, text_of
from tcp_proxy.ctl.terminal import Keys, Screen, of_stdout
from tcp_proxy.runtime import completion as shell_completion

MODULES = (look, top, program, change, checks, sticks, faults)
COMMANDS = {command.name: command for module in MODULES for command in module.commands}

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(os.environ)
    if shell_completion.is_asked():
        return shell_completion.answer(parser)
    args = parser.parse_args(argv)
    is_endless = False
    try:
        command, api = COMMANDS[args.command], Client(args.api, token_of(args.token_file))
        if getattr(args, "watch", False):
            is_endless = True
            return _watch(command, api, args)
        found = command.run(api, args)
        if isinstance(found, Result):
            _print(found, args.json)
            return 0
        is_endless = True
        with contextlib.closing(found):  # it may have the terminal
            for result in found:
                _print(result, args.json, indent=None)
    except (Misused, BadAddress) as error:
        return _say_errors(USAGE, str(error))
    except Declined as error:
        return _say_errors(REFUSED, str(error))
    except Refused as error:
        if args.json:
            sys.stdout.write(json.dumps(error.problem, indent=2) + "\n")
        return _say_errors(REFUSED, *error.errors)
    except Unreachable as error:
        return _say_errors(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        return 0 if is_endless else INTERRUPTED
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _watch(command: Command, api: Client, args: argparse.Namespace) -> int:
    """Until q or Ctrl-C. A proxy that goes away after the first look is asked again."""
    on_screen = bool(of_stdout().width) and not args.json
    screen = Screen() if on_screen else None
    with Keys() as keys, contextlib.nullcontext() if screen is None else screen:
        for number in itertools.count():
            try:
                found = command.run(api, args)
                assert isinstance(found, Result)
            except Unreachable as error:
                if not number or screen is None:
                    raise
                screen.show([str(error)], 1)
            else:
                terminal = of_stdout()
                if screen is None:
                    _print(found, args.json, indent=None)
                else:
                    shown = text_of(found.lines, terminal.width, colours=terminal.colours)
                    screen.show([*shown, *found.notes], terminal.height - 1)
            if keys.wait(args.interval) == "q":
                return 0
    raise AssertionError


class Parser(argparse.ArgumentParser):
    """Of a word that is no command it names the one that is meant, instead of all."""

    def error(self, message: str) -> NoReturn:
        if (found := re.match("argument COMMAND: invalid choice: '(.*?)'", message)) is not None:
            near = difflib.get_close_matches(found[1], COMMANDS, 1)
            message = f"there is no command {found[1]}; {f'did you mean {near[0]}?' if near else '--help lists all'}"
        elif message.endswith("required: COMMAND"):
            message = "wanted a command; --help lists all"
        super().error(message)


def make_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="tcp-proxy-ctl",
        description="Look at a running tcp_proxy, and change it, by its management API (`api` of its configuration).",
        epilog="exit status: 0 done, 1 refused, 2 usage, 3 the proxy cannot be reached",
    )
    parser.add_argument("--version", action="version", version=f"tcp_proxy {__version__} ({build()})")
    _common(parser, environment.get("TCP_PROXY_API", DEFAULT), environment.get("TCP_PROXY_TOKEN_FILE", ""), False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        one = commands.add_parser(command.name, help=command.help, description=command.help)
        _common(one, argparse.SUPPRESS, argparse.SUPPRESS, argparse.SUPPRESS)
        for argument in command.arguments:
            completion.offer(one.add_argument(*argument.names, **argument.options))
    return parser


def _common(parser: argparse.ArgumentParser, api: str, token_file: str, as_json: bool | str) -> None:
    """Before or after the command: what stands after it wins."""
    where = f"http://HOST:PORT or unix:/PATH (TCP_PROXY_API, else {DEFAULT})"
    parser.add_argument("--api", default=api, metavar="URL", help=where)
    parser.add_argument("--token-file", default=token_file, metavar="FILE", help="api.token_file (TCP_PROXY_TOKEN_FILE)")
    parser.add_argument("--json", action="store_true", default=as_json, help="JSON instead of text")


def _print(result: Result, as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result.value, indent=indent) + "\n")
    else:
        terminal = of_stdout()
        shown = text_of(result.lines, terminal.width, colours=terminal.colours)
        sys.stdout.write("".join(f"{line}\n" for line in shown))
        sys.stdout.flush()
        sys.stderr.write("".join(f"{line}\n" for line in result.notes))
    sys.stdout.flush()


def _say_errors(status: int, *lines: str) -> int:
    sys.stderr.write("".join(f"tcp-proxy-ctl: {clean(line)}\n" for line in lines))
    return status
