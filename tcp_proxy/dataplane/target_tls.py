"""How one target is spoken to over TLS: the context, whom it must be, the sessions that it takes up again.

Owned by the loop's thread, but for `sessions`: a connection that ends in a relay thread leaves its session there, in one
step. A context is one for all targets of an app that are spoken to alike, and outlives changes of other things.
"""

import ssl
from collections.abc import Sequence
from typing import Any

from tcp_proxy.config import tls_model
from tcp_proxy.runtime.tls import client_context
from tcp_proxy.wire.views import TargetView

Contexts = dict[tls_model.TargetTls, ssl.SSLContext]


class TargetTls:
    """`names`: by listening port, 0 for every one; "" for a target that nobody is asked to be."""

    __slots__ = ("_names", "context", "sessions")

    def __init__(self, context: ssl.SSLContext, names: tuple[tuple[int, str], ...]) -> None:
        self.context = context
        self._names = dict(names)
        # By name: one that is taken up again is not looked at for its certificate once more.
        self.sessions: dict[str, ssl.SSLSession] = {}

    def __repr__(self) -> str:
        return f"<TargetTls {self._names}, {len(self.sessions)} sessions>"

    def name(self, port: int) -> str:
        return self._names.get(port, self._names.get(0, ""))

    def is_as(self, context: ssl.SSLContext, names: tuple[tuple[int, str], ...]) -> bool:
        return self.context is context and self._names == dict(names)


def contexts(ways: Sequence[tls_model.TargetTls], before: Contexts) -> Contexts:
    """One for each way to speak; those that there are already stay."""
    return {way: before.get(way) or client_context(way) for way in ways}


def of_target(view: TargetView, ways: Sequence[tls_model.TargetTls], made: Contexts, before: Any) -> TargetTls:
    """`before`: how it was spoken to until now, or None."""
    context = made[ways[view.tls]]
    if before is not None and before.is_as(context, view.server_names):
        found: TargetTls = before
        return found
    return TargetTls(context, view.server_names)
