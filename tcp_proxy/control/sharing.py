"""What a node of a cluster has in common with the others, put together: the pool, health, and what each says of its file.

Main thread only; the files' digests are made in a thread `digests`. Imported where a configuration has `cluster`.
"""

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.model import App, Config
from tcp_proxy.control.answers import views
from tcp_proxy.control.changes.operator import Operator
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.changes.shared_pool import SharedPool
from tcp_proxy.control.cluster import config_digests
from tcp_proxy.control.cluster.config_digests import Digests
from tcp_proxy.control.cluster.node import ClusterNode
from tcp_proxy.control.cluster.shared_reports import SharedReports
from tcp_proxy.control.cluster.votes import Votes
from tcp_proxy.control.context import Context
from tcp_proxy.control.events import Event
from tcp_proxy.control.long_answer import pieces
from tcp_proxy.wire.cluster import parts_of

logger = logging.getLogger(__name__)

CONFIG = "config"


class Sharing:
    def __init__(self, context: Context, node: ClusterNode, operator: Operator, reload: Reload) -> None:
        self._context = context
        self._node = node
        self._operator = operator
        self._pool = SharedPool(context, operator.overrides, reload, node.shared, node.node)
        operator.shared = self._pool
        idle, targets, states = context.slices.when_idle, context.targets, context.states
        how = states.changed, idle, node.checkers, states.leave_to_others
        self._votes = Votes(context.loop, targets, node.shared, node.node, *how)
        states.vote(self._votes)
        self._reports = SharedReports(targets, states.self_reports, node.shared, node.node, lambda: node.is_joined, idle)
        operator.reported = self._reports.said
        self._digests: Digests | None = None
        self._differences: dict[str, list[str]] = {}
        node.shared.observe(CONFIG, lambda _keys: self._compare())
        context.events.observe(self._happened)
        self._look()
        if node.is_joined:  # as another program, which has told what all think of targets
            self.vote()
            self._votes.look_at_all()

    def __repr__(self) -> str:
        return f"<Sharing of {self._node!r}, {self._pool!r}>"

    def is_applied(self, then: Callable[[], Any]) -> bool:
        if not self._pool.is_applied:
            self._pool.when_applied(then)
        return self._pool.is_applied

    def differences(self) -> dict[str, list[str]]:
        return self._differences

    def own(self) -> None:
        self._votes.withdraw()

    # -- what files say

    def _happened(self, event: Event) -> None:
        if event.kind == "reload" and event.data["ok"]:
            self._look()
            self._context.slices.when_idle(self._reports.look)
        elif event.kind == "cluster" and event.data["state"] not in ("differs", "agrees"):
            self._context.slices.when_idle(self.vote)

    def vote(self) -> None:
        """With those that are there."""
        is_joined = self._node.is_joined
        self._votes.discount(set(self._node.unfit))
        self._votes.assign(self._node.names if is_joined else set())
        self._votes.join(is_joined)

    def _look(self) -> None:
        config = self._operator.overrides.file

        def make() -> None:
            self._context.loop.call_soon(self._made, _digests(config))

        try:
            threading.Thread(target=make, name="digests", daemon=True).start()
        except RuntimeError as error:  # no more threads for this user or machine
            logger.error("what the configuration says cannot be compared with other nodes': %s", error)  # noqa: TRY400

    def _made(self, digests: Digests) -> None:
        self._digests = digests
        self._node.shared.publish(CONFIG, self._node.node, value=config_digests.written(digests))
        self._compare()

    def _compare(self) -> None:
        if self._digests is None:
            return
        before, self._differences = self._differences, {}
        for key, text in self._node.shared.each(CONFIG):
            parts, theirs = parts_of(key), config_digests.read(text)
            if theirs is not None and len(parts) == 2 and parts[1] != self._node.node:
                lines = config_digests.differences(self._digests, theirs)
                if lines:
                    self._differences[parts[1]] = lines
        for node in sorted(before.keys() | self._differences.keys()):
            lines = self._differences.get(node, [])
            if lines != before.get(node, []):
                self._tell(node, lines)

    def _tell(self, node: str, lines: list[str]) -> None:
        text = "; ".join(lines)
        if lines:
            logger.warning("cluster: node %s has another configuration: %s", node, text)
        else:
            logger.info("cluster: node %s has the same configuration again, or is gone", node)
        self._context.events.publish("cluster", {"node": node, "state": "differs" if lines else "agrees", "text": text})


def _digests(config: Config) -> Digests:
    """In the thread."""
    found = {}
    for app in config.apps:
        usual = _plain(App(app.name, (), ()))
        found[app.name] = config_digests.of_app(_plain(app), usual)
    return config_digests.of_all(found)


def _plain(app: App) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("".join(pieces(views.app_config(app))))
    return found
