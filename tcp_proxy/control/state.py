"""What outlives the process: what operators said of targets at run time, targets they added, and verdicts of the checks.

`State` keeps it in memory only. `StateFile` keeps it in memory too, and has a thread `state` that owns the file: other
threads change the dictionary under a condition and wait for nothing. Both obey tests/kit/store_contract.py.

    StateFile:  open() ── in the caller's thread: what the file holds is known ──> IDLE
    IDLE ──save, forget──> WRITING one transaction of all that waits ──> PAUSE (so at most ten a second) ──> IDLE
                              └──error──> one warning a minute, everything known waits for RETRY_WAIT ──> WRITING
    close() ──> what waits is written ──> the thread ends

Always true:
- of several saves of one target the last one is written, whatever happened in between;
- a file that is removed or damaged while we run is replaced by a new one with all that is known; a disk that is full or
  broken costs the proxy nothing but the file's freshness;
- what is saved is wall time, and never from the future: a clock that had jumped ahead leaves no such entries.
"""

import json
import logging
import math
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

from tcp_proxy.control import stick_store
from tcp_proxy.control.database import CannotUse, Damaged, Database, Statement, Warn
from tcp_proxy.control.stick_store import SavedStick, StickFile, StickStore

__all__ = ["CannotUse", "SavedTarget", "State", "StateFile"]

logger = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two transactions
RETRY_WAIT = 5.0  # seconds until what could not be written is tried again
WARN_EVERY = 12  # failures: one warning a minute
CLOSE_WAIT = 10.0  # seconds for the last transaction, on a disk that hangs

REMOVED = "removed"  # at run time: it stays away although the file has it
ADMINS = ("", "ready", "drain", "disabled", REMOVED)
VERDICTS = ("", "up", "draining", "down")
ORIGINS = ("file", "api")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class SavedTarget:
    """One target of one app, as it is to be known again."""

    app: str
    target: str
    admin: str = ""  # ADMINS; "": nothing was said at run time
    weight: int | None = None  # None: that of the configuration
    verdict: str = ""  # VERDICTS; "": no check has had a result
    results: int = 0  # in a row, against the verdict
    evidence: str = ""
    at: float = 0.0  # wall time of the last change
    origin: str = "file"  # ORIGINS: where the target was added
    definition: str = ""  # JSON: an added target, or the file's when something was said of it (control.saved_overrides)

    @property
    def key(self) -> Key:
        return self.app, self.target


class State:
    """In memory: what is saved is there until the process ends. Any thread may call anything."""

    def __init__(self, known: dict[Key, SavedTarget] | None = None, clock: Callable[[], float] = time.time) -> None:
        self._known = dict(known or {})
        self._clock = clock
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._known)} targets>"

    def load(self) -> dict[Key, SavedTarget]:
        """All that is known, by app and target."""
        with self._changed:
            return dict(self._known)

    def get(self, app: str, target: str) -> SavedTarget | None:
        with self._changed:
            return self._known.get((app, target))

    def save(self, target: SavedTarget) -> None:
        """From now on this is known of the target."""
        target = replace(target, at=_clamped(target.at, self._clock()))
        _insert(target)  # raises here, for the caller, what would otherwise stop the writer
        with self._changed:
            if self._known.get(target.key) != target:
                self._known[target.key] = target
                self._note(target.key)

    def forget(self, app: str, target: str) -> None:
        """The target is gone; nothing happens if it was not known."""
        with self._changed:
            if self._known.pop((app, target), None) is not None:
                self._note((app, target))

    def flush(self, timeout: float = CLOSE_WAIT) -> bool:
        """Wait until everything said so far is as durable as it gets; False if it is not after `timeout` seconds."""
        del timeout
        return True

    def when_durable(self, done: Callable[[], Any]) -> None:
        """Have it called, in any thread, when everything said so far is as durable as it gets: at once while the disk takes
        nothing."""
        done()

    def close(self) -> None:
        """Write what waits. A second call does nothing."""

    def sticks(self) -> StickStore:
        """For the stick tables."""
        return StickStore()

    def _note(self, key: Key) -> None:
        """With the condition held: this one has changed."""


