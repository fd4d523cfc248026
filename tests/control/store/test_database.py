"""The state file itself: ours or not, whole or damaged, alone or shared; nothing that is in its place stops a start."""

import contextlib
import fcntl
import os
import pathlib
import random
import re
import socket
import sqlite3
import subprocess
import sys

import pytest

from kit.programs import need
from kit.waiting import wait_until
from tcp_proxy.control.store import database
from tcp_proxy.control.store.database import APPLICATION_ID, MIGRATIONS, CannotUse, Damaged, Database

HOME = pathlib.Path(__file__).parents[3]
ROW = ("app", "t", "", None, "up", 0, "", 0.0, "file", "", 0)
INSERT = f"INSERT OR REPLACE INTO targets VALUES ({', '.join('?' * len(ROW))})"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def rows(connection):
    return connection.execute("SELECT * FROM targets").fetchall()


@pytest.fixture
def opened(path):
    """opened(): the database and what was warned of; closed after the test."""
    with contextlib.ExitStack() as stack:

        def start(at=path, read=rows):
            warnings = []
            made = Database.open(str(at), read, warnings.append)
            stack.callback(made.close)
            return made, warnings

        yield start


def written(path, count=1):
    """A file of ours with `count` rows, closed."""
    made = Database.open(str(path), rows, pytest.fail)
    made.write([(INSERT, (f"app{i}", *ROW[1:])) for i in range(count)])
    made.close()
    return path.read_bytes()


def by_hand(path, *statements):
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def aside(path):
    return sorted(found for found in path.parent.iterdir() if ".damaged-" in found.name)


def test_a_new_file_says_whose_it_is(path, opened):
    made, warnings = opened()
    assert made.is_new
    assert (made.content, warnings) == ([], [])
    header = path.read_bytes()[:100]
    assert header[60:64] == len(MIGRATIONS).to_bytes(4)
    assert header[68:72] == APPLICATION_ID.to_bytes(4) == b"tcpp"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_written_is_read_again(path, opened):
    written(path, 3)
    made, warnings = opened()
    assert not made.is_new
    assert [row[0] for row in made.content] == ["app0", "app1", "app2"]
    assert warnings == []


def test_a_transaction_is_all_or_nothing(opened):
    made, _ = opened()
    with pytest.raises(sqlite3.Error):
        made.write([(INSERT, ROW), ("INSERT INTO nowhere VALUES (1)", ())])
    assert rows(made._connection) == []
    made.write([(INSERT, ROW)])
    assert rows(made._connection) == [ROW]


def test_between_transactions_the_one_file_is_everything(path, tmp_path, opened):
    """A copy of it is a backup; others may read it meanwhile."""
    made, _ = opened()
    made.write([(INSERT, ROW)])
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    for readable in (path, copy):
        with contextlib.closing(sqlite3.connect(readable)) as connection:
            assert rows(connection) == [ROW]


def test_an_empty_file_is_a_new_one(path, opened):
    path.touch()
    made, warnings = opened()
    assert made.is_new
    assert warnings == []


# -- damaged, foreign, newer: set aside


def is_set_aside(path, opened, why, before):
    made, warnings = opened()
    assert made.is_new
    assert made.content == []
    (name,) = [found for found in aside(path) if not found.name.endswith(("-journal", "-wal", "-shm"))]
    assert re.fullmatch(r"state\.db\.damaged-\d{8}T\d{6}Z", name.name)
    assert name.read_bytes() == before, "what is set aside is as it was"
    (warning,) = warnings
    assert str(path) in warning
    assert str(name) in warning
    assert why in warning
    assert "\n" not in warning
    made.write([(INSERT, ROW)])


