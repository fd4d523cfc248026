"""What a command is. To add one: a function with the decorator in a file here, and that file in main.MODULES.

    commands = Commands()

    @commands.add("weight", "give a target another weight", APP, TARGET, argument("weight", type=int))
    def weight(api: Client, args: Namespace) -> Result: …

The function asks the API and returns a Result: the value for --json, and lines for people. What the API refuses, and
that it cannot be reached, is main's to tell; a command that finds itself refused raises Declined.
"""

from argparse import Namespace
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.show import Table


class Declined(Exception):
    """The proxy answered, and it is not what was asked for; exit status 1."""


class Misused(Exception):
    """What was given cannot be used; exit status 2."""


@dataclass(frozen=True, slots=True)
class Result:
    """`value` is what --json prints, `lines` what a person sees, `notes` what a person sees on standard error."""

    value: Any
    lines: Iterable[str | Table]
    notes: list[str] = field(default_factory=list)


Results = Result | Generator[Result, None, None]  # the latter: one after another, as they come; --json makes a line of each
Run = Callable[[Client, Namespace], Results]


@dataclass(frozen=True, slots=True)
class Argument:
    """What argparse's add_argument takes."""

    names: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    help: str
    arguments: tuple[Argument, ...]
    run: Run


class Commands(list[Command]):
    """Those of one file."""

    def add(self, name: str, help_text: str, *arguments: Argument) -> Callable[[Run], Run]:
        def decorate(run: Run) -> Run:
            self.append(Command(name, help_text, arguments, run))
            return run

        return decorate


def argument(*names: str, **options: Any) -> Argument:
    return Argument(names, options)


APP = argument("app", metavar="APP", help="the app's name")
TARGET = argument("target", metavar="TARGET", help="the target's name, as `status` shows it")
