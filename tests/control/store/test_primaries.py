"""Who was primary last, as rows: what was written is read, and nothing else."""

import contextlib
import sqlite3

import pytest

from kit.store_contract import NOW
from kit.waiting import wait_until
from tcp_proxy.control.store import primaries
from tcp_proxy.control.store.database import MIGRATIONS, Damaged
from tcp_proxy.control.store.primaries import SavedPrimary
from tcp_proxy.control.store.state import StateFile

ONE = SavedPrimary("db", "192.0.2.1:5432", 7)


@pytest.fixture
def connection():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for step in MIGRATIONS:
            for statement in step:
                connection.execute(statement)
        yield connection


def test_the_last_that_was_written_is_read(connection):
    for saved in (SavedPrimary("db", "", 1), ONE, SavedPrimary("\ud800", "é", 2)):
        connection.execute(*primaries.insert(saved))
    assert primaries.read(connection) == {("db",): ONE, ("\ud800",): SavedPrimary("\ud800", "é", 2)}


@pytest.mark.parametrize(
    "change", ["epoch = 8", "epoch = -1", "epoch = 'x'", "target = 'other'", "target = NULL", "crc = NULL"]
)
def test_a_row_that_was_not_written_so_is_damage(connection, change):
    connection.execute(*primaries.insert(ONE))
    connection.execute(f"UPDATE primaries SET {change}")
    with pytest.raises(Damaged):
        primaries.read(connection)


def test_a_file_keeps_it_over_a_restart_and_a_loss_of_the_file(tmp_path):
    path = tmp_path / "state.db"
    store = StateFile.open(str(path), [].append, lambda: NOW)
    store.save_primary(ONE)
    assert store.flush()
    path.unlink()
    store.save_primary(SavedPrimary("other", "x", 1))
    wait_until(path.exists, "a new file")
    store.close()
    again = StateFile.open(str(path), [].append, lambda: NOW)
    assert again.primary("db") == ONE
    assert again.primary("nobody") == SavedPrimary("nobody", "", 0)
    again.close()
