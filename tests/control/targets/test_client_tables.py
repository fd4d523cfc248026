"""Tables of clients: which app has one, which reload makes another one, and that none is left over."""

import dataclasses
import os

import pytest

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.control.targets.client_tables import close_table, forget_worker, make_tables, set_table
from tcp_proxy.wire.client_table import ClientTable

LIMITS = SessionLimits(sessions_per_client=3, clients=5000)


@dataclasses.dataclass
class Owner:
    table: int = -1
    table_number: int = 0


def test_an_app_has_the_table_that_was_made_for_it_until_it_wants_none():
    owner = Owner()
    assert set_table(owner, "web", make_tables({"web": LIMITS}), LIMITS, 7)
    fd = owner.table
    assert (os.fstat(fd).st_size > 0, owner.table_number) == (True, 7)
    assert not set_table(owner, "web", {}, LIMITS, 8), "it is kept"
    assert (owner.table, owner.table_number) == (fd, 7)
    assert set_table(owner, "web", make_tables({"web": LIMITS}), LIMITS, 9)
    assert owner.table_number == 9
    assert not set_table(owner, "web", {}, SessionLimits(), 10)
    assert (owner.table, owner.table_number) == (-1, 0)
    close_table(owner)


def test_where_there_is_no_descriptor_for_all_there_is_none_at_all(monkeypatch):
    made, create = [], os.memfd_create

    def fails(*what):
        if made:
            raise OSError(24, "Too many open files")
        made.append(create(*what))
        return made[0]

    monkeypatch.setattr(os, "memfd_create", fails)
    with pytest.raises(OSError, match="Too many"):
        make_tables({"a": LIMITS, "b": LIMITS})
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(made[0])


def test_a_dead_worker_is_forgotten_in_all_of_them():
    owners = [Owner(fd) for fd in make_tables({"a": LIMITS, "b": LIMITS}).values()]
    tables = [ClientTable(owner.table, 1) for owner in owners]
    for table in tables:
        table.own[5] = 3
    forget_worker([*owners, Owner()], 1)
    assert [table.sessions(5) for table in tables] == [0, 0]
    for owner in owners:
        close_table(owner)
