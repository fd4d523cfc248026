"""The stick tables of a node of a cluster: what is asked of the cluster agent before a table takes it, and what that says.

Runs in the thread `sticks`; owns the wire to the agent (wire.shared_sticks). The tables stay what they are, the one
authority for this node's workers, and are a copy of what is in etcd: a key that is known is answered at once, a new one, or
one whose target cannot be used, when the agent has answered. The time of entries is etcd's, so none expires here.

    OFFLINE ──BEGIN … DONE, ONLINE──> ONLINE ──OFFLINE, the agent is gone──> OFFLINE
    a question:  ASKED ──ANSWER──> taken   ──OFFLINE, an ANSWER without a target──> BY_HASH: the worker asks once more, for
                 the target that every node would take, and that is taken here alone

    in a take-over, on both sides: ──pause()──> what the agent says, and its end, wait ──resume(), adopt()──> heard, as ever

What was taken here alone is offered every OFFER_EVERY seconds while the agent is there: if there is another one meanwhile,
that one stands, and the key moves; its sessions go on. So is what has sessions here and etcd has lost. What an operator has
ordered is given as often, until the agent says that it stands: another entry does not keep it from being so. Of both there
may be as many as there are entries: AT_ONCE are under way, the others wait for their turn, an order until somebody comes for
its key. More would keep etcd's answers from clients, and the agent from the cluster, again and again.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.stick_table import StickTable
from tcp_proxy.wire import shared_sticks as say
from tcp_proxy.wire.datagrams import Item
from tcp_proxy.wire.stick_table import ASK_BY_HASH, BY_HASH, Wire

OFFER_EVERY = 1.0  # seconds
AT_ONCE = 32  # orders, and as many offers: 2,000 a second, for which a question waits 10 ms

Name = tuple[str, str]  # app and key
Asker = tuple[int, int]  # a worker, as a holder, and the number of its question
Answer = tuple[int, str, int]


class SharedTables:
    """`tables` by app. `answer(holder, answer)` for what comes later; `tell(app)` when a table has news; `flush()` after a
    batch; `online(is_online)` when that changes."""

    def __init__(
        self,
        loop: Loop,
        tables: dict[str, StickTable],
        answer: Callable[[int, Answer], Any],
        tell: Callable[[str, StickTable], Any],
        flush: Callable[[], Any],
        online: Callable[[bool], Any],
    ) -> None:
        self.is_online = False
        self._loop = loop
        self._tables = tables
        self._answer, self._tell, self._flush, self._online = answer, tell, flush, online
        self._wire: Wire | None = None
        self._out: list[Item] = []
        self._numbers = 0
        self._asked: dict[int, tuple[Item, list[Asker]]] = {}
        self._open: dict[Name, int] = {}  # the question that is under way for a key
        self._ordered: dict[Name, tuple[str, int]] = {}  # target, number (0: none yet), until somebody says that it stands
        self._orders: dict[int, Name] = {}  # those that the agent has been given, and has not answered
        self._to_order: OrderedDict[Name, None] = OrderedDict()  # those whose turn is to come
        self._to_offer: OrderedDict[Name, str] = OrderedDict()  # and the others': whose they were, "" for nobody's
        self._places: dict[str, dict[str, str]] = {}
        self._own: dict[str, set[str]] = {}  # by app: keys whose entries etcd may not have
        self._seen: dict[str, set[str]] | None = None  # what was told since BEGIN
        self._held: list[list[Item] | None] | None = None  # what the agent says, None: it is gone; while paused
        self._is_offering = False  # again and again, from the first agent on

    def __repr__(self) -> str:
        return f"<SharedTables {'online' if self.is_online else 'offline'}, {len(self._asked)} asked>"

    def attach(self, sock: socket.socket) -> None:
        """The agent, another one than before, is at the other end."""
        self.close()
        if not self._is_offering:
            self._is_offering = True
            self._loop.call_later(OFFER_EVERY, self._offer_again)
        self._wire = Wire(self._loop, sock, self._received, self._lost)
        self.configure()
        for app, table in self._tables.items():
            self._out += [(say.OPENED, app, entry.key) for entry in table if entry.open]
            table.uses.clear()
        self._flush()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._held is None:
            self._gone()
        else:  # what it has asked was told to the other program: nobody is answered before it is clear which one goes on
            self._held = [None]

    def configure(self, places: dict[str, dict[str, str]] | None = None) -> None:
        """The tables are others now, or their entries live longer, or targets have other names. `places`: where those of
        each app are."""
        self._places = places if places is not None else self._places
        self._own = {app: self._own.get(app, set()) for app in self._tables}
        self._ordered = {name: order for name, order in self._ordered.items() if name[0] in self._tables}
        self._out.append((say.PLACES, {app: self._places.get(app, {}) for app in self._tables}))
        self._out.append((say.APPS, {app: table.expires for app, table in self._tables.items()}))

    def own(self, app: str, keys: Iterable[str]) -> None:
        """Entries that are this node's alone, so far."""
        self._own.setdefault(app, set()).update(keys)

    def send(self) -> None:
        """What has come together: uses, and whose turn it is, too."""
        self._take_turns()
        for app, table in self._tables.items():
            if table.uses:
                self._out += [(say.OPENED if is_open else say.IDLE, app, key) for key, is_open in table.uses]
                table.uses.clear()
        if self._wire is not None and self._out:
            self._wire.send(self._out)
        self._out = []

    def detached(self, holder: int) -> None:
        """Another worker may have its number soon, and other questions."""
        for _, askers in self._asked.values():
            askers[:] = [asker for asker in askers if asker[0] != holder]

    # -- a take-over

    def pause(self) -> dict[str, Any]:
        """What a program that takes over has to know beside the tables; what the agent says waits from now on."""
        self._held = []
        return {
            "is_online": self.is_online,
            "own": {app: list(keys) for app, keys in self._own.items()},
            "orders": [[*name, target] for name, (target, _) in self._ordered.items()],
            "asked": [[*(*item[2:], "")[:4], askers] for item, askers in self._asked.values()],
        }

    def resume(self) -> None:
        """What has waited is heard."""
        held, self._held = self._held or [], None
        for items in held:
            self._gone() if items is None else self._received(items)
        self._flush()

    def adopt(self, given: dict[str, Any] | None) -> None:
        """The tables are those of another program: what it has told, if it has. Where its agent was there, ours goes on in
        its place, and what was asked is asked once more: etcd gives one answer to both."""
        if given is not None:
            self._own = {app: set(given["own"].get(app, ())) for app in self._tables}
            for app, table in self._tables.items():
                self._out += [(say.OPENED, app, entry.key) for entry in table if entry.open]
            for app, key, target in given.get("orders", ()):
                if app in self._tables:
                    self._order(app, key, target)
            for app, key, target, old, askers in given["asked"]:
                if app in self._tables:
                    self._question(app, key, target, old, [(holder, number) for holder, number in askers])
            if given["is_online"] and self._wire is not None:
                self.is_online = True
                self._online(True)
            else:
                self._go_offline()
        if self._wire is not None:  # agents before this one have asked nothing
            self._held = [items for items in self._held or () if items is not None]
        self.resume()

    # -- what workers ask

    def ask(self, app: str, table: StickTable, holder: int, item: Item, now: float) -> Answer | None:
        """The answer; None: it comes later."""
        kind, number, _, key, proposal, seen = item
        is_by_hash = kind == ASK_BY_HASH
        under_way = self._open.get((app, key))
        if under_way is not None and not is_by_hash:
            self._asked[under_way][1].append((holder, number))
            return None
        entry = table.find(key, now)
        is_unusable = entry is not None and entry.version == seen and proposal not in ("", entry.target)
        if (entry is None and proposal) or is_unusable:
            if not is_by_hash:
                if not self.is_online:
                    return number, "", BY_HASH
                old = entry.target if entry is not None else ""
                self._question(app, key, proposal, old, [(holder, number)])
                return None
            self._own[app].add(key)
        entry = table.claim(key, proposal, seen, holder, now)
        return (number, entry.target, entry.version) if entry is not None else (number, "", 0)

    def ordered(self, app: str, orders: Iterable[tuple[str, str]]) -> None:
        """An operator has said so: whose a key is, or "", that it is forgotten."""
        for key, target in orders:
            self._order(app, key, target)
            if not self.is_online and target:
                self._own[app].add(key)

    def _order(self, app: str, key: str, target: str) -> None:
        self._ordered[app, key] = target, 0
        if self._wire is not None:
            self._to_order[app, key] = None

    def _order_again(self) -> None:
        self._to_order.update((name, None) for name, (_, number) in self._ordered.items() if number not in self._orders)

    def _give_order(self, name: Name) -> None:
        """If there is one that is not under way."""
        self._to_order.pop(name, None)
        target, number = self._ordered.get(name, ("", -1))
        if self._wire is not None and number >= 0 and number not in self._orders:
            self._numbers += 1
            self._ordered[name] = target, self._numbers
            self._orders[self._numbers] = name
            self._out.append((say.SET, self._numbers, *name, target))

    def renamed(self, app: str, table: StickTable, old: str, new: str) -> None:
        for entry in table:
            if entry.target == new:
                self._own[app].add(entry.key)
                self._to_offer[app, entry.key] = old

    def _take_turns(self) -> None:
        while self._to_order and self._wire is not None and len(self._orders) < AT_ONCE:
            self._give_order(next(iter(self._to_order)))
        while self._to_offer and self.is_online and len(self._asked) < AT_ONCE:
            (app, key), old = self._to_offer.popitem(last=False)
            entry = self._tables[app].get(key) if app in self._tables else None
            if entry is None:
                self._own.get(app, set()).discard(key)
            elif key in self._own[app] and (old or (app, key) not in self._open):
                self._question(app, key, entry.target, old, [])

    def _question(self, app: str, key: str, target: str, old: str, askers: list[Asker]) -> None:
        """Have it made, or moved away from `old`. What was ordered of it comes first."""
        self._give_order((app, key))
        self._numbers += 1
        item: Item = (say.CREATE, self._numbers, app, key, target)
        if old:
            item = (say.MOVE, self._numbers, app, key, target, old)
        self._asked[self._numbers] = item, askers
        self._open[app, key] = self._numbers
        self._out.append(item)

    # -- what the agent says

    def _received(self, items: list[Item]) -> None:
        if self._held is not None:
            self._held.append(items)
            return
        now = self._loop.now
        for item in items:
            match item:
                case (say.ANSWER, number, target):
                    self._answered(number, target, now)
                case (say.STANDS, number):
                    self._stands(number)
                case (say.NEWS, app, key, target):
                    self._news(app, key, target, now)
                case (say.BEGIN,):
                    self._seen = {app: set() for app in self._tables}
                case (say.DONE,):
                    self._all_told()
                case (say.ONLINE,):
                    self._go_online()
                case (say.OFFLINE,):
                    self._go_offline()
                case _:
                    raise AssertionError(f"not for the tables: {item!r}")
        for app, table in self._tables.items():
            if table.news:
                self._tell(app, table)
        self._flush()

    def _stands(self, number: int) -> None:
        name = self._orders.pop(number, None)
        if name is not None and name in self._ordered and self._ordered[name][1] == number:
            del self._ordered[name]

    def _answered(self, number: int, target: str, now: float) -> None:
        self._orders.pop(number, None)
        asked = self._asked.pop(number, None)
        if asked is None:
            return  # nobody waits any more
        (_, _, app, key, *_), askers = asked
        if self._open.get((app, key)) == number:
            del self._open[app, key]
        table = self._tables.get(app)
        if table is None or not target:
            for holder, question in askers:
                self._answer(holder, (question, "", BY_HASH if table is not None else 0))
            if table is not None and not askers and table.get(key) is not None:
                self._own[app].add(key)  # offered in vain: once more when the agent is online again
            return
        self._own[app].discard(key)
        entry = table.get(key)
        if entry is not None and entry.target != target:
            table.set(key, target, now)
        elif entry is None and not askers:
            return
        for holder, question in askers:
            entry = table.claim(key, target, 0, holder, now)
            assert entry is not None
            self._answer(holder, (question, entry.target, entry.version))

    def _news(self, app: str, key: str, target: str, now: float) -> None:
        table = self._tables.get(app)
        if table is None:
            return
        if target:
            if self._seen is not None:
                self._seen.setdefault(app, set()).add(key)
            self._own[app].discard(key)
            table.set(key, target, now)
            return
        entry = table.get(key)
        if entry is not None and entry.open:
            self.offer(app, table, key)  # it has sessions here: it is to be there
        elif entry is not None and key not in self._own[app]:
            table.delete(key)

    def _all_told(self) -> None:
        """Whatever was not told is gone, unless it is to be there."""
        seen, self._seen = self._seen or {}, None
        for app, table in self._tables.items():
            told = seen.get(app, set())
            for entry in [one for one in table if one.key not in told]:
                if entry.open or entry.key in self._own[app]:
                    self._own[app].add(entry.key)
                else:
                    table.delete(entry.key)
        if self.is_online:
            self._offer_own()

    def _offer_again(self) -> None:
        self._loop.call_later(OFFER_EVERY, self._offer_again)
        for app, table in self._tables.items():
            if len(self._own[app]) > 2 * table.size:  # cut off for long: most of these have been evicted
                self._own[app].intersection_update([entry.key for entry in table])
        if self.is_online and (self._ordered or any(self._own.values())):
            if not self._to_order:
                self._order_again()
            self._offer_own()
            self._flush()

    def _offer_own(self) -> None:
        if not self._to_offer:  # else those of the last time are not through
            self._to_offer.update(((app, key), "") for app, keys in self._own.items() for key in keys)

    def offer(self, app: str, table: StickTable, key: str) -> None:
        """There is an entry here that etcd may not have."""
        if table.get(key) is not None:
            self._own[app].add(key)
            if self.is_online:
                self._to_offer.setdefault((app, key), "")

    def _go_online(self) -> None:
        if not self.is_online:
            self.is_online = True
            self._order_again()
            self._offer_own()
            self._online(True)

    def _lost(self) -> None:
        """The agent is gone."""
        self._wire = None
        if self._held is not None:
            self._held.append(None)
        else:
            self._gone()
            self._flush()

    def _gone(self) -> None:
        """Whatever it was asked it does not answer."""
        self._seen = None
        self._orders = {}
        self._to_order.clear()
        self._go_offline()

    def _go_offline(self) -> None:
        """Whoever waits decides for himself."""
        self._to_offer.clear()  # they are this node's own
        asked, self._asked, self._open = self._asked, {}, {}
        for (_, _, app, key, *_), askers in asked.values():
            for holder, question in askers:
                self._answer(holder, (question, "", BY_HASH))
            table = self._tables.get(app)
            if table is not None and table.get(key) is not None:
                self._own[app].add(key)
        if self.is_online:
            self.is_online = False
            self._online(False)
