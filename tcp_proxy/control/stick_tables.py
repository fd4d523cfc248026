"""The stick tables of all apps: the one authority that every worker asks, so that a key has one target in all of them.

A thread `sticks` with a loop of its own, which starts with the first app that is sticky: a new client waits for its
answers, so they must not wait for what the main thread does. It owns the tables and one wire to each worker; a worker is
a *holder*, by a small number. The main thread calls the methods of the first part; whatever is answered to it comes by
its loop's call_soon.

    a worker: attach ──> ASK: what the table says, or the worker's proposal where it has nothing · OPENED · CLOSED ──> detach

The tables know nothing of targets but their names: who may have sessions the workers know, and they propose.
What is kept in the state file goes to the store every SAVE_EVERY seconds and at the end, only what has changed.
"""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from tcp_proxy.config.model import App, Sticky
from tcp_proxy.control.stick_lists import Listing
from tcp_proxy.control.stick_store import SavedStick, StickStore
from tcp_proxy.loop import Loop
from tcp_proxy.sansio.stick_table import Entry, StickTable
from tcp_proxy.stick_wire import ASK, CLOSED, OPENED, Item, Wire, pair

logger = logging.getLogger(__name__)

EXPIRE_EVERY = 1.0  # seconds
EXPIRED_AT_ONCE = 1000  # in one turn of the loop
SAVE_EVERY = 3.0  # seconds
SAVED_AT_ONCE = 500  # in one turn
SWITCH = 0.0002  # seconds until a thread that waits for the interpreter gets it

Reply = Callable[[Any], Any]


