"""What is told from outside that the configuration is another one, without a reload: renewed certificates, and targets that
come and go. Main thread only.
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.control.changes.discovered import Discovered
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.changes.renewals import Renewals
from tcp_proxy.control.context import Context


class Watches:
    def __init__(self, context: Context, reload: Reload, answered: Callable[[], Any]) -> None:
        self._renewals = Renewals(context, reload)
        self._discovered = Discovered(context, reload, answered)

    def __repr__(self) -> str:
        return f"<Watches {self._renewals!r} {self._discovered!r}>"

    def start(self) -> None:
        self._renewals.start()
        self._discovered.look()

    def look(self) -> None:
        """Another configuration runs."""
        self._renewals.look()
        self._discovered.look()

    def stop(self) -> None:
        self._renewals.stop()
        self._discovered.stop()
