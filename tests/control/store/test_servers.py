"""What is known of servers, as rows: what was written is read, and nothing else."""

import contextlib
import sqlite3

import pytest

from kit.store_contract import NOW, SERVERS
from kit.waiting import wait_until
from tcp_proxy.control.store import servers as server_store
from tcp_proxy.control.store.database import MIGRATIONS, Damaged
from tcp_proxy.control.store.state import StateFile


@pytest.fixture
def connection():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        for step in MIGRATIONS:
            for statement in step:
                connection.execute(statement)
        yield connection


def write(connection, *statements):
    for sql, values in statements:
        connection.execute(sql, values)


def test_what_was_written_is_read(connection):
    write(connection, *map(server_store.insert, SERVERS))
    assert server_store.read(connection) == {server.key: server for server in SERVERS}
    write(connection, server_store.delete(SERVERS[0].key), server_store.insert(SERVERS[1]))
    assert list(server_store.read(connection)) == [server.key for server in SERVERS[1:]]


@pytest.mark.parametrize(
    "change",
    [
        "checks = '[]'",
        "checks = '{'",
        "checks = '[{}]'",
        "checks = '[1]'",
        "checks = replace(checks, 'false', '7')",
        "checks = replace(checks, 'false', 'true')",
        "checks = x'ff'",
        "port = 7",
        "crc = NULL",
    ],
)
def test_a_row_that_was_not_written_so_is_damage(connection, change):
    write(connection, server_store.insert(SERVERS[0]))
    connection.execute(f"UPDATE servers SET {change}")
    with pytest.raises(Damaged):
        server_store.read(connection)


def test_a_file_keeps_them_over_a_restart_and_a_loss_of_the_file(tmp_path):
    path = tmp_path / "state.db"
    warnings = []
    store = StateFile.open(str(path), warnings.append, lambda: NOW)
    for server in SERVERS:
        store.save_server(server)
    assert store.flush()
    path.unlink()
    store.forget_servers("web", "192.0.2.1:80", but=(5001, 5002))
    wait_until(lambda: store.flush() and path.exists(), "a new file")
    store.close()
    store = StateFile.open(str(path), pytest.fail, lambda: NOW)
    store.close()
    assert store.servers("web", "192.0.2.1:80") == {server.port: server.checks for server in SERVERS[1:]}
