"""The stick tables of all apps: the one authority that every worker asks, so that a key has one target in all of them.

A thread `sticks` with a loop of its own, which starts with the first app that is sticky: a new client waits for its
answers, so they must not wait for what the main thread does. It owns the tables and one wire to each worker; a worker is
a *holder*, by a small number. The main thread calls the methods of the first part; whatever is answered to it comes by
its loop's call_soon.

    a worker: attach ──> ASK: what the table says, or the worker's proposal where it has nothing · OPENED · CLOSED ──> detach

The tables know nothing of targets but their names: who may have sessions the workers know, and they propose.
Of a node of a cluster they are copies of what all nodes know, and `shared` asks the cluster agent before they take something
new. What is kept in the state file goes to the store every SAVE_EVERY seconds and at the end, only what has changed.
"""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from tcp_proxy.config.diff import place_text
from tcp_proxy.config.model import App, Sticky
from tcp_proxy.control.sticky.lists import Listing
from tcp_proxy.control.sticky.store import SavedStick, StickStore
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.stick_table import Entry, StickTable
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire.datagrams import Item
from tcp_proxy.wire.stick_table import ASK, ASK_BY_HASH, CLOSED, OPENED, Wire, pair

if TYPE_CHECKING:  # imported where there is a cluster
    from tcp_proxy.control.sticky.shared import SharedTables

logger = logging.getLogger(__name__)

EXPIRE_EVERY = 1.0  # seconds
EXPIRED_AT_ONCE = 1000  # in one turn of the loop
SAVE_EVERY = 3.0  # seconds
SAVED_AT_ONCE = 500  # in one turn
SWITCH = 0.0002  # seconds until a thread that waits for the interpreter gets it

Reply = Callable[[Any], Any]


