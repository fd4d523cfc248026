"""The names that may come next on the command line, as the running proxy knows them: apps, and targets of one.

Whoever pressed TAB waits: an API that does not answer within a second has no names, and says nothing of it.
"""

import argparse
from typing import Any

from tcp_proxy.ctl.client import BadAddress, Client, Refused, Unreachable, token_of

WITHIN = 1.0  # seconds


def offer(action: argparse.Action) -> None:
    """Tell argcomplete who knows the values of an argument."""
    completer = {"app": apps, "target": targets}.get(action.dest)
    if completer is not None and not action.option_strings:
        action.completer = completer  # type: ignore[attr-defined]


def apps(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return [name for name in _known(parsed_args) if name.startswith(prefix)]


def targets(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    app = _known(parsed_args).get(parsed_args.app, {})
    return [name for name in app.get("targets", ()) if name.startswith(prefix)]


def _known(args: argparse.Namespace) -> dict[str, Any]:
    try:
        found = Client(args.api, token_of(args.token_file), WITHIN).get("statistics", brief="true")
    except (BadAddress, Refused, Unreachable):
        return {}
    known: dict[str, Any] = found["apps"]
    return known