FOREIGN = {
    "text": b"apps: nothing to see\n" * 20,
    "one byte": b"x",
    "a zero page": bytes(4096),
    "only the magic": database.MAGIC,
    "noise": random.Random(1).randbytes(10_000),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_database(path, opened, kind):
    path.write_bytes(FOREIGN[kind])
    is_set_aside(path, opened, "", FOREIGN[kind])


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("application", [0, 1])
def test_another_program_s_database(path, opened, mode, application):
    by_hand(path, f"PRAGMA journal_mode = {mode}", f"PRAGMA application_id = {application}", "CREATE TABLE t (x)")
    is_set_aside(path, opened, "it belongs to another program", path.read_bytes())


def test_a_log_of_another_program_goes_with_its_database(path, opened):
    """Left behind, it would be taken for a part of the new file."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as theirs:
        theirs.execute("PRAGMA journal_mode = wal")
        theirs.execute("CREATE TABLE t (x)")
        opened()
        assert sorted(found.name.rpartition("T")[2][6:] for found in aside(path)) == ["Z", "Z-shm", "Z-wal"]


def test_a_newer_version_s_file(path, opened):
    written(path)
    by_hand(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    is_set_aside(path, opened, "a newer tcp_proxy has written it", path.read_bytes())


@pytest.mark.parametrize("sql", ["DROP TABLE targets", "ALTER TABLE targets RENAME COLUMN admin TO adm"])
def test_our_file_with_other_tables(path, opened, sql):
    written(path)
    by_hand(path, sql)
    read = "SELECT admin FROM targets"
    is_set_aside(path, lambda: opened(read=lambda c: c.execute(read).fetchall()), "damaged", path.read_bytes())


def test_what_the_reader_refuses(path, opened):
    before = written(path)

    def read(connection):
        if rows(connection):
            raise Damaged("a row is wrong")
        return []

    is_set_aside(path, lambda: opened(read=read), "a row is wrong", before)


def test_cut_at_every_page_and_in_between(path):
    """SQLite takes what is missing of the last page for zeros: the one byte less was one."""
    whole = written(path, 400)
    assert len(whole) >= 5 * 4096
    for size in [*range(0, len(whole), 4096), 1, 99, 100, 4095, 5000, len(whole) - 1]:
        path.write_bytes(whole[:size])
        warnings = []
        made = Database.open(str(path), rows, warnings.append)
        made.close()
        assert len(made.content) == (400 if size == len(whole) - 1 else 0), size
        assert len(warnings) == (size not in (0, len(whole) - 1)), size
        for old in aside(path):
            old.unlink()


def test_set_aside_twice_in_a_second(path):
    for _ in range(3):
        path.write_text("no database")
        Database.open(str(path), rows, lambda _: None).close()
    assert len(aside(path)) == 3


def test_a_journal_without_its_file_is_nothing(path, opened):
    """The end of a crash while a file was being set aside."""
    pathlib.Path(f"{path}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    made, warnings = opened()
    made.write([(INSERT, ROW)])
    assert rows(made._connection) == [ROW]
    assert warnings == []


# -- older versions


def test_an_older_version_s_file_gets_what_is_new(path, opened, monkeypatch):
    written(path)
    monkeypatch.setattr(database, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO more VALUES (1)")))
    made, warnings = opened()
    assert made._connection.execute("SELECT x FROM more").fetchall() == [(1,)]
    assert len(made.content) == 1
    made.close()
    made, warnings = opened()
    assert made._connection.execute("SELECT x FROM more").fetchall() == [(1,)], "once only"
    assert warnings == []


# -- places


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket", "device", "no folder", "file as folder", "long name"])
def test_no_place_for_a_state_file(path, kind, tmp_path):
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path = pathlib.Path("/dev/null")
    elif kind == "long name":
        path = tmp_path / ("x" * 300)
    elif kind == "no folder":
        path = tmp_path / "no" / "state.db"
    else:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "state.db"
    with pytest.raises(CannotUse) as caught:
        Database.open(str(path), rows, pytest.fail)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)
    assert not list(tmp_path.glob("**/*.damaged-*"))


def test_a_link_leads_to_the_file(path, tmp_path, opened):
    real = tmp_path / "real.db"
    path.symlink_to(real)
    made, _ = opened()
    assert made.path == str(real)
    assert path.is_symlink()
    made.close()
    real.write_text("damaged")
    opened()
    assert path.is_symlink(), "the file is set aside, not the link"
    assert [found.name[:16] for found in aside(path)] == ["real.db.damaged-"]


READ_ONLY = """
import sys
from tcp_proxy.control.store.database import Database, CannotUse
try:
    Database.open(sys.argv[1] + "/state.db", list)
except CannotUse as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a mount namespace")
def test_a_read_only_place(tmp_path):
    mount = [need("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs -o ro none "$2" && exec "$0" -c "$1" "$2"']
    command = [*mount, sys.executable, READ_ONLY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, check=False)
    error = f"cannot open the state file {tmp_path}/state.db: the folder {tmp_path} cannot be written\n"
    assert done.stdout == error, done.stderr


# -- others


def test_two_proxies_on_one_file(path, opened, monkeypatch):
    monkeypatch.setattr(database, "LOCK_WAIT", 0.1)
    made, _ = opened()
    made.write([(INSERT, ROW)])
    with pytest.raises(CannotUse, match="in use by another tcp_proxy"):
        opened()
    made.write([(INSERT, ("other", *ROW[1:]))])
    assert len(rows(made._connection)) == 2
    assert not aside(path)


def test_it_waits_a_moment_for_one_that_ends(path):
    first = Database.open(str(path), rows)
    lock = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); sys.stdin.read(1)"
    command = [sys.executable, "-c", lock, path]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first.close()
    assert holder.stdout.read(1)
    waiting = iter(range(100))

    class Event:
        def wait(self, _seconds):
            if next(waiting) == 3:
                holder.communicate(b"x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database.threading, "Event", Event)
        Database.open(str(path), rows).close()


def test_another_program_is_writing_it(path, monkeypatch, opened):
    """That says nothing of what is in the file: it stays where it is."""
    monkeypatch.setattr(database, "BUSY_WAIT", 0.01)
    before = written(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError) as caught:
            opened()
        assert database.is_passing(caught.value)
        other.execute("ROLLBACK")
    assert path.read_bytes() == before
    assert not aside(path)
    made, _ = opened()
    assert len(made.content) == 1


def test_it_notices_that_its_file_is_gone(path, opened):
    made, _ = opened()
    assert made.is_at_path()
    path.rename(f"{path}.old")
    assert not made.is_at_path()
    path.touch()
    assert not made.is_at_path()


def test_a_file_replaced_while_we_lock_it_is_not_ours(path, monkeypatch, opened):
    """Between open and flock: the lock on a file that is no longer at the path protects nothing."""
    path.touch()
    flock = fcntl.flock
    calls = []

    def replaced(fd, how):
        if not calls:
            path.unlink()
            path.touch()
        calls.append(fd)
        flock(fd, how)

    monkeypatch.setattr(database.fcntl, "flock", replaced)
    made, _ = opened()
    assert len(calls) == 2
    assert made.is_at_path()


# -- killed at any moment

WRITER = """
import sys
from tcp_proxy.control.store.database import Database
made = Database.open(sys.argv[1], lambda connection: None)
print("open", flush=True)
number = 0
while True:
    number += 1
    sql = "INSERT OR REPLACE INTO targets (app, target, results) VALUES ('a', ?, ?)"
    made.write([(sql, (f"t{i}" * 50, number)) for i in range(200)])
    print(number, flush=True)
"""


def distinct_numbers(connection):
    return connection.execute("SELECT DISTINCT results FROM targets").fetchall()


def test_killed_in_a_transaction_it_opens_again_with_the_one_before(path):
    """Every row of a transaction has its number: a file with two numbers in it would be half a transaction."""
    dice = random.Random(4)
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, cwd=HOME)
        assert child.stdout.readline() == "open\n"
        last = [int(child.stdout.readline()) for _ in range(dice.randrange(1, 6))][-1]
        wait_until(lambda: os.path.exists(f"{path}-journal"), "a transaction under way")
        child.kill()
        last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
        child.wait()
        child.stdout.close()
        made = Database.open(str(path), distinct_numbers, pytest.fail)
        made.close()
        assert made.content in ([(last,)], [(last + 1,)])