class StateFile(State):
    """Call `open`, which starts the thread."""

    def __init__(self, path: str, database: Database | None, warn: Warn, clock: Callable[[], float]) -> None:
        targets, sticks = database.content if database is not None else (None, {})
        super().__init__(targets, clock)
        self._sticks: dict[str, list[SavedStick]] = sticks
        self._lines: list[Statement] = []  # of the stick tables, that are not written yet
        self._is_renewed = False
        self.path = path
        self._database = database
        self._warn = warn
        self._waiting: set[Key] = set()
        self._noted = self._written = 0  # how many changes there were, and how many of them are on disk
        self._awaited: list[tuple[int, Callable[[], Any]]] = []  # whom to call when so many are
        self._failures = 0  # since the file was last written
        self._closing = self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="state", daemon=True)

    @classmethod
    def open(cls, path: str, warn: Warn = logger.warning, clock: Callable[[], float] = time.time) -> "StateFile":
        """Load the file and start the thread. What is damaged or not ours is set aside. Raises CannotUse."""
        database = None
        try:
            database = Database.open(path, lambda connection: _read(connection, clock()), warn)
        except (sqlite3.Error, OSError) as error:
            warn(f"state file {path}: {error}; what it holds is not known until the next start")
        state = cls(path, database, warn, clock)
        state._thread.start()
        return state

    def flush(self, timeout: float = CLOSE_WAIT) -> bool:
        with self._changed:
            noted = self._noted
            return self._changed.wait_for(lambda: self._written >= noted, timeout)

    def when_durable(self, done: Callable[[], Any]) -> None:
        with self._changed:
            waits = self._written < self._noted and not self._failures and not self._is_over
            if waits:
                self._awaited.append((self._noted, done))
        if not waits:
            done()

    def close(self) -> None:
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_WAIT)
        if self._thread.is_alive():
            self._warn(f"state file {self.path}: the disk does not answer; the last changes may be lost")

    def sticks(self) -> StickStore:
        known, self._sticks = self._sticks, {}
        return StickFile(known, self._write_sticks, self._was_renewed)

    def _write_sticks(self, lines: list[Statement]) -> None:
        """They come every few seconds; while the disk takes nothing they are not kept, for then all is written anew."""
        with self._changed:
            if not self._failures:
                self._lines += lines
                self._noted += 1
                self._changed.notify_all()

    def _was_renewed(self) -> bool:
        with self._changed:
            is_renewed, self._is_renewed = self._is_renewed, False
            return is_renewed

    def _note(self, key: Key) -> None:
        self._waiting.add(key)
        self._noted += 1
        self._changed.notify_all()

    # -- the thread's own

    def _serve(self) -> None:
        is_over = False
        while not is_over:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._lines or self._closing)
                keys, self._waiting = self._waiting, set()
                lines, self._lines = self._lines, []
                batch = lines + [_insert(self._known[key]) if key in self._known else _delete(key) for key in keys]
                number = self._noted
            is_written = not batch or self._write(batch)
            self._call_awaited(number if is_written else self._noted)
            with self._changed:
                if is_written:
                    self._written = number
                    self._changed.notify_all()
                else:
                    self._waiting |= keys
                is_over = self._closing and (not (self._waiting or self._lines) or not is_written)
                if not is_over:
                    self._changed.wait_for(lambda: self._closing, PAUSE if is_written else RETRY_WAIT)
        with self._changed:
            self._is_over = True
        self._call_awaited(self._noted)
        if self._waiting:
            self._warn(f"state file {self.path}: {len(self._waiting)} changes are not in it")
        self._drop()

    def _call_awaited(self, number: int) -> None:
        """So many changes are on disk, or will not be soon."""
        with self._changed:
            due = [done for wanted, done in self._awaited if wanted <= number]
            self._awaited = [item for item in self._awaited if item[0] > number]
        for done in due:
            done()

    def _write(self, batch: list[Statement]) -> bool:
        try:
            if self._database is not None and not self._database.is_at_path():
                self._warn(f"state file {self.path} is gone or was replaced: everything known is written again")
                self._drop()
            if self._database is None:
                self._database = Database.open(self.path, lambda connection: _read(connection, self._clock()), self._warn)
                with self._changed:
                    self._is_renewed = True
                    batch = [_insert(target) for target in self._known.values()] + batch
            self._database.write(batch)
        except Exception as error:  # noqa: BLE001  of the disk, the file or ours: the thread goes on
            self._failed(error)
            return False
        if self._failures:
            self._failures = 0
            self._warn(f"state file {self.path}: written again, nothing is missing in it")
        return True

    def _failed(self, error: Exception) -> None:
        """Whatever it was, the file is opened, and judged, anew before the next attempt."""
        if self._failures % WARN_EVERY == 0:
            self._warn(f"state file {self.path} cannot be written: {error}; changes are kept in memory meanwhile")
        self._failures += 1
        self._drop()

    def _drop(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


# -- rows: text as its bytes, so that every str of Python has its place; a checksum, for SQLite has none of its own

NAMES = tuple(field.name for field in fields(SavedTarget))
COLUMNS = ", ".join((*NAMES, "crc"))
PLACES = ", ".join("CAST(? AS TEXT)" if field.type in (str, "str") else "?" for field in fields(SavedTarget))
INSERT = f"INSERT OR REPLACE INTO targets ({COLUMNS}) VALUES ({PLACES}, ?)"
DELETE = "DELETE FROM targets WHERE app = CAST(? AS TEXT) AND target = CAST(? AS TEXT)"


def _insert(target: SavedTarget) -> Statement:
    fault = _fault(target)
    if fault:
        raise ValueError(f"{target}: {fault}")
    return INSERT, (*(_stored(value) for value in astuple(target)), _checksum(target))


def _delete(key: Key) -> Statement:
    return DELETE, tuple(_stored(part) for part in key)


def _stored(value: Any) -> Any:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _checksum(target: SavedTarget) -> int:
    return zlib.crc32(json.dumps(astuple(target)).encode())


def _read(connection: sqlite3.Connection, now: float) -> tuple[dict[Key, SavedTarget], dict[str, list[SavedStick]]]:
    targets = {target.key: replace(target, at=_clamped(target.at, now)) for target in _rows(connection)}
    return targets, stick_store.read(connection)


def _rows(connection: sqlite3.Connection) -> Iterator[SavedTarget]:
    connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    try:
        for *values, crc in connection.execute(f"SELECT {COLUMNS} FROM targets"):
            target = SavedTarget(*values)
            if _fault(target) or _checksum(target) != crc:
                raise Damaged("it is damaged (a row is not what was written)")
            yield target
    except (ValueError, TypeError) as error:
        raise Damaged(f"it is damaged ({error})") from None


def _fault(target: SavedTarget) -> str:
    """What a row can not be."""
    words = ((target.admin, ADMINS), (target.verdict, VERDICTS), (target.origin, ORIGINS))
    if any(word not in known for word, known in words):
        return "an unknown word"
    texts = (target.app, target.target, target.evidence, target.definition)
    numbers = (target.results, target.weight or 0)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        return "a value of the wrong kind"
    return "" if all(0 <= number < 1 << 31 for number in numbers) else "a number out of range"


def _clamped(at: float, now: float) -> float:
    return min(max(0.0, float(at)), max(0.0, now)) if math.isfinite(at) else 0.0
