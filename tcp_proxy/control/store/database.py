"""One SQLite file of ours: locked, judged, set aside if it is damaged or not ours, written in whole transactions.

Owned by one thread at a time: who opens it, then the writer (control.store.state). What is in the file is said by
MIGRATIONS; a later version of the program adds to that list and changes nothing that is on it.

    open: lock (flock) ── header, schema version, quick check, `read` ──> OPEN ── write* ── close
               │                    │ damaged, foreign, newer: renamed to PATH.damaged-TIME, a new file is made
               │                    └ busy, full, I/O error: OSError or sqlite3.Error, the file is left as it is
               └ another tcp_proxy has it, no regular file, no right to write: CannotUse

Always true:
- a rollback journal, not a write-ahead log: between two transactions the one file is complete and can be copied, nothing
  is mapped into memory (a full disk or a cut file is an error, never a SIGBUS), and a file system without shared memory
  will do. A transaction costs some fsyncs more; there are at most ten a second, in a thread of their own;
- header and tables come into a new file in one transaction, so a file is either empty or ours at any moment;
- the lock is a flock on a descriptor of our own, open as long as the connection (closing it earlier would drop SQLite's
  own locks, which belong to the process). SQLite's locks stay free: others can read the file while we run.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x74637070  # "tcpp", at byte 68 of the file: file(1) and we know it by that
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE targets (app TEXT, target TEXT, admin TEXT, weight INTEGER, verdict TEXT, results INTEGER,"
        " evidence TEXT, at REAL, origin TEXT, definition TEXT, crc INTEGER, PRIMARY KEY (app, target)) WITHOUT ROWID",
    ),
    (
        "CREATE TABLE sticks (app BLOB, key TEXT, target BLOB, version INTEGER, at REAL, PRIMARY KEY (app, key))"
        " WITHOUT ROWID",
    ),
    (
        "CREATE TABLE servers (app TEXT, target TEXT, port INTEGER, checks TEXT, crc INTEGER,"
        " PRIMARY KEY (app, target, port)) WITHOUT ROWID",
    ),
    ("CREATE TABLE primaries (app TEXT PRIMARY KEY, target TEXT, epoch INTEGER, crc INTEGER) WITHOUT ROWID",),
)  # user_version is how many of these a file has had

MAGIC = b"SQLite format 3\0"
LOCK_WAIT, LOCK_POLL = 1.0, 0.05  # seconds: an older supervisor may be ending at this moment (as with ports)
BUSY_WAIT = 1.0  # seconds that another program may be writing the file
PASSING = {  # what says nothing of the file's contents
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip

Statement = tuple[str, tuple[Any, ...]]
Warn = Callable[[str], Any]


class CannotUse(Exception):
    """One line for the user: this path can hold no state file, or somebody else's."""


class Damaged(Exception):
    """What is wrong with the file's contents."""


class Database:
    """The open file. `content` is what `read` made of it; `is_new`: it had nothing in it."""

    def __init__(self, path: str, fd: int, connection: sqlite3.Connection) -> None:
        self.path = path
        self.content: Any = None
        self.is_new = False
        self._fd = fd
        self._connection = connection

    def __repr__(self) -> str:
        return f"<Database {self.path}>"

    @classmethod
    def open(
        cls, path: str, read: Callable[[sqlite3.Connection], Any], warn: Warn = logger.warning, lock: int = -1
    ) -> "Database":
        """`read` takes what is in the file and raises Damaged where it makes no sense. `lock`: the file, opened and locked
        already; ours from now on. Raises CannotUse, sqlite3.Error."""
        path = os.path.realpath(path)
        for _ in range(2):
            fd, lock = _still_there(path, lock), -1
            fd = fd if fd >= 0 else _locked(path)
            try:
                return _opened(cls, path, fd, read)
            except Damaged as error:
                try:
                    aside = _set_aside(path)
                finally:
                    os.close(fd)
                warn(f"state file {path}: {error}; it is set aside as {aside}, a new one is begun")
            except BaseException:
                os.close(fd)
                raise
        raise CannotUse(f"the state file {path} is replaced by a damaged one again and again")

    def is_at_path(self) -> bool:
        """Whether the path still leads to the file that we have open."""
        return _is_at(self.path, self._fd)

    def write(self, statements: Iterable[Statement]) -> None:
        """All of it, durable when this returns, or none. Raises sqlite3.Error."""
        with _transaction(self._connection):
            for sql, values in statements:
                self._connection.execute(sql, values)

    def let_go(self) -> int:
        """Close it, but for the descriptor that is its lock."""
        fd, self._fd = self._fd, -1
        self.close()
        return fd

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def is_passing(error: sqlite3.Error) -> bool:
    """An error of the disk or of the moment, not of the file."""
    return (getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF) in PASSING


