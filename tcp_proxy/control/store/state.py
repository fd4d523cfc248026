"""What outlives the process: what operators said of targets at run time, targets they added, and verdicts of the checks.

`State` keeps it in memory only. `StateFile` keeps it in memory too, and has a thread `state` that owns the file: other
threads change the dictionary under a condition and wait for nothing. Both obey tests/kit/store_contract.py.

    StateFile:  open() ── in the caller's thread: what the file holds is known ──> IDLE
    IDLE ──save, forget──> WRITING one transaction of all that waits ──> PAUSE (so at most ten a second) ──> IDLE
                              └──error──> one warning a minute, everything known waits for RETRY_WAIT ──> WRITING
    pause() ──> what waits is written, the file closed but for its lock ──> PAUSED ──resume()──> IDLE
    close() ──> what waits is written, unless it is paused ──> the thread ends

Always true:
- of several saves of one target the last one is written, whatever happened in between;
- a file that is removed or damaged while we run is replaced by a new one with all that is known; a disk that is full or
  broken costs the proxy nothing but the file's freshness;
- what is saved is wall time, and never from the future: a clock that had jumped ahead leaves no such entries.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from tcp_proxy.control.sticky import store
from tcp_proxy.control.sticky.store import SavedStick, StickFile, StickStore
from tcp_proxy.control.store import primaries as primary_store
from tcp_proxy.control.store import servers as server_store
from tcp_proxy.control.store import targets as target_store
from tcp_proxy.control.store.database import CannotUse, Database, Statement, Warn
from tcp_proxy.control.store.primaries import PrimaryKey, SavedPrimary
from tcp_proxy.control.store.servers import SavedServer, ServerKey
from tcp_proxy.control.store.targets import REMOVED, Key, SavedTarget
from tcp_proxy.sansio.verdict import Known

__all__ = ["REMOVED", "CannotUse", "SavedPrimary", "SavedServer", "SavedTarget", "State", "StateFile"]

logger = logging.getLogger(__name__)

PAUSE = 0.1  # seconds between two transactions
RETRY_WAIT = 5.0  # seconds until what could not be written is tried again
WARN_EVERY = 12  # failures: one warning a minute
CLOSE_WAIT = 10.0  # seconds for the last transaction, on a disk that hangs

AnyKey = Key | ServerKey | PrimaryKey


class State:
    """In memory: what is saved is there until the process ends. Any thread may call anything."""

    def __init__(
        self,
        known: dict[Key, SavedTarget] | None = None,
        clock: Callable[[], float] = time.time,
        servers: dict[ServerKey, SavedServer] | None = None,
        primaries: dict[PrimaryKey, SavedPrimary] | None = None,
    ) -> None:
        self._known = dict(known or {})
        self._primaries = dict(primaries or {})
        self._servers: dict[Key, dict[int, SavedServer]] = {}
        for server in (servers or {}).values():
            self._servers.setdefault((server.app, server.target), {})[server.port] = server
        self._clock = clock
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._known)} targets>"

    @property
    def is_failing(self) -> bool | None:
        """Whether the file could not be written the last time; None: there is none."""
        return None

    def load(self) -> dict[Key, SavedTarget]:
        """All that is known, by app and target."""
        with self._changed:
            return dict(self._known)

    def get(self, app: str, target: str) -> SavedTarget | None:
        with self._changed:
            return self._known.get((app, target))

    def save(self, target: SavedTarget) -> None:
        """From now on this is known of the target."""
        target = replace(target, at=target_store.clamped(target.at, self._clock()))
        target_store.insert(target)  # raises here, for the caller, what would otherwise stop the writer
        with self._changed:
            if self._known.get(target.key) != target:
                self._known[target.key] = target
                self._note(target.key)

    def forget(self, app: str, target: str) -> None:
        """The target is gone, with its servers; nothing happens if it was not known."""
        with self._changed:
            if self._known.pop((app, target), None) is not None:
                self._note((app, target))
        self.forget_servers(app, target)

    def servers(self, app: str, target: str) -> dict[int, tuple[Known, ...]]:
        """What is known of the target's servers, by port."""
        with self._changed:
            return {port: server.checks for port, server in self._servers.get((app, target), {}).items()}

    def save_server(self, server: SavedServer) -> None:
        """From now on this is known of the server."""
        with self._changed:
            known = self._servers.setdefault((server.app, server.target), {})
            if known.get(server.port) != server:
                known[server.port] = server
                self._note(server.key)

    def forget_servers(self, app: str, target: str, but: Collection[int] = ()) -> None:
        """All that is known of the target's servers but these."""
        if (app, target) not in self._servers:  # of nearly all, when 20,000 begin; no other thread changes it
            return
        with self._changed:
            known = self._servers.get((app, target), {})
            for port in known.keys() - set(but):
                del known[port]
                self._note((app, target, port))
            if not known:
                self._servers.pop((app, target), None)

    def primary(self, app: str) -> SavedPrimary:
        """Who was primary last."""
        with self._changed:
            return self._primaries.get((app,), SavedPrimary(app, "", 0))

    def save_primary(self, saved: SavedPrimary) -> None:
        """From now on this one is, or was last."""
        with self._changed:
            if self._primaries.get(saved.key) != saved:
                self._primaries[saved.key] = saved
                self._note(saved.key)

    def flush(self, timeout: float = CLOSE_WAIT) -> bool:
        """Wait until everything said so far is as durable as it gets; False if it is not after `timeout` seconds."""
        del timeout
        return True

    def when_durable(self, done: Callable[[], Any]) -> None:
        """Have it called, in any thread, when everything said so far is as durable as it gets: at once while the disk takes
        nothing."""
        done()

    def close(self) -> None:
        """Write what waits, unless it is paused. A second call does nothing."""

    def given(self) -> dict[str, Any]:
        """All of it but the stick tables, for a program that takes over; nothing that JSON cannot say."""
        with self._changed:
            servers = [asdict(server) for known in self._servers.values() for server in known.values()]
            targets, primaries = map(asdict, self._known.values()), map(asdict, self._primaries.values())
            return {"targets": list(targets), "servers": servers, "primaries": list(primaries)}

    def take(self, given: dict[str, Any]) -> None:
        """What another program knew (`given`). Before anybody else knows of this one."""
        for one in given["targets"]:
            self._known[one["app"], one["target"]] = SavedTarget(**one)
        for one in given["servers"]:
            checks = tuple(Known(**known) for known in one["checks"])
            self._servers.setdefault((one["app"], one["target"]), {})[one["port"]] = SavedServer(**{**one, "checks": checks})
        for one in given["primaries"]:
            self._primaries[(one["app"],)] = SavedPrimary(**one)

    def pause(self, done: Callable[[int], Any]) -> None:
        """Write what waits, and then no more until `resume`. `done` is called, in any thread, with the locked file, which
        stays ours; -1: there is none."""
        done(-1)

    def resume(self, lock: int = -1) -> None:
        """Go on. `lock`: the file, opened and locked by whom we have taken over; ours from now on."""
        if lock >= 0:
            os.close(lock)

    def sticks(self) -> StickStore:
        """For the stick tables."""
        return StickStore()

    def _note(self, key: AnyKey) -> None:
        """With the condition held: this one has changed."""


