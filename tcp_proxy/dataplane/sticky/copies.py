"""What a worker knows of the stick tables: its own copies of entries, and the questions that are under way.

Owned by the worker's loop thread. The authority is the thread `sticks` of the supervisor (control.sticky.tables); a copy
is right until it says otherwise, so a client whose key is known waits for nothing.

    (no copy) ──use──> unknown ──ask──> ASKING ──answer──> known <──news── (another target) · ──news: gone──> unknown
    known, with sessions ──the last one ends──> IDLE ──a while before the entry expires──> (no copy)

Always true: the first session of a key by a copy, and the end of the last one, are reported, in order, within REPORT
seconds; while a key has sessions here its copy is kept, if only to report their end.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from random import random
from typing import Any, Protocol

from tcp_proxy.config.model import Sticky
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.balance import Balancer, make
from tcp_proxy.sansio.stick_key import KeyMaker
from tcp_proxy.wire.datagrams import Item
from tcp_proxy.wire.stick_table import ASK, ASK_BY_HASH, BY_HASH, CLOSED, OPENED, Wire

REPORT = 0.05  # seconds at most until what has opened and closed is said
SAFETY = 1.0  # seconds before an entry expires in which its copy is not used any more, or half the time it has
SPARE = 64  # targets whose turn was not used, that are remembered


class Asker(Protocol):
    def answered(self) -> Any: ...


class Copy:
    """One key. `version` 0: nothing is known of it. `open`: sessions of this worker, and those that wait for a target."""

    __slots__ = ("is_reported", "key", "open", "proposal", "target", "until", "version", "waiters")

    def __init__(self, key: str) -> None:
        self.key = key
        self.target = ""
        self.version = 0
        self.open = 0
        self.until = 0.0
        self.is_reported = False  # the authority knows that there are sessions
        self.proposal: LiveTarget | None = None
        self.waiters: list[Asker] | None = None  # while a question is under way

    def __repr__(self) -> str:
        return f"<Copy {self.key} -> {self.target or None} version {self.version}, {self.open} open>"


class StickCopies:
    """Everything of one app. `table_client` is the worker's."""

    def __init__(self, table_client: "StickTableClient", app: LiveApp) -> None:
        self.app = app
        self.table_client = table_client
        self.copies: dict[str, Copy] = {}
        self._idle: OrderedDict[str, Copy] = OrderedDict()  # by `until`
        self._spare: deque[LiveTarget] = deque(maxlen=SPARE)
        self._lasts = 0.0
        self._hash: Balancer | None = None

    def __repr__(self) -> str:
        return f"<StickCopies of {self.app.name}: {len(self.copies)} copies>"

    def configure(self, sticky: Sticky) -> None:
        self.keys = KeyMaker(sticky.ipv4_prefix, sticky.ipv6_prefix, *sticky.slice, is_text=bool(sticky.header))
        self._size = sticky.size
        before, self._lasts = self._lasts, sticky.expires - min(SAFETY, sticky.expires / 2)
        if self._lasts < before:
            for copy in self._idle.values():
                copy.until -= before - self._lasts

    def use(self, key: str) -> Copy:
        """One session more of this key."""
        self._forget_old()
        copy = self.copies.get(key)
        if copy is None:
            copy = self.copies[key] = Copy(key)
        elif not copy.open:
            del self._idle[key]
        copy.open += 1
        return copy

    def arrive(self, key: str, target: str) -> Copy:
        """A session of this key comes from another worker, which will say that it has one less."""
        copy = self.use(key)
        if not copy.is_reported:
            copy.is_reported = True
            self._report((OPENED, self.app.name, key, target))
        return copy

    def leave(self, copy: Copy) -> None:
        """One session less. A copy of which no use was reported is given up: it would outlive its entry."""
        copy.open -= 1
        if copy.open:
            return
        was_used, copy.is_reported = copy.is_reported, False
        if was_used:
            self._report((CLOSED, self.app.name, copy.key))
        if copy.version and was_used and not copy.waiters:
            copy.until = self.table_client.loop.now + self._lasts
            self._idle[copy.key] = copy
        else:
            del self.copies[copy.key]

    def target_of(self, copy: Copy, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        """The one it belongs to, if that may have sessions of those who belong to it."""
        target = self.app.targets.get(copy.target) if copy.version else None
        if target is None or not target.may_keep or (excluded and target in excluded):
            return None
        if not copy.is_reported:
            copy.is_reported = True
            self._report((OPENED, self.app.name, copy.key, copy.target))
        return target

    def ask(self, copy: Copy, asker: Asker, excluded: set[LiveTarget] | None) -> bool:
        """Have the authority say, or decide, whose the key is: `answered` will be called. False: nobody can be asked."""
        if copy.waiters is not None:
            copy.waiters.append(asker)
            return True
        if not self.table_client.is_open:
            return False
        proposal = self._propose(copy.key, excluded)
        if proposal is None and copy.version:
            return False
        copy.waiters = [asker]
        copy.proposal = proposal
        copy.is_reported = True  # by the question
        self.table_client.ask(self, copy, proposal.name if proposal is not None else "")
        return True

    def tell(self, copy: Copy, target: LiveTarget) -> None:
        """A session of a key whose target is not to be had has this one: the key's from now on, unless the authority knows
        another. Nobody waits for its answer."""
        if copy.waiters is None and self.table_client.is_open:
            copy.waiters = []
            copy.is_reported = True
            self.table_client.ask(self, copy, target.name)

    def answer(self, copy: Copy, target: str, version: int) -> None:
        proposal, copy.proposal = copy.proposal, None
        if version == BY_HASH:
            version = 0
            if proposal is not None and copy.waiters and self._ask_by_hash(copy, proposal):
                return
        waiters, copy.waiters = copy.waiters or [], None
        copy.target, copy.version = target, version
        if proposal is not None:
            proposal.give(self.app.row)
            if proposal.name != target and self.app.is_in_turns:
                self._spare.append(proposal)
        if not copy.open:  # all who asked have gone
            if copy.is_reported:
                self._report((CLOSED, self.app.name, copy.key))
            if self.copies.get(copy.key) is copy:
                del self.copies[copy.key]
        for waiter in waiters:
            try:
                waiter.answered()
            except Exception as error:  # noqa: BLE001  one session's bug must not end the others
                self.table_client.loop.on_error(waiter.answered, error)

    def _ask_by_hash(self, copy: Copy, proposal: LiveTarget) -> bool:
        """Nobody knows what other nodes of the cluster decide: ask again, for what each of them would propose."""
        by_hash = self._by_hash(copy)
        if by_hash is None or by_hash is proposal or not by_hash.take(self.app.row):
            by_hash = proposal
        else:
            proposal.give(self.app.row)
        copy.proposal = by_hash
        self.table_client.ask(self, copy, by_hash.name, ASK_BY_HASH)
        return True

    def _by_hash(self, copy: Copy) -> LiveTarget | None:
        """The one that every node would take, but for the one that cannot be used."""
        pool = self.app.pool
        others = tuple(target for target in pool if not copy.version or target.name != copy.target)
        if self._hash is None:
            self._hash = make("source_hash", 0)
        return self._hash.pick(others, copy.key.encode(), 0.0, random) if others else None

    def told(self, key: str, target: str, version: int) -> None:
        """The entry is another one now, or gone."""
        copy = self.copies.get(key)
        if copy is None:
            return
        copy.target, copy.version = target, version if target else 0
        if not target and not copy.open and copy.waiters is None:
            del self.copies[key], self._idle[key]

    def lose(self) -> None:
        """Nobody can be asked any more."""
        for copy in list(self.copies.values()):
            if copy.waiters is not None:
                self.answer(copy, "", 0)

    def _report(self, item: Item) -> None:
        """Unless the app has another table by now, which knows nothing of these copies."""
        if self.table_client.apps.get(self.app.name) is self:
            self.table_client.report(item)

    def _propose(self, key: str, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        """A target for a new key, taken. One whose turn was not used has it now."""
        app = self.app
        while self._spare and not excluded:
            target = self._spare.popleft()
            if target.is_eligible and app.targets.get(target.name) is target and target.take(app.row):
                return target
        return app.choose(key.partition(" ")[0].encode(), self.table_client.loop.now, excluded)

    def _forget_old(self) -> None:
        idle, now = self._idle, self.table_client.loop.now
        while idle:
            first = next(iter(idle.values()))
            if first.until > now and len(self.copies) <= self._size:
                return
            del idle[first.key], self.copies[first.key]


class StickTableClient:
    """The sticks of all apps of a worker, and the wire to the tables. `lost()` once, when their thread is gone."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.apps: dict[str, StickCopies] = {}
        self._wire: Wire | None = None
        self._waiting: list[Item] = []  # reports
        self._asked: dict[int, tuple[StickCopies, Copy]] = {}
        self._questions = 0
        self._is_due = False

    def __repr__(self) -> str:
        return f"<StickTableClient of {len(self.apps)} apps, {len(self._asked)} questions under way>"

    @property
    def is_open(self) -> bool:
        return self._wire is not None and self._wire.is_open

    def connect(self, sock: socket.socket) -> None:
        self._wire = Wire(self.loop, sock, self._received, self._ended)

    def configure(self, app: LiveApp, sticky: Sticky | None) -> StickCopies | None:
        """The app's sticks, from now on so; None: it is not sticky (any more)."""
        if sticky is None:
            self.apps.pop(app.name, None)
            return None
        sticks = self.apps.get(app.name)
        if sticks is None or sticks.app is not app:
            sticks = self.apps[app.name] = StickCopies(self, app)
        sticks.configure(sticky)
        return sticks

    def ask(self, sticks: StickCopies, copy: Copy, proposal: str, kind: int = ASK) -> None:
        assert self._wire is not None
        self._questions += 1
        self._asked[self._questions] = sticks, copy
        items, self._waiting = self._waiting, []
        items.append((kind, self._questions, sticks.app.name, copy.key, proposal, copy.version))
        self._wire.send(items)

    def report(self, item: Item) -> None:
        self._waiting.append(item)
        if not self._is_due:
            self._is_due = True
            self.loop.call_later(REPORT, self._flush)

    def in_loop(self, call: Callable[..., Any], *args: Any) -> None:
        """For sessions that have ended in a relay thread."""
        self.loop.call_soon(call, *args)

    def _flush(self) -> None:
        self._is_due = False
        items, self._waiting = self._waiting, []
        if self._wire is not None and items:
            self._wire.send(items)

    def _received(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item[0], int):
                number, target, version = item
                sticks, copy = self._asked.pop(number)
                sticks.answer(copy, target, version)
            else:
                app, key, target, version = item
                if app in self.apps:
                    self.apps[app].told(key, target, version)

    def _ended(self) -> None:
        self._asked.clear()
        for sticks in self.apps.values():
            sticks.lose()