class StickTables:
    def __init__(
        self, main: Loop, store: StickStore, wall: Callable[[], float] = time.time, is_shared: bool = False
    ) -> None:
        self._main = main
        self.online: Callable[[bool], Any] = _nothing  # in the main thread, when the agent is there, or not any more
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
        self._is_paused = False
        self._held: list[Callable[[], Any]] = []  # changes that were asked for while it was
        self._shared = self._shared_tables() if is_shared else None

    def __repr__(self) -> str:
        return f"<StickTables of {len(self._wanted)} apps, {len(self._holders)} workers>"

    def _shared_tables(self) -> "SharedTables":
        from tcp_proxy.control.sticky.shared import SharedTables  # noqa: PLC0415  nobody else pays for it

        return SharedTables(
            self._loop, self._tables, self._answer_later, self._tell, self._flush,
            lambda is_online: self._main.call_soon(self._say_online, is_online),
        )  # fmt: skip

    # -- the main thread's

    @property
    def is_wanted(self) -> bool:
        return bool(self._wanted)

    def configure(self, apps: Iterable[App]) -> None:
        """These are the apps now."""
        sticky = [app for app in apps if app.sticky is not None]
        self._wanted = {app.name: app.sticky for app in sticky if app.sticky is not None}
        places: dict[str, dict[str, str]] = {}
        if self._shared is not None:
            places = {app.name: {target.name: place_text(target) for target in app.targets} for app in sticky}
        if (self._wanted or self._shared is not None) and self._thread.ident is None:
            try:
                self._thread.start()
                sys.setswitchinterval(SWITCH)  # what the main thread is busy with does not hold up an answer
            except RuntimeError as error:  # no more threads for this user or machine
                logger.error("the stick tables cannot be started, clients go to any target: %s", error)  # noqa: TRY400
                self._wanted = {}
            self._call(self._begin)
        self._call(self._configure, self._wanted, places)

    def attach(self, worker: Any) -> socket.socket | None:
        """The worker's end of its wire, for the caller to hand over and close; None when it has one. Raises OSError."""
        if worker in self._holders:
            return None
        ours, theirs = pair()
        holder = next(number for number in range(len(self._holders) + 1) if number not in self._holders.values())
        self._holders[worker] = holder
        self._call(self._attach, holder, ours)
        return theirs

    def attach_agent(self) -> socket.socket:
        """The cluster agent's end of its wire, for the caller to pass on and close. Raises OSError."""
        assert self._shared is not None
        ours, theirs = pair()
        self._call(self._shared.attach, ours)
        return theirs

    def _say_online(self, is_online: bool) -> None:
        self.online(is_online)

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

    def pause(self, done: Callable[[dict[str, Any]], Any]) -> None:
        """Answer nobody, and change nothing, until `resume`. `done` is called in the main thread with what a program that
        takes over has to know: the tables; of each holder its wire, and the datagrams that wait there."""
        if self._thread.ident is None:
            self._main.call_soon(done, {"tables": {}, "wires": {}, "shared": None})
        self._call(self._pause, done)

    def resume(self) -> None:
        self._call(self._resume)

    def reserve(self, holders: Iterable[int]) -> None:
        """Those of a program that is to be taken over: until `adopt`, no worker of ours is one of them."""
        self._holders.update({("old", holder): holder for holder in holders})
        self._call(self._hold)

    def holders(self) -> list[int]:
        return list(self._holders.values())

    def holder_of(self, worker: Any) -> int:
        """-1: it has no wire."""
        return self._holders.get(worker, -1)

    def adopt(
        self, tables: dict[str, Any], wires: list[tuple[Any, int, socket.socket, list[bytes]]],
        shared: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """What `pause` has told another program; each wire with its worker, its holder and what waits to be sent."""
        reserved = [key for key in self._holders if isinstance(key, tuple)]
        for worker, holder, sock, _ in wires:
            if self._thread.ident is None:
                sock.close()
            else:
                self._holders[worker] = holder
        self._call(self._adopt, tables, [wire[1:] for wire in wires], shared)
        for key in reserved:
            if self._holders.pop(key) not in self._holders.values():
                self._call(self._detach, key[1])

    def let_go(self) -> None:
        """They are another program's: end without saving anything. Paused."""
        if self._thread.ident is not None:
            self._loop.stop_soon()
            self._thread.join()
        self._loop.close()

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

    def _pause(self, done: Callable[[dict[str, Any]], Any]) -> None:
        self._is_paused = True
        wires = {holder: wire.pause() for holder, wire in self._wires.items()}
        tables = {name: table.given() for name, table in self._tables.items()}
        shared = self._shared.pause() if self._shared is not None else None
        self._main.call_soon(done, {"tables": tables, "wires": wires, "shared": shared})

    def _resume(self) -> None:
        self._is_paused = False
        for wire in self._wires.values():
            wire.resume()
        if self._shared is not None:
            self._shared.resume()
        held, self._held = self._held, []
        for change in held:
            change()

    def _hold(self) -> None:
        if self._shared is not None:
            self._shared.pause()

    def _adopt(
        self, tables: dict[str, Any], wires: list[tuple[int, socket.socket, list[bytes]]], shared: dict[str, Any] | None
    ) -> None:
        for name, given in tables.items():
            if name in self._tables:
                self._tables[name].take(given)
            else:
                self._store.forget_app(name)
        for holder, sock, waiting in wires:
            received = partial(self._received, holder)
            self._wires[holder] = Wire(self._loop, sock, received, lambda: None, waiting)
        if self._shared is not None:
            self._shared.adopt(shared)

    def _end(self) -> None:
        for name, table in self._tables.items():
            self._keep(name, table, table.changed)
        for wire in self._wires.values():
            wire.close()
        if self._shared is not None:
            self._shared.close()
        self._loop.stop()

    def _configure(self, wanted: dict[str, Sticky], places: dict[str, dict[str, str]]) -> None:
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
        if self._shared is not None:
            self._shared.configure(places)
        self._flush()

    def _restored(self, name: str, sticky: Sticky) -> StickTable:
        """A new table, with what an earlier life knew and has not expired."""
        table = StickTable(sticky.size, sticky.expires)
        table.notes_changes = self._store.is_kept
        table.is_copy = self._shared is not None
        now, wall = self._loop.now, self._wall()
        idle = [(now - min(max(0.0, wall - one.at), 1e9) if one.at else now, one) for one in self._saved.pop(name, ())]
        for since, one in sorted(idle, key=lambda pair: pair[0]):
            if now - since < sticky.expires:
                table.restore(one.key, one.target, one.version, since)
            else:
                table.changed.add(one.key)
        if self._shared is not None:
            self._shared.own(name, [entry.key for entry in table])
        if idle:
            entries = counted(len(idle), "stick entry", "stick entries")
            logger.info("app %s: %d of %s kept over the restart", name, len(table), entries)
        return table

    def _attach(self, holder: int, sock: socket.socket) -> None:
        self._wires[holder] = Wire(self._loop, sock, partial(self._received, holder), lambda: None)

    def _detach(self, holder: int) -> None:
        wire = self._wires.pop(holder, None)
        if wire is not None:
            wire.close()
        self._out.pop(holder, None)
        if self._shared is not None:
            self._shared.detached(holder)
        for table in self._tables.values():
            table.released(holder, self._loop.now)
        self._flush()

    def _received(self, holder: int, items: list[Item]) -> None:
        now, mine = self._loop.now, self._out.setdefault(holder, [])
        for item in items:
            if item[0] in (ASK, ASK_BY_HASH):
                app = item[2]
                table = self._tables.get(app)
                answer = self._answered(table, holder, item, now)
                if answer is not None:
                    mine.append(answer)
            else:
                app, key = item[1], item[2]
                table = self._tables.get(app)
                if table is not None and item[0] == CLOSED:
                    table.closed(key, holder, now)
                elif table is not None and item[0] == OPENED:
                    was_there = table.get(key) is not None
                    table.opened(key, item[3], holder, now)
                    if self._shared is not None and not was_there:
                        self._shared.offer(app, table, key)
            if table is not None and table.news:
                self._tell(app, table)
        self._flush()

    def _answered(self, table: StickTable | None, holder: int, item: Item, now: float) -> Item | None:
        """None: that comes later."""
        _, number, app, key, proposal, seen = item
        if table is not None and self._shared is not None:
            return self._shared.ask(app, table, holder, item, now)
        entry = table.claim(key, proposal, seen, holder, now) if table is not None else None
        return (number, "", 0) if entry is None else (number, entry.target, entry.version)

    def _answer_later(self, holder: int, answer: Item) -> None:
        if holder in self._wires:
            self._out.setdefault(holder, []).append(answer)

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
        if self._shared is not None:
            self._shared.send()

    def _rename(self, app: str, old: str, new: str) -> None:
        table = self._tables.get(app)
        if table is not None:
            table.rename(old, new)
            if self._shared is not None:
                self._shared.renamed(app, table, old, new)
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
        if self._is_paused:  # another program has been told how the tables are
            self._held.append(partial(self._change, app, change, reply))
            return
        table = self._tables.get(app)
        if table is not None and self._shared is not None:
            table.orders = []
        found = change(table, self._loop.now) if table is not None else None
        if table is not None and table.orders is not None and self._shared is not None:
            self._shared.ordered(app, table.orders)
            table.orders = None
        if table is not None:
            self._tell(app, table)
            self._flush()
        self._main.call_soon(reply, found)

    def _expire(self) -> None:
        if self._is_paused:
            self._loop.call_later(EXPIRE_EVERY, self._expire)
            return
        has_more = any([len(table.expire(self._loop.now, EXPIRED_AT_ONCE)) == EXPIRED_AT_ONCE for table in self._all()])
        if has_more:
            self._loop.call_again(lambda _events: self._expire())
        else:
            self._loop.call_later(EXPIRE_EVERY, self._expire)

    def _all(self) -> tuple[StickTable, ...]:
        return tuple(self._tables.values())

    # -- the state file

    def _save(self) -> None:
        if self._is_paused:
            self._loop.call_later(SAVE_EVERY, self._save)
            return
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


def _nothing(_is_online: bool) -> None:
    """Nobody wants to know."""


def _saved(app: str, key: str, entry: Entry | None, now: float, wall: float) -> SavedStick:
    if entry is None:
        return SavedStick(app, key)
    return SavedStick(app, key, entry.target, entry.version, 0.0 if entry.open else wall - (now - entry.since))