class StickTables:
    def __init__(self, main: Loop, store: StickStore, wall: Callable[[], float] = time.time) -> None:
        self._main = main
        self._store = store
        self._wall = wall
        self._loop = Loop("sticks")
        self._loop.on_error = self._bug
        self._thread = threading.Thread(target=self._loop.run, name="sticks", daemon=True)
        self._wanted: dict[str, Sticky] = {}
        self._holders: dict[Any, int] = {}  # worker -> holder
        self._tables: dict[str, StickTable] = {}  # from here on: the thread's
        self._wires: dict[int, Wire] = {}
        self._out: dict[int, list[Item]] = {}
        self._saved = store.take_all()

    def __repr__(self) -> str:
        return f"<StickTables of {len(self._wanted)} apps, {len(self._holders)} workers>"

    # -- the main thread's

    @property
    def is_wanted(self) -> bool:
        return bool(self._wanted)

    def configure(self, apps: Iterable[App]) -> None:
        """These are the apps now."""
        self._wanted = {app.name: app.sticky for app in apps if app.sticky is not None}
        if self._wanted and self._thread.ident is None:
            try:
                self._thread.start()
                sys.setswitchinterval(SWITCH)  # what the main thread is busy with does not hold up an answer
            except RuntimeError as error:  # no more threads for this user or machine
                logger.error("the stick tables cannot be started, clients go to any target: %s", error)  # noqa: TRY400
                self._wanted = {}
            self._call(self._begin)
        self._call(self._configure, self._wanted)

    def attach(self, worker: Any) -> socket.socket | None:
        """The worker's end of its wire, for the caller to hand over and close; None when it has one. Raises OSError."""
        if worker in self._holders:
            return None
        ours, theirs = pair()
        holder = next(number for number in range(len(self._holders) + 1) if number not in self._holders.values())
        self._holders[worker] = holder
        self._call(self._attach, holder, ours)
        return theirs

    def detach(self, worker: Any) -> None:
        """It is gone."""
        holder = self._holders.pop(worker, None)
        if holder is not None:
            self._call(self._detach, holder)

    def rename(self, app: str, old: str, new: str) -> None:
        """A target has another name."""
        self._call(self._rename, app, old, new)

    def page(self, app: str, listing: Listing, reply: Reply) -> None:
        """`reply(page)` in the main thread."""
        self._call(self._list, app, listing, reply)

    def change(self, app: str, change: Callable[[StickTable, float], Any], reply: Reply) -> None:
        """`change(table, now)` in the thread; `reply` of what it returns in the main thread. It must be quick."""
        self._call(self._change, app, change, reply)

    def stop(self) -> None:
        """Save what is to be saved, end the thread."""
        if self._thread.ident is None:
            self._loop.close()
            return
        self._loop.call_soon(self._end)
        self._thread.join()
        self._loop.close()

    def _call(self, call: Callable[..., Any], *args: Any) -> None:
        if self._thread.ident is not None:
            self._loop.call_soon(call, *args)

    def _bug(self, call: Callable[..., Any], error: Exception) -> None:
        """In the thread: one batch is lost; the tables go on."""
        logger.error("the stick tables met a bug in %r, please report it", call, exc_info=error)

    # -- the thread's

    def _begin(self) -> None:
        self._loop.call_later(EXPIRE_EVERY, self._expire)
        self._loop.call_later(SAVE_EVERY, self._save)

    def _end(self) -> None:
        for name, table in self._tables.items():
            self._keep(name, table, table.changed)
        for wire in self._wires.values():
            wire.close()
        self._loop.stop()

    def _configure(self, wanted: dict[str, Sticky]) -> None:
        for name in self._tables.keys() - wanted.keys():
            self._store.forget_app(name)
            del self._tables[name]
        for name, sticky in wanted.items():
            table = self._tables.get(name)
            if table is None:
                self._tables[name] = self._restored(name, sticky)
            else:
                table.resize(sticky.size, sticky.expires)
                self._tell(name, table)
        for name in self._saved:
            self._store.forget_app(name)  # it is not sticky any more
        self._saved = {}
        self._flush()

    def _restored(self, name: str, sticky: Sticky) -> StickTable:
        """A new table, with what an earlier life knew and has not expired."""
        table = StickTable(sticky.size, sticky.expires)
        table.notes_changes = self._store.is_kept
        now, wall = self._loop.now, self._wall()
        idle = [(now - min(max(0.0, wall - one.at), 1e9) if one.at else now, one) for one in self._saved.pop(name, ())]
        for since, one in sorted(idle, key=lambda pair: pair[0]):
            if now - since < sticky.expires:
                table.restore(one.key, one.target, one.version, since)
            else:
                table.changed.add(one.key)
        if idle:
            logger.info("app %s: %d of %d stick entries are as they were before the restart", name, len(table), len(idle))
        return table

    def _attach(self, holder: int, sock: socket.socket) -> None:
        self._wires[holder] = Wire(self._loop, sock, partial(self._received, holder), lambda: None)

    def _detach(self, holder: int) -> None:
        self._wires.pop(holder).close()
        self._out.pop(holder, None)
        for table in self._tables.values():
            table.released(holder, self._loop.now)

    def _received(self, holder: int, items: list[Item]) -> None:
        now, mine = self._loop.now, self._out.setdefault(holder, [])
        for item in items:
            if item[0] == ASK:
                _, number, app, key, proposal, seen = item
                table = self._tables.get(app)
                entry = table.claim(key, proposal, seen, holder, now) if table is not None else None
                mine.append((number, "", 0) if entry is None else (number, entry.target, entry.version))
            else:
                app, key = item[1], item[2]
                table = self._tables.get(app)
                if table is not None and item[0] == CLOSED:
                    table.closed(key, holder, now)
                elif table is not None and item[0] == OPENED:
                    table.opened(key, item[3], holder, now)
            if table is not None and table.news:
                self._tell(app, table)
        self._flush()

    def _tell(self, app: str, table: StickTable) -> None:
        """Whoever has copies hears, in order with what it is answered."""
        for news in table.news:
            for holder in self._wires:
                if news.holders >> holder & 1:
                    self._out.setdefault(holder, []).append((app, news.key, news.target, news.version))
        table.news.clear()

    def _flush(self) -> None:
        for holder, items in self._out.items():
            if items:
                self._wires[holder].send(items)
        self._out = {}

    def _rename(self, app: str, old: str, new: str) -> None:
        table = self._tables.get(app)
        if table is not None:
            table.rename(old, new)
            self._tell(app, table)
            self._flush()

    def _list(self, app: str, listing: Listing, reply: Reply) -> None:
        """In slices: whoever asks for a target meanwhile comes in between."""
        table = self._tables.get(app)
        listing.begin(table, self._loop.now)
        self._look_on(listing, reply)

    def _look_on(self, listing: Listing, reply: Reply) -> None:
        if listing.look_on():
            self._main.call_soon(reply, listing.page())
        else:
            self._loop.call_again(lambda _events: self._look_on(listing, reply))

    def _change(self, app: str, change: Callable[[StickTable, float], Any], reply: Reply) -> None:
        table = self._tables.get(app)
        found = change(table, self._loop.now) if table is not None else None
        if table is not None:
            self._tell(app, table)
            self._flush()
        self._main.call_soon(reply, found)

    def _expire(self) -> None:
        has_more = any([len(table.expire(self._loop.now, EXPIRED_AT_ONCE)) == EXPIRED_AT_ONCE for table in self._all()])
        if has_more:
            self._loop.call_again(lambda _events: self._expire())
        else:
            self._loop.call_later(EXPIRE_EVERY, self._expire)

    def _all(self) -> tuple[StickTable, ...]:
        return tuple(self._tables.values())

    # -- the state file

    def _save(self) -> None:
        if self._store.wants_all():
            for table in self._tables.values():
                table.changed.update(entry.key for entry in table)
        waiting = []
        for name, table in self._tables.items():
            keys, table.changed = list(table.changed), set()
            waiting += [(name, table, keys[i : i + SAVED_AT_ONCE]) for i in range(0, len(keys), SAVED_AT_ONCE)]
        self._save_some(waiting)

    def _save_some(self, waiting: list[tuple[str, StickTable, list[str]]]) -> None:
        if waiting:
            self._keep(*waiting.pop())
            self._loop.call_again(lambda _events: self._save_some(waiting))
        else:
            self._loop.call_later(SAVE_EVERY, self._save)

    def _keep(self, app: str, table: StickTable, keys: Iterable[str]) -> None:
        now, wall = self._loop.now, self._wall()
        self._store.save([_saved(app, key, table.get(key), now, wall) for key in keys])


def _saved(app: str, key: str, entry: Entry | None, now: float, wall: float) -> SavedStick:
    if entry is None:
        return SavedStick(app, key)
    return SavedStick(app, key, entry.target, entry.version, 0.0 if entry.open else wall - (now - entry.since))