class StateFile(State):
    """Call `open`, which starts the thread."""

    def __init__(self, path: str, database: Database | None, warn: Warn, clock: Callable[[], float]) -> None:
        targets, servers, sticks, primaries = database.content if database is not None else (None, None, {}, None)
        super().__init__(targets, clock, servers, primaries)
        self._sticks: dict[str, list[SavedStick]] = sticks
        self._lines: list[Statement] = []  # of the stick tables, that are not written yet
        self._is_renewed = False
        self.path = path
        self._database = database
        self._warn = warn
        self._waiting: set[AnyKey] = set()
        self._noted = self._written = 0  # how many changes there were, and how many of them are on disk
        self._awaited: list[tuple[int, Callable[[], Any]]] = []  # whom to call when so many are
        self._failures = 0  # since the file was last written
        self._closing = self._is_over = False
        self._pausing: Callable[[int], Any] | None = None  # who waits for the pause, from then to its end
        self._is_quiet = False  # it is paused
        self._is_behind = False  # the file may lack something that is known
        self._lock = -1  # the file, while it is locked and not open
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

    @classmethod
    def taken_over(cls, path: str, given: dict[str, Any], warn: Warn = logger.warning) -> "StateFile":
        """What another program knows (`given`), whose file it is until `resume(lock)`."""
        state = cls(path, None, warn, time.time)
        state.take(given)
        state._pausing, state._is_quiet = _nobody, True
        state._thread.start()
        return state

    @property
    def is_failing(self) -> bool | None:
        return self._failures > 0

    def pause(self, done: Callable[[int], Any]) -> None:
        with self._changed:
            self._pausing = done
            self._changed.notify_all()

    def resume(self, lock: int = -1) -> None:
        with self._changed:
            self._lock = lock if lock >= 0 else self._lock
            self._pausing, self._is_quiet, self._is_behind = None, False, True
            self._changed.notify_all()

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

    def _note(self, key: AnyKey) -> None:
        self._waiting.add(key)
        self._noted += 1
        self._changed.notify_all()

    # -- the thread's own

    def _serve(self) -> None:
        is_over = False
        while not is_over:
            with self._changed:
                self._changed.wait_for(lambda: self._is_to_write or self._closing or self._pausing)
                pausing = self._pausing if self._is_quiet or self._failures or not self._is_to_write else None
            is_over = self._stand_still(pausing) if pausing is not None else self._write_what_waits()
        with self._changed:
            self._is_over = True
        self._call_awaited(self._noted)
        if self._waiting and not self._is_quiet:
            self._warn(f"state file {self.path}: {len(self._waiting)} changes are not in it")
        self._drop()

    @property
    def _is_to_write(self) -> bool:
        return bool(self._waiting or self._lines or self._is_behind)

    def _write_what_waits(self) -> bool:
        """And wait until the next time; whether all is over."""
        with self._changed:
            keys, self._waiting = self._waiting, set()
            lines, self._lines = self._lines, []
            is_behind, self._is_behind = self._is_behind, False
            batch = lines + [self._statement(key) for key in keys]
            number = self._noted
        is_written = not (batch or is_behind) or self._write(batch)
        self._call_awaited(number if is_written else self._noted)
        with self._changed:
            if is_written:
                self._written = number
                self._changed.notify_all()
            else:
                self._waiting |= keys
            is_over = self._closing and (not self._is_to_write or not is_written)
            if not is_over:
                self._changed.wait_for(lambda: self._closing or self._pausing, PAUSE if is_written else RETRY_WAIT)
        return is_over

    def _stand_still(self, paused: Callable[[int], Any]) -> bool:
        """Until `resume`; whether all is over."""
        if self._database is not None:
            self._lock, self._database = self._database.let_go(), None
        with self._changed:
            self._is_quiet = True
        paused(self._lock)
        with self._changed:
            self._changed.wait_for(lambda: self._pausing is None or self._closing)
            return self._pausing is not None

    def _statement(self, key: AnyKey) -> Statement:
        """With the condition held: what writes this one as it is now."""
        if len(key) == 1:
            return primary_store.insert(self._primaries[key])
        if len(key) == 3:
            server = self._servers.get(key[:2], {}).get(key[2])
            return server_store.delete(key) if server is None else server_store.insert(server)
        return target_store.insert(self._known[key]) if key in self._known else target_store.delete(key)

    def _everything(self) -> list[Statement]:
        """With the condition held."""
        servers = (server for known in self._servers.values() for server in known.values())
        primaries = map(primary_store.insert, self._primaries.values())
        return [*map(target_store.insert, self._known.values()), *map(server_store.insert, servers), *primaries]

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
                lock, self._lock = self._lock, -1
                read = partial(_read, now=self._clock())
                self._database = Database.open(self.path, read, self._warn, lock)
                with self._changed:
                    self._is_renewed = True
                    batch = self._everything() + batch
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
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if self._database is not None:
            self._database.close()
            self._database = None


Content = tuple[
    dict[Key, SavedTarget], dict[ServerKey, SavedServer], dict[str, list[SavedStick]], dict[PrimaryKey, SavedPrimary]
]


def _read(connection: sqlite3.Connection, now: float) -> Content:
    found = target_store.read(connection)
    targets = {one.key: replace(one, at=target_store.clamped(one.at, now)) for one in found}
    return targets, server_store.read(connection), store.read(connection), primary_store.read(connection)


def _nobody(_lock: int) -> None:
    """Nobody waits for the pause."""
