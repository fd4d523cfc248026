"""The operations of the management API about the cluster: who there is, and that this node is unfit.

Main thread only.
"""

from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.replies import Arguments, Operation, Refused


class ClusterOrders:
    def __init__(self, context: Context) -> None:
        self._context = context

    def __repr__(self) -> str:
        return f"<ClusterOrders to {self._context.cluster!r}>"

    def operations(self) -> dict[str, Operation]:
        return {"cluster": self._look, "declare": self._declare}

    def _look(self, _arguments: Arguments) -> dict[str, Any]:
        if self._context.cluster is None:
            raise Refused(404, 'this proxy is in no cluster: its configuration has no key "cluster"')
        return self._context.cluster.view()

    def _declare(self, arguments: Arguments) -> None:
        self._look(arguments)
        assert self._context.cluster is not None
        self._context.cluster.declare(arguments["why"])
