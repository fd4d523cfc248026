"""The dial of a request that has no kept connection: where it goes, and what it does with a target that it has waited for.

Owned like every Dial, by the loop's thread. One that waits in the app's queue may find a connection that was kept since.
"""

from functools import partial
from typing import Any, Protocol

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.dial import Dial, DialOwner
from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.live_target import LiveTarget


class Waiting(Protocol):
    """The exchange whose request waits."""

    target: LiveTarget | None
    was_late: bool  # it did not go to a target at once

    def send_kept(self, target: LiveTarget) -> bool: ...


class DialingOwner(DialOwner, Protocol):
    """The client's connection."""

    app: LiveApp
    key: bytes
    dial: Dial | None

    @property
    def exchange(self) -> Waiting | None: ...


def new_dial(owner: DialingOwner, route_targets: Any) -> Dial:
    if owner.app.is_special:
        dial: Dial = KeyedDial(owner)
        dial.app = route_targets
    else:
        dial = Dial(owner.thread.loop, owner, route_targets, owner.key)
    dial.given = partial(_go_on, owner)
    return dial


def _go_on(owner: DialingOwner, dial: Dial, target: LiveTarget) -> None:
    """Its turn has come, and it has this target."""
    exchange, owner.dial = owner.exchange, None
    assert exchange is not None
    exchange.was_late = True
    if not exchange.send_kept(target):
        owner.dial, exchange.target = dial, None
        dial.begin(target)