def _opened(cls: type[Database], path: str, fd: int, read: Callable[[sqlite3.Connection], Any]) -> Database:
    """With the lock held. Raises Damaged, sqlite3.Error."""
    _refuse_foreign(path, fd)
    connection = sqlite3.connect(path, timeout=BUSY_WAIT, isolation_level=None, check_same_thread=False)
    try:
        database = cls(path, fd, connection)
        database.is_new = _judge(connection)
        _migrate(connection)
        database.content = read(connection)
    except (sqlite3.Error, UnicodeError) as error:  # the latter when SQLite quotes what it cannot read
        connection.close()
        if isinstance(error, sqlite3.Error) and is_passing(error):
            raise
        raise Damaged(f"it is damaged ({error})") from None
    except BaseException:
        connection.close()
        raise
    return database


def _still_there(path: str, lock: int) -> int:
    """A file that was locked before, if the path still leads to it; else -1, and it is closed."""
    if lock >= 0 and not _is_at(path, lock):
        os.close(lock)
        return -1
    return lock


def _locked(path: str) -> int:
    """A descriptor of the file at `path`, which is made if need be, with our lock on it."""
    _refuse_place(path)
    waiting = threading.Event()
    for _ in range(int(LOCK_WAIT / LOCK_POLL) + 1):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotUse(f"cannot open the state file {path}: {error.strerror}") from None
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, fd):
                return fd
        os.close(fd)
        waiting.wait(LOCK_POLL)
    raise CannotUse(f"the state file {path} is in use by another tcp_proxy: stop that one, or give each a file of its own")


def _refuse_place(path: str) -> None:
    """What is no file is not even opened; a folder that takes no journal would let nothing be written."""
    folder = os.path.dirname(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CannotUse(f"cannot use {path} as the state file: it is no file")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CannotUse(f"cannot use {path} as the state file: {error.strerror}") from None
    except ValueError as error:
        raise CannotUse(f"cannot use {path} as the state file: {error}") from None
    if not os.path.isdir(folder):
        raise CannotUse(f"cannot open the state file {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CannotUse(f"cannot open the state file {path}: the folder {folder} cannot be written")


def _refuse_foreign(path: str, fd: int) -> None:
    """Another program's database is not opened at all: that could already change it (its journal, its log)."""
    header = os.pread(fd, 100, 0)
    if not header or os.path.lexists(f"{path}-journal"):
        return  # new; or a transaction was cut short, and SQLite has to put the header back first
    if not header.startswith(MAGIC):
        raise Damaged("it is no SQLite file")
    application, is_wal = int.from_bytes(header[68:72]), header[18:19] == b"\2"
    if application not in (APPLICATION_ID, 0) or (application == 0 and is_wal):
        raise Damaged("it belongs to another program")


def _judge(connection: sqlite3.Connection) -> bool:
    """Whether the file is new. Raises Damaged for what is not ours, sqlite3.Error for what cannot be read."""
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = EXTRA"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if application == 0 and version == 0 and not connection.execute("SELECT name FROM sqlite_master").fetchall():
        return True
    if application != APPLICATION_ID:
        raise Damaged("it belongs to another program")
    if version > len(MIGRATIONS):
        raise Damaged(f"a newer tcp_proxy has written it (tables of version {version}, this one knows {len(MIGRATIONS)})")
    found = connection.execute("PRAGMA quick_check(1)").fetchall()
    if found != [("ok",)]:
        raise Damaged(f"it is damaged ({str(found[0][0]).splitlines()[-1] if found else 'unreadable'})")
    return False


def _migrate(connection: sqlite3.Connection) -> None:
    if _pragma(connection, "journal_mode") != "delete":
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    done = _pragma(connection, "user_version")
    if done == len(MIGRATIONS):
        return
    with _transaction(connection):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for statement in (statement for step in MIGRATIONS[done:] for statement in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection):  # type: ignore[no-untyped-def]
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
            connection.execute("ROLLBACK")
        raise


def _set_aside(path: str) -> str:
    """Rename the file and what belongs to it; the new name. The file first: a journal alone is nothing to SQLite."""
    wanted = name = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    number = 1
    while os.path.lexists(name):
        number += 1
        name = f"{wanted}-{number}"
    try:
        os.rename(path, name)
        for suffix in ("-journal", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(path + suffix, name + suffix)
    except OSError as error:
        raise CannotUse(f"the state file {path} is damaged and cannot be set aside: {error.strerror}") from None
    return name


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except OSError:
        return False
