"""Semaphores and tables of limits that have come from the supervisor, on their way to the targets and apps they are for.

The loop's thread, but for `count_in`, which every thread calls for its own sessions: an app that has its first limit learns
of those that are there already, but for clients that wait for a place. A session on its way from a relay thread to the loop
is in no thread's table; it has arrived there when all threads have answered, so the loop's own sessions are looked at again
in the end.

When there are more sessions than a limit allows, those of this worker that have no token buy what becomes free anywhere,
before anybody new does.
"""

import os
from collections.abc import Iterable, Sequence

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.places import Places
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.counters import Row
from tcp_proxy.wire.messages import Limits

SETTLE_EVERY = 0.02  # seconds between two looks for tokens, as long as sessions have none


class NewLimits:
    """Owns the descriptors until `adopt`."""

    def __init__(self, apps: Iterable[LiveApp], message: Limits, descriptors: Sequence[int]) -> None:
        by_slot: dict[int, Places] = {}
        self._apps: list[LiveApp] = []
        for app in apps:
            by_slot.update((target.slot, target) for target in app.made_targets.values())
            if app.places is not None:
                by_slot[app.slot] = app.places
                if app.slot in message.slots:
                    self._apps.append(app)
        numbers = message.numbers or (0,) * len(message.slots)
        parts = zip(message.slots, descriptors[: len(message.slots)], numbers, strict=True)
        self._semaphores = [(by_slot.get(slot), fd, number) for slot, fd, number in parts]
        self._with_table = [app for app in apps if app.slot in message.tables and _use_table(app, message, descriptors)]
        for fd in descriptors[len(message.slots) :]:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<NewLimits {len(self._semaphores)} semaphores, {len(self._with_table)} tables>"

    def count_in(self, thread: SessionThread) -> None:
        for app in self._apps:
            if app.places is not None:
                inside = [one for one in thread.members if one.app is app and not getattr(one, "waits_for_place", False)]
                app.places.count_in(inside, thread.row)
        for app in self._with_table:
            if app.client_limits is not None:
                inside = [one for one in thread.members if one.app is app and getattr(one, "is_counted", True)]
                app.client_limits.count_in(inside, thread.loop.now, thread.row)

    def adopt(self, thread: SessionThread, mine: Sequence[Row]) -> None:
        """Every thread has been here. `thread` is the loop's; `mine`: this worker's rows, the loop's first."""
        self.count_in(thread)
        for places, fd, number in self._semaphores:
            if places is not None and places.limited:
                places.adopt(fd, mine, number)
            else:  # its limit is gone meanwhile, or its owner is
                os.close(fd)
        settle(thread.loop, {places for places, _, _ in self._semaphores if places is not None})


def settle(loop: Loop, owners: set[Places]) -> None:
    """Sessions of these that have no token buy what becomes free, until each has one."""
    left = {places for places in owners if not places.settle()}
    if left:
        loop.call_later(SETTLE_EVERY, settle, loop, left)


def _use_table(app: LiveApp, message: Limits, descriptors: Sequence[int]) -> bool:
    """From now on, so that a session that ends while others are still counted in is not forgotten in it. False: the app
    has another one by now, or none."""
    index = message.tables.index(app.slot)
    number = message.table_numbers[index]
    if app.clients != number:
        return False
    # ctypes is loaded for the first app that needs it
    from tcp_proxy.dataplane.client_limits import ClientLimits  # noqa: PLC0415
    from tcp_proxy.wire.client_table import ClientTable  # noqa: PLC0415

    table = ClientTable(descriptors[len(message.slots) + index], message.worker)
    app.client_limits = ClientLimits(table, number, app.slot, app.row, app.limits, app.http is not None)
    return True
