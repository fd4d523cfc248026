"""This proxy as a node of a cluster, as the supervisor knows it: whether it is joined, who else there is, what to say of it.

Main thread only. Owns the agent's process (processes.agent_process), which does all that is done with etcd; here is what
comes of its news. Imported where a configuration has `cluster`, and nowhere else.

    JOINING ──the agent is joined──> JOINED ──it is cut off, or ends──> ALONE ──joined again──> JOINED
    JOINING ──AGENT_WITHIN, JOIN_WITHIN──> ALONE            any ──leave()──> LEAVING

In a take-over the node stays a member, with its lease, what it has said, and what it knows; the agents are drawn in
cluster_agent.agent:

    old   JOINED ──hold(): its agent writes no more──> HELD ──give()──> GIVEN ──leave(): without a word──> gone
                                                        └──go_on(), leave()──> JOINED, LEAVING
    new   WAITING (its agent reads) ──adopt(): what `hold` has told; own()──> JOINED
          WAITING ──the old one is another node, is not joined, or has told nothing; own(): another instance──> JOINING

A node that is ALONE serves with what is known. One that is JOINING is not ready: others have what its clients need.
"""

import dataclasses
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any, Protocol

from tcp_proxy.config.model import Api, Cluster
from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.cluster.unfit import UNFIT, unfit_nodes
from tcp_proxy.control.events import Events
from tcp_proxy.control.processes.agent_process import AgentProcess
from tcp_proxy.control.sticky.tables import StickTables
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.sansio.words import counted
from tcp_proxy.wire.cluster import ClusterNews, JoinCluster, Member, TakeLease, WritesHeld

logger = logging.getLogger(__name__)

JOIN_WITHIN = 5.0  # seconds that a start waits for etcd, once its agent is there, or has read a part: as a request may take
AGENT_WITHIN = 20.0  # seconds that it waits for its agent at most, on a machine that has much to do
READ_WITHIN = 8.0  # seconds that a take-over waits for the new program's agent
HELD_WITHIN = 3.0  # seconds that the old one's may take to stop writing: one member that does not answer, and the next one
JOINING, JOINED, ALONE, LEAVING = "joining", "joined", "alone", "leaving"
NOTHING = ClusterNews("connecting", "the cluster agent has not said anything so far", "", 0, -1.0)


class Shares(Protocol):
    """What is made of shared values (control.sharing)."""

    def is_applied(self, then: Callable[[], Any]) -> bool:
        """Whether what the others say counts here, too; if not, `then()` when it does."""

    def differences(self) -> dict[str, list[str]]:
        """Of nodes: how their configurations differ from this one's."""

    def vote(self) -> None:
        """Who is there, or whether this node is joined, is something else than it was."""

    def own(self) -> None:
        """What another program has said as this node is ours."""


class Elections(Protocol):
    """What is made of who is there, and of time (control.failover.shared_elections)."""

    def heard(self, news: ClusterNews) -> None: ...

    def leads(self) -> dict[str, list[str]]:
        """Of nodes: the apps on whose primary they decide."""

    def leave(self) -> float:
        """In how many seconds this node may be gone."""


