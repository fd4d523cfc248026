"""The tables of clients that apps with limits by client, or of a rate, have: made here, used by all workers.

Main thread only. A table is kept for as long as what it is of stays the same (SessionLimits.table), over all reloads; else
there is a new one, with another number, and what was known of clients is forgotten.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Protocol

from tcp_proxy.config.model import SessionLimits

Tables = dict[str, int]  # descriptors, by app


class HasTable(Protocol):
    """`table` is its descriptor, -1 without; `table_number` tells it from others."""

    table: int
    table_number: int


def make_tables(wanted: Mapping[str, SessionLimits]) -> Tables:
    """Raises OSError, and there are none."""
    made: Tables = {}
    try:
        for app, limits in wanted.items():
            from tcp_proxy.wire import client_table  # noqa: PLC0415  ctypes is loaded for the first app that needs it

            made[app] = client_table.create(client_table.entries_for(limits.clients))
    except OSError:
        for fd in made.values():
            os.close(fd)
        raise
    return made


def set_table(app: HasTable, name: str, made: Tables, limits: SessionLimits, number: int) -> bool:
    """After a change of the configuration, in which new ones were `made`: whether it has one of them."""
    if name in made:
        close_table(app)
        app.table, app.table_number = made[name], number
        return True
    if not limits.table:
        close_table(app)
    return False


def close_table(app: HasTable) -> None:
    fd, app.table, app.table_number = app.table, -1, 0
    if fd >= 0:
        os.close(fd)


def forget_worker(apps: Iterable[HasTable], worker: int) -> None:
    """The one that had this number is dead: none of its sessions is anybody's any more."""
    for app in apps:
        if app.table >= 0:
            from tcp_proxy.wire import client_table  # noqa: PLC0415  as above

            client_table.forget_worker(app.table, worker)
