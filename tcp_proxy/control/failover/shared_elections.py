"""What the nodes of a cluster say to each other of elections, in etcd, and who is told of it here.

Main thread only. All that is read is held against what a node writes; what it means is sansio.lead's.

    lead/APP          the node that decides, with its life and its lease: gone with that, or taken over by another one
    primary/APP       epoch and primary, "" for nobody; written only by who has the lead, unchanged
    paused/APP/NODE   the epoch in which a node has let go of all primaries before; of apps that it does not know, too
    lost/APP/NODE     the epoch whose primary a node cannot connect to
    promote/APP       the target that an operator wants, until the node that decides has heard of it
    unfit/NODE        an operator wants this node to decide on nothing (control.cluster.unfit)
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.cluster.unfit import UNFIT, unfit_nodes
from tcp_proxy.control.targets.known import KnownTarget
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.lead import LeadMachine
from tcp_proxy.wire.cluster import DELETE, REPLACE, ClusterNews, SharedValue, parts_of, shared_key
from tcp_proxy.wire.messages import Renewed

logger = logging.getLogger(__name__)

LEAD, PRIMARY, PAUSED, LOST, PROMOTE = "lead", "primary", "paused", "lost", "promote"
MOST_EPOCH = 1 << 53
ORDER_LASTS = 10  # seconds
LEAVE_AFTER = 1.0  # seconds that workers have for those whose connect has succeeded


class Room(Protocol):
    """Of one app (clustered)."""

    machine: LeadMachine
    app: Any

    def hear_of(self, tell: Callable[[LeadMachine, float], Any]) -> None: ...
    def wrote(self, epoch: int, primary: str, place: str) -> None: ...
    def look_at_reports(self) -> None: ...
    def promote(self, target: str) -> str: ...


class SharedElections:
    """`send(message)` to all workers."""

    def __init__(
        self, loop: Loop, shared: SharedState, node: str, instance: str, lease: int, send: Callable[[Renewed], Any]
    ) -> None:
        self.node, self.lease = node, lease
        self._loop = loop
        self._shared = shared
        self._instance = instance
        self._send = send
        self._rooms: dict[str, Room] = {}
        self._number = 0  # of our lease
        self._heard: dict[str, float] = {}
        self._renewals: dict[str, tuple[int, float]] = {}  # that are to be sent
        self._is_leaving = False
        self._orders: dict[str, int] = {}  # by app: the revision of the last one that was obeyed
        # In this order: who gets the lead knows what was written before.
        shared.observe(PAUSED, self._answered)
        shared.observe(PRIMARY, self._wrote)
        shared.observe(LEAD, self._held)
        shared.observe(LOST, self._lost)
        shared.observe(PROMOTE, self._ordered)
        shared.observe(UNFIT, lambda _keys: self._unfit())

    def __repr__(self) -> str:
        return f"<SharedElections of {len(self._rooms)} apps>"

    # -- apps

    def add(self, name: str, room: Room) -> None:
        """It is told of all that is known."""
        self._rooms[name] = room
        heard, answers = dict(self._heard), self._answers_of(name)
        room.hear_of(lambda machine, now: machine.members(heard, now))
        room.hear_of(lambda machine, now: machine.answers(answers, now))
        room.hear_of(lambda machine, now: machine.unfit(unfit_nodes(self._shared), now))
        self._tell_written(name, room)
        self._tell_held(name, room)

    def remove(self, name: str) -> None:
        """It is no failover app any more: this node sends nobody there, in whatever epoch."""
        self._rooms.pop(name, None)
        self._wrote([shared_key(PRIMARY, name)])

    def look(self) -> None:
        """All apps of this node are known."""
        self._wrote(None)

    def leads(self) -> dict[str, list[str]]:
        """Of nodes: the apps on whose primary they decide, as far as this node knows."""
        found: dict[str, list[str]] = {}
        for name in sorted(self._rooms):
            found.setdefault(self._rooms[name].machine.holder, []).append(name)
        found.pop("", None)
        return found

    # -- what the agent says of members and of time

    def heard(self, news: ClusterNews) -> None:
        if news.members:
            self._heard = {one.node: one.heard for one in news.members}
        rooms = tuple(self._rooms.items())
        for _, room in rooms:
            room.hear_of(lambda machine, now: machine.members(self._heard, now))
        is_lost = news.state == "alone" and not news.lease and self._number != 0
        if news.until or is_lost:
            has_changed, self._number = self._number != news.lease, news.lease
            if has_changed:
                self._held(None)
            until = 0.0 if self._is_leaving else news.until
            for name, room in rooms:
                room.hear_of(lambda machine, now: machine.renewed(until, now))
                if is_lost:
                    self.renew(name, room.app.epoch, 0.0)

    def leave(self) -> float:
        """This node decides nothing any more, and sends nobody to a primary in so many seconds: then it may be gone."""
        self._is_leaving = True
        over, seconds = self._loop.now + LEAVE_AFTER, 0.0
        for name, room in tuple(self._rooms.items()):
            if room.machine.is_mine:
                self.release(name)
            until = min(over, room.machine.until)
            room.hear_of(lambda machine, now: machine.renewed(0.0, now))
            if room.app.is_leased:
                self.renew(name, room.app.epoch, until)
                seconds = LEAVE_AFTER
        return seconds

    # -- what this node says

    def claim(self, app: str, done: Callable[[str], Any]) -> None:
        value = {"node": self.node, "instance": self._instance, "lease": self._number}
        known = self._known(LEAD, app)
        self._shared.change(LEAD, app, how=REPLACE, value=value, is_leased=True, guard=known, done=done)

    def release(self, app: str) -> None:
        self._shared.change(LEAD, app, how=DELETE, guard=self._known(LEAD, app))

    def write(self, app: str, epoch: int, target: KnownTarget | None) -> None:
        value = {"epoch": epoch, "primary": "", "place": "", "node": self.node}
        if target is not None:
            value |= {"primary": target.config.name, "place": str(target.config.address)}
        self._shared.change(PRIMARY, app, how=REPLACE, value=value, guard=self._known(LEAD, app))

    def answer(self, app: str, epoch: int) -> None:
        self._shared.publish(PAUSED, app, self.node, value=epoch)

    def report_lost(self, app: str, epoch: int) -> None:
        self._shared.publish(LOST, app, self.node, value=epoch)

    def is_reported_lost(self, app: str, epoch: int) -> bool:
        return any(
            parts[2] != self.node and said == epoch for parts, said in self._epochs(LOST) if parts[1] == app
        )

    def order(self, app: str, target: KnownTarget) -> None:
        value = {"target": target.config.name, "place": str(target.config.address), "node": self.node}
        self._shared.change(PROMOTE, app, how=REPLACE, value=value, seconds=ORDER_LASTS)

    def look_at_order(self, app: str) -> None:
        self._ordered([shared_key(PROMOTE, app)])

    def renew(self, app: str, epoch: int, until: float) -> None:
        if not self._renewals:
            self._loop.call_soon(self._send_renewals)
        self._renewals[app] = epoch, until

    def _send_renewals(self) -> None:
        renewals, self._renewals = self._renewals, {}
        for until in {until for _, until in renewals.values()}:
            some = [(app, epoch) for app, (epoch, at) in renewals.items() if at == until]
            self._send(Renewed(tuple(app for app, _ in some), tuple(epoch for _, epoch in some), until))

    # -- what all say

    def _known(self, kind: str, app: str) -> SharedValue:
        key = shared_key(kind, app)
        return self._shared.value(key) or SharedValue(key, "", 0)

    def _of(self, keys: list[str] | None) -> list[tuple[str, Room]]:
        """Of which apps something is different."""
        if keys is None:
            return list(self._rooms.items())
        names = dict.fromkeys(parts[1] for parts in map(parts_of, keys) if len(parts) > 1)
        return [(name, self._rooms[name]) for name in names if name in self._rooms]

    def _answered(self, keys: list[str] | None) -> None:
        for name, room in self._of(keys):
            answers = self._answers_of(name)
            room.hear_of(lambda machine, now, answers=answers: machine.answers(answers, now))  # type: ignore[misc]

    def _answers_of(self, app: str) -> dict[str, int]:
        return {parts[2]: epoch for parts, epoch in self._epochs(PAUSED) if parts[1] == app}

    def _epochs(self, kind: str) -> list[tuple[tuple[str, ...], int]]:
        found: list[tuple[tuple[str, ...], int]] = []
        for key, text in self._shared.each(kind):
            parts, epoch = parts_of(key), read_epoch(text)
            if len(parts) == 3 and epoch is not None:
                found.append((parts, epoch))
        return found

    def _wrote(self, keys: list[str] | None) -> None:
        for name, room in self._of(keys):
            self._tell_written(name, room)
        for key in (key for key, _ in self._shared.each(PRIMARY)) if keys is None else keys:
            parts = parts_of(key)
            if len(parts) == 2 and parts[1] not in self._rooms:
                written = read_written(self._known(PRIMARY, parts[1]).value)
                if written is not None:  # this node has no such app, and nobody need wait for it
                    self.answer(parts[1], written[0])

    def _tell_written(self, name: str, room: Room) -> None:
        written = read_written(self._known(PRIMARY, name).value)
        if written is not None:
            room.wrote(*written)

    def _held(self, keys: list[str] | None) -> None:
        for name, room in self._of(keys):
            self._tell_held(name, room)

    def _tell_held(self, name: str, room: Room) -> None:
        holder, instance, lease = read_lead(self._known(LEAD, name).value)
        is_mine = (holder, instance, lease) == (self.node, self._instance, self._number) and lease != 0
        room.hear_of(lambda machine, now: machine.held(holder, now, is_mine=is_mine))

    def _lost(self, keys: list[str] | None) -> None:
        for _, room in self._of(keys):
            room.look_at_reports()

    def _unfit(self) -> None:
        nodes = unfit_nodes(self._shared)
        for room in tuple(self._rooms.values()):
            room.hear_of(lambda machine, now: machine.unfit(nodes, now))

    def _ordered(self, keys: list[str] | None) -> None:
        for name, room in self._of(keys):
            room.app.when_whole(partial(self._obey, name, room))

    def _obey(self, name: str, room: Room) -> None:
        known = self._known(PROMOTE, name)
        order = read_order(known.value)
        if order is None or not room.machine.is_leading or self._orders.get(name, 0) >= known.revision:
            return
        self._orders[name] = known.revision
        self._shared.change(PROMOTE, name, how=DELETE, guard=known)
        target, place, node = order
        targets = room.app.targets
        here = target if target in targets else next(
            (one for one, known in targets.items() if str(known.config.address) == place), target
        )
        refusal = room.promote(here)
        if refusal:
            logger.warning("app %s: node %s wants %s to be primary: %s", name, node, target, refusal)


def read_epoch(text: str) -> int | None:
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if type(said) is int and 0 <= said < MOST_EPOCH else None


def read_written(text: str) -> tuple[int, str, str] | None:
    """Epoch, primary and where that is."""
    said = _object(text)
    epoch, primary, place = said.get("epoch"), said.get("primary"), said.get("place")
    if type(epoch) is not int or not 0 < epoch < MOST_EPOCH or not _are_texts(primary, place):
        return None
    return epoch, primary, place  # type: ignore[return-value]


def read_lead(text: str) -> tuple[str, str, int]:
    """Node, its life and its lease; "" for what says nothing of the kind."""
    said = _object(text)
    node, instance, lease = said.get("node"), said.get("instance"), said.get("lease")
    if not _are_texts(node, instance) or type(lease) is not int:
        return "", "", 0
    return node, instance, lease  # type: ignore[return-value]


def read_order(text: str) -> tuple[str, str, str] | None:
    """Target, where that is, and the node on which it was said."""
    said = _object(text)
    target, place, node = said.get("target"), said.get("place"), said.get("node")
    return (target, place, node) if _are_texts(target, place, node) else None  # type: ignore[return-value]


def _are_texts(*values: Any) -> bool:
    return all(type(one) is str and len(one) <= 1000 and (one.isprintable() or not one) for one in values)


def _object(text: str) -> dict[str, Any]:
    try:
        said: Any = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