class ClusterNode:
    def __init__(self, loop: Loop, config: Cluster, api: Api | None, level: str, events: Events) -> None:
        self.name, self.node = config.name, config.node or socket.gethostname()
        self.checkers = config.checkers
        self.state = JOINING
        self.since = loop.now
        self._loop = loop
        self._events = events
        self._news = NOTHING
        self._config = config
        self.has_left = False
        self._left: Callable[[], Any] = _nothing
        self._known: set[str] = set()  # names of members
        self.cut_off = 0  # times
        order = JoinCluster(
            config.name, self.node, secrets.token_hex(8), config.endpoints, config.lease, config.ca, config.certificate,
            config.user, config.password_file, str(api.listen) if api is not None else "", loop.now, level,
        )  # fmt: skip
        self._agent = AgentProcess(loop, order, self._heard, self._agent_ended, self._wire)
        self.shared = SharedState(self._agent.send)
        self._agent.shared, self._agent.begun = self.shared.heard, self.shared.begin
        self.instance, self.lease = order.instance, config.lease
        self.unfit: dict[str, str] = {}  # nodes, and why
        self.shared.observe(UNFIT, lambda _keys: self._look_at_unfit())
        self.shares: Shares | None = None
        self.elections: Elections | None = None
        self._sticks: StickTables | None = None
        self._has_tables = self._has_waited = False
        self._join_timer: Timer | None = None
        self._is_known: Callable[[], Any] = _nothing
        self._is_waiting = self._has_read = False  # another program is this node
        self._taken: dict[str, Any] | None = None  # it has told, and we go on with it
        self._last: dict[str, Any] | None = None
        self._hold: tuple[Callable[[dict[str, Any] | None], Any], Timer] | None = None
        self.is_held = self.is_given = False
        self._agent.read, self._agent.held = self._read, self._writes_held

    def __repr__(self) -> str:
        return f"<ClusterNode {self.node} of {self.name}, {self.state}>"

    def start(self, sticks: StickTables) -> None:
        self._sticks = sticks
        sticks.online = self._tables_online
        self._agent.start()
        if self._is_waiting:
            self._loop.call_later(READ_WITHIN, self._wait_is_over)
        else:
            self._loop.call_later(AGENT_WITHIN, self._waited)

    def may_serve(self, then: Callable[[], Any]) -> bool:
        """Whether its clients get what those of the others get, or have waited for that for long enough; if not, `then()` is
        called when they do."""
        if self.state not in (JOINING, JOINED) or self._has_waited:
            return True
        self._is_known = then
        has_tables = self._has_tables or self._sticks is None or not self._sticks.is_wanted
        return has_tables and (self.shares is None or self.shares.is_applied(self._wait_is_over))

    def leave(self, left: Callable[[], Any]) -> None:
        """The others see it at once. `left()` is called when that is done, or has taken too long; nothing happens the second
        time."""
        if self.is_given:
            left()
        elif self.state != LEAVING:
            self.go_on()
            self._enter(LEAVING)
            self._left = left
            wait = self.elections.leave() if self.elections is not None else 0.0
            if wait:
                self._loop.call_later(wait, self._agent.leave, self._has_left)
            else:
                self._agent.leave(self._has_left)

    def _has_left(self) -> None:
        self.has_left = True
        self._left()

    def stop(self) -> None:
        self._agent.stop()

    def declare(self, why: str | None) -> None:
        """This node is unfit, until it ends or that is taken back: None. It counts when it has come back from etcd."""
        value = {"why": "".join(filter(str.isprintable, why))} if why is not None else None
        self.shared.publish(UNFIT, self.node, value=value)

    # -- a take-over: in the old program

    def given(self) -> dict[str, Any] | None:
        """Who this node is; None: it is not joined."""
        if self.state != JOINED:
            return None
        return {**self._identity(), "instance": self.instance, "started": self._agent.order.started, **self._known_so_far()}

    def _identity(self) -> dict[str, Any]:
        return {"name": self.name, "node": self.node, "lease": self.lease, "endpoints": sorted(self._config.endpoints)}

    def _known_so_far(self) -> dict[str, Any]:
        return {"since": self.since, "news": dataclasses.asdict(self._news), "shared": self.shared.given()}

    def hold(self, done: Callable[[dict[str, Any] | None], Any]) -> None:
        """Another program is about to be this node: nothing more is written. `done(told)` once; None: it cannot be."""
        self._agent.hold()
        wait = min(self.lease / 3, HELD_WITHIN)
        self._hold = done, self._loop.call_later(wait, self._writes_held, WritesHeld(0, 0))

    def _who_waits(self) -> Callable[[dict[str, Any] | None], Any] | None:
        """For the hold, which is over now."""
        if self._hold is None:
            return None
        (done, timer), self._hold = self._hold, None
        timer.cancel()
        return done

    def _writes_held(self, message: WritesHeld) -> None:
        done = self._who_waits()
        if done is None:
            return
        self.is_held = self.state == JOINED and message.lease == self._news.lease != 0
        if self.is_held:
            done({"lease": message.lease, "beat": message.beat, "until": self._news.until, **self._known_so_far()})
        else:
            self._agent.release()
            done(None)

    def give(self) -> None:
        """The other program is this node, if it has heard that nothing is written here."""
        self.is_given = self.is_held

    def go_on(self) -> None:
        """It is not: this one stays the node."""
        done = self._who_waits()
        if done is not None or self.is_held:
            self.is_held = False
            self._agent.release()
        if done is not None:
            done(None)

    # -- a take-over: in the new one

    def wait(self, given: dict[str, Any] | None) -> bool:
        """Another program is this node, until `own`; what it has told of that. Whether we can go on with it."""
        self._is_waiting = True
        order = dataclasses.replace(self._agent.order, waits=True)
        identity = self._identity()
        if given is not None and {key: given.get(key) for key in identity} == identity:
            self._taken, self.instance = given, given["instance"]
            order = dataclasses.replace(order, instance=self.instance, started=given["started"])
            self._news = _news_of(given["news"])
            self.shared.take(given["shared"])
        self._agent.order = order
        return self._taken is not None

    def is_prepared(self, then: Callable[[], Any]) -> bool:
        """Whether our agent can go on where the other one stops, or had its time for that; if not, `then()` when so."""
        if self._taken is None or self._has_read or self._has_waited:
            return True
        self._is_known = then
        return False

    @property
    def inherits(self) -> str:
        """As whose node we go on; "": we do not."""
        return self.instance if self._taken is not None and self._has_read else ""

    def adopt(self, last: dict[str, Any] | None) -> bool:
        """The other program writes no more: what it has told then; None: it has left, or will."""
        self._last = last if self.inherits else None
        if self._last is not None:
            self.state, self.since, self._news = JOINED, self._last["since"], _news_of(self._last["news"])
            self._known = self.names - {self.node}
            self.shared.take(self._last["shared"])
            self.shared.go_on(self._last["shared"])
        elif self._taken is not None:
            self._taken, self._news = None, NOTHING
            self.shared.take(None)
            self.instance = secrets.token_hex(8)  # of two that write one key each has its own
            self._agent.order = dataclasses.replace(self._agent.order, instance=self.instance)
        return self._last is not None

    def own(self) -> None:
        """We are this node. Nothing happens where there was no other program."""
        if not self._is_waiting:
            return
        self._is_waiting = self._has_waited = False
        last, self._last, self._taken = self._last, None, None
        if last is None:
            self._agent.take(TakeLease(instance=self.instance))
            self._loop.call_later(AGENT_WITHIN, self._waited)
        else:
            self.shared.begin()
            self._agent.take(TakeLease(last["lease"], last["until"], last["beat"]))
            self._loop.call_later(JOIN_WITHIN, self._waited)
            self.shared.tell_all()
            text = "cluster %s: node %s goes on in this program, %s"
            logger.info(text, self.name, self.node, counted(len(self._news.members), "node"))
        if self.shares is not None:
            self.shares.vote()
            self.shares.own()

    def _read(self) -> None:
        self._has_read = True
        if self._is_waiting:
            self._wait_is_over()

    def _wire(self) -> socket.socket:
        assert self._sticks is not None
        return self._sticks.attach_agent()

    def _tables_online(self, is_online: bool) -> None:
        if is_online and not self._has_tables:
            self._has_tables = True
            self._wait_is_over()

    def _wait_is_over(self) -> None:
        """What it has waited for is there, or will not be."""
        self._has_waited = self._has_waited or self._is_waiting
        is_known, self._is_known = self._is_known, _nothing
        is_known()

    # -- what is known

    @property
    def news(self) -> ClusterNews:
        return self._news

    @property
    def is_joining(self) -> bool:
        """It may still get to know what the others know."""
        return self.state == JOINING

    @property
    def is_joined(self) -> bool:
        """Or is about to go on as one that is."""
        return self.state == JOINED or self._taken is not None

    @property
    def names(self) -> set[str]:
        """Of all nodes, as far as this one knows."""
        return {self.node, *(one.node for one in self._news.members)}

    @property
    def degraded(self) -> str:
        """Why it is not joined; "" when it is."""
        return f"cut off from its cluster: {self._news.text}" if self.state == ALONE else ""

    def view(self) -> dict[str, Any]:
        news, now = self._news, self._loop.now
        differs = self.shares.differences() if self.shares is not None else {}
        leads = self.elections.leads() if self.elections is not None else {}
        return {
            "name": self.name,
            "node": self.node,
            "state": self.state,
            "text": "" if self.state == JOINED else news.text,
            "since": now - self.since,
            "endpoints": list(self._config.endpoints),
            "endpoint": news.endpoint,
            "revision": news.revision,
            "lag": news.lag if news.lag >= 0 else None,
            "members": [
                {
                    "node": one.node,
                    "version": one.version,
                    "address": one.address,
                    "api": one.api,
                    "age": one.age + max(0.0, now - one.heard),
                    "lag": one.lag if one.lag >= 0 else None,
                    "heard": max(0.0, now - one.heard),
                    "self": one.node == self.node,
                    "unfit": self.unfit.get(one.node),
                    "leads": leads.get(one.node, []),
                    "differs": differs.get(one.node, []),
                }
                for one in news.members
            ],
        }

    def statistics(self) -> dict[str, Any]:
        return {
            "joined": self.state == JOINED,
            "members": len(self._news.members),
            "lag": self._news.lag,
            "cut_off": self.cut_off,
            "agent_starts": self._agent.starts,
            "different": len(self.shares.differences()) if self.shares is not None else 0,
        }

    # -- what happens

    def _heard(self, news: ClusterNews) -> None:
        self._wait_for_etcd(news.read > self._news.read)
        self._news = news
        if self.elections is not None:
            self.elections.heard(news)
        if self.state == LEAVING:
            return
        if news.state == "joined":
            self._enter(JOINED)
        elif self.state == JOINED:
            self._enter(ALONE)
        self._look_at_members()

    def _wait_for_etcd(self, goes_on: bool = False) -> None:
        """From the agent's first word on: how long it takes to start says nothing of etcd. Anew when it has read a part."""
        if goes_on and self._join_timer is not None:
            self._join_timer.cancel()
        if goes_on or self._news is NOTHING:
            self._join_timer = self._loop.call_later(JOIN_WITHIN, self._waited)

    def _agent_ended(self) -> None:
        self._has_read = False
        if self._is_waiting:
            return
        self._wait_for_etcd()
        text = "its agent has ended, another one is started"
        self._news = ClusterNews("alone", text, self._news.endpoint, self._news.revision, -1.0, self._news.members)
        if self.state == JOINED:
            self._enter(ALONE)

    def _waited(self) -> None:
        if self._has_waited:
            return
        self._has_waited = True
        if self.state == JOINING:
            self._enter(ALONE)
        self._wait_is_over()

    def _enter(self, state: str) -> None:
        if state == self.state:
            return
        before, self.state, self.since = self.state, state, self._loop.now
        if state == JOINED:
            logger.info("cluster %s: joined as node %s, %s", self.name, self.node, counted(len(self._news.members), "node"))
        elif state == ALONE:
            self.cut_off += before == JOINED
            text = "cluster %s: node %s is cut off, traffic goes on with what is known: %s"
            logger.warning(text, self.name, self.node, self._news.text)
        text = self._news.text if state == ALONE else ""
        self._events.publish("cluster", {"node": self.node, "state": state, "text": text})

    def _look_at_unfit(self) -> None:
        before, self.unfit = self.unfit, unfit_nodes(self.shared)
        for node, why in self.unfit.items():
            if before.get(node) != why:
                logger.warning("cluster %s: node %s is unfit: %s", self.name, node, why or "without a reason")
                self._events.publish("cluster", {"node": node, "state": "unfit", "text": why})
        for node in before.keys() - self.unfit.keys():
            logger.info("cluster %s: node %s is fit again, or gone", self.name, node)
            self._events.publish("cluster", {"node": node, "state": "fit", "text": ""})

    def _look_at_members(self) -> None:
        """Of those that others are told of: whoever is gone while this node is cut off may be there all the same."""
        if self.state != JOINED:
            return
        now = {one.node for one in self._news.members} - {self.node}
        for name in sorted(now - self._known):
            logger.info("cluster %s: node %s is there", self.name, name)
            self._events.publish("cluster", {"node": name, "state": "there", "text": ""})
        for name in sorted(self._known - now):
            logger.info("cluster %s: node %s is gone", self.name, name)
            self._events.publish("cluster", {"node": name, "state": "gone", "text": ""})
        self._known = now


def _news_of(told: dict[str, Any]) -> ClusterNews:
    """A later version may have told more."""

    def known(kind: type, view: dict[str, Any]) -> dict[str, Any]:
        return {field.name: view[field.name] for field in dataclasses.fields(kind) if field.name in view}

    members = tuple(Member(**known(Member, one)) for one in told["members"])
    return ClusterNews(**{**known(ClusterNews, told), "members": members})


def _nothing() -> None:
    """Nobody waits for its leaving."""
