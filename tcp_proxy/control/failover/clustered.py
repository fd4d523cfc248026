"""A failover app of a node of a cluster: its election is held once, by the node that has the lead; all others follow.

Main thread only. Owns the app's `primary` and `epoch`, and, while this node has the lead, the Failover that finds out who
can be primary. Who decides, and until when, is sansio.lead, whose actions are carried out here; what nodes say to each other
is in etcd (shared_elections).

    FOLLOWING   workers are told what is written; that they have paused is answered
    LEADING     the Failover sees that the primary is lost, runs check and triggers; what it finds is written, and served
                then

Always true: workers are told of a primary only when it is written, and have paused in its epoch before
(test_cluster_failover).
"""

import dataclasses
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from tcp_proxy.control.context import Context
from tcp_proxy.control.failover.connect_check import ConnectCheck, ask
from tcp_proxy.control.failover.ports import Ports
from tcp_proxy.control.failover.primary import REASSURE_AFTER, Failover
from tcp_proxy.control.failover.worker_pause import WorkerPause
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.scripts import Scripts
from tcp_proxy.control.targets.known import Elected, KnownApp, KnownTarget
from tcp_proxy.runtime.loop import Timer, this_moment
from tcp_proxy.sansio import election, lead
from tcp_proxy.sansio.lead import LeadMachine
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.messages import Primary

logger = logging.getLogger(__name__)

AGAIN = 1.0  # seconds until a primary that cannot be connected to from here is tried again
CLAIM_AGAIN = 0.2  # seconds after a claim that another node has won
ORDER_KEPT = 30.0  # seconds that an order may wait for a node that decides: later it would surprise


class Said(Protocol):
    """What this node says to the others of one app (shared_elections)."""

    node: str

    def claim(self, app: str, done: Callable[[str], Any]) -> None: ...
    def release(self, app: str) -> None: ...
    def write(self, app: str, epoch: int, target: KnownTarget | None) -> None: ...
    def answer(self, app: str, epoch: int) -> None: ...
    def report_lost(self, app: str, epoch: int) -> None: ...
    def is_reported_lost(self, app: str, epoch: int) -> bool:
        """By another node."""

    def order(self, app: str, target: KnownTarget) -> None:
        """The node that has the lead is to make it primary."""

    def look_at_order(self, app: str) -> None:
        """One that was written while nobody could obey it."""

    def renew(self, app: str, epoch: int, until: float) -> None: ...


class ClusteredFailover:
    """What shared_elections hears goes to `machine`, by `hear_of`."""

    def __init__(
        self, context: Context, scripts: Scripts, app: KnownApp, said: Said, lease: float, first: str = "",
        clock: Callable[[], float] = this_moment,
    ) -> None:  # fmt: skip
        """`first`: who was primary in an earlier life."""
        self.app = app
        self.machine = LeadMachine(said.node, lease, app.epoch)
        self._context, self._loop, self._scripts, self._said, self._clock = context, context.loop, scripts, said, clock
        self._first = first
        self._given: dict[str, Any] = {}  # by the program before us, which may have had the lead
        self._failover: Failover | None = None
        self._ended: Failover | None = None  # of an earlier lead: a script of its own has not ended yet
        self._pause = WorkerPause(context, app, self._have_paused)
        self._ports = Ports(context, app)
        self._actions: deque[lead.Action] = deque()
        self._is_busy = False
        self._place = ""  # of the primary that is written
        self._why = ""
        self._confirmation: ConnectCheck | None = None
        # Who is to be primary, said when, and by whom it is being done; not done so far.
        self._ordered: tuple[KnownTarget, float, Failover] | None = None
        self._timer: Timer | None = None
        self._changed = self._loop.now

    def __repr__(self) -> str:
        return f"<ClusteredFailover {self.name} {self.machine!r}>"

    @property
    def name(self) -> str:
        return self.app.config.name

    @property
    def is_serving(self) -> bool:
        return self.app.primary is not None

    @property
    def is_busy(self) -> bool:
        return any(one is not None and one.is_busy for one in (self._failover, self._ended))

    @property
    def is_settled(self) -> bool:
        is_at_rest = self.machine.role in (lead.Role.FOLLOWING, lead.Role.LEADING)
        if self._failover is not None:
            is_at_rest |= self.machine.role is lead.Role.ELECTING and self.view().phase == election.Phase.WAITING.value
            is_at_rest &= self._failover.is_settled
        return is_at_rest and self._confirmation is None and not self._pause.is_pausing and not self.is_busy

    def given(self) -> dict[str, Any]:
        """For a program that takes over and may not be this node (`given_of_node`): it follows."""
        return {}

    def given_of_node(self) -> dict[str, Any]:
        """For one that goes on as this node: of a primary that workers know, if nothing is under way; JSON can say it."""
        app, told, held = self.app, self.machine.told, self._failover.given() if self._failover is not None else {}
        if app.primary is None or told != lead.Written(app.epoch, told.primary or "-") or not self.is_settled:
            return {}
        more = {"written": told.primary, "changed": self._changed, "elections": dataclasses.asdict(app.elections)}
        return {**held, "primary": app.primary_name, "epoch": app.epoch, "since": app.since, **more}

    def go_on(self, given: dict[str, Any]) -> None:
        """All workers, ours and those of the program before us, know who is primary."""
        self._given, self._changed = given, given["changed"]
        self.machine.resume(lead.Written(given["epoch"], given["written"]))

    def view(self) -> Elected:
        if self._failover is not None:
            return self._failover.view(self.machine.holder)
        past, phase = self.app.elections, "serving" if self.is_serving else lead.Role.FOLLOWING.value
        return Elected(
            self.name, self.app.primary_name, phase, self.app.epoch, past.found, past.fruitless_rounds,
            past.last_seconds, past.total_seconds, self._loop.now - self._changed, self.machine.holder,
        )  # fmt: skip

    # -- what happens

    def hear(self, what: Callable[..., Any], *about: Any) -> None:
        self.app.when_whole(lambda: what(self, *about))

    def hear_of(self, tell: Callable[[LeadMachine, float], list[lead.Action]]) -> None:
        """Something that nodes have said. At once, whatever the targets are: what follows of it may wait for them."""
        self._do(tell(self.machine, self._clock()))

    def wrote(self, epoch: int, primary: str, place: str) -> None:
        self._place = place
        self.hear_of(lambda machine, now: machine.wrote(lead.Written(epoch, primary), now))

    def paused(self, worker: Worker, epoch: int) -> None:
        self._pause.paused(worker, epoch)

    def left(self, worker: Worker) -> None:
        self._pause.left(worker)

    def look(self) -> None:
        """Something about the targets, or the configuration, is different."""
        told = self.machine.told
        if self._failover is not None:
            self._failover.look()
        elif told.primary and not self.app.primary_name:
            self._follow(told.epoch, told.primary)
        self.open_ports()

    def connect_failed(self, target: str) -> None:
        if self._failover is not None:
            self._failover.connect_failed(target)
        elif self.app.primary is not None and self.app.primary.config.name == target and self._confirmation is None:
            done = partial(self.hear, ClusteredFailover._confirmed, self.app.epoch)
            self._confirmation = ask(self._loop, self.app.config, self.app.primary, done)

    def look_at_reports(self) -> None:
        """Another node may not reach the primary: does this one, which decides?"""
        if self._failover is not None and self._said.is_reported_lost(self.name, self.app.epoch):
            self._failover.connect_failed(self.app.primary_name)

    def promote(self, target: str) -> str:
        known = self.app.targets.get(target)
        if self._failover is not None:
            refusal = self._failover.promote(target)
            if not refusal and known is not None:
                self._ordered = known, self._clock(), self._failover
            return refusal
        if known is None:
            return f"app {self.name} has no target {target}"
        if known.state is not State.UP:
            return f"target {target} is {known.state}: {known.why}"
        if known is self.app.primary:
            return f"target {target} is primary already"
        if self._clock() >= self.machine.until:  # an order that is written when it has joined again would surprise
            return f"this node is cut off from its cluster, which decides on the primary of app {self.name}"
        if not self.machine.holder:
            return f"no node of the cluster decides on the primary of app {self.name} at the moment"
        self._said.order(self.name, known)
        return ""

    def follow(self, before: Any) -> None:
        """It was a failover app before, whose scripts are being ended."""
        self._ended = before if isinstance(before, Failover) else before._failover or before._ended

    def stop(self) -> None:
        """It is no failover app any more, or the program ends."""
        if self.machine.is_mine:
            self._said.release(self.name)
        if self._failover is not None:
            self._failover.abandon()
        self._end_confirmation()
        if self._timer is not None:
            self._timer.cancel()
        self._pause.stop()
        self._actions.clear()
        self.app.primary = None
        self.open_ports()
        self._ports.stop()

    def open_ports(self) -> None:
        self._ports.look(is_serving=self.is_serving, is_pausing=self._pause.is_pausing)

    # -- as the Decider of an election that is held here

    @property
    def epoch(self) -> int:
        return self.machine.epoch

    def begin(self) -> None:
        if self.machine.is_leading:
            self._do(self.machine.elect())

    def may_ask(self, epoch: int) -> bool:
        return self.machine.role is lead.Role.ELECTING and epoch == self.machine.epoch and self.may_act()

    def may_act(self) -> bool:
        return self.machine.may_act(self._clock())

    def publish(self, action: election.Serve) -> None:
        self._do(self.machine.found(action.name))

    def lost(self, why: str) -> bool:
        """Where no other node has found the same, one that is cut off from the primary would take it from all."""
        if self._said.is_reported_lost(self.name, self.app.epoch):
            return False
        self._said.report_lost(self.name, self.app.epoch)
        epoch, has_resigned = self.app.epoch, self._resign(f"{why}; another node is to see whether it is lost for all")
        if has_resigned:
            self._loop.call_later(AGAIN, self.hear, ClusteredFailover._reassure, epoch)
        return has_resigned

    def is_fruitless(self) -> bool:
        return self.app.elections.fruitless_rounds % 2 == 0 and self._resign("another node is to try")

    def _resign(self, why: str) -> bool:
        actions = self.machine.resign(self._clock())
        if actions:
            logger.warning("app %s: %s", self.name, why)
            self._do(actions)
        return bool(actions)

    # -- actions

    def _do(self, actions: list[lead.Action]) -> None:
        """In order: what an action leads to comes behind those that were there before."""
        self._actions += actions
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._actions:
                self._do_one(self._actions.popleft())
        finally:
            self._is_busy = False
        self._give_order_on()
        self._set_timer()

    def _do_one(self, action: lead.Action) -> None:
        match action:
            case lead.Pause():
                self.hear(ClusteredFailover._begin_pause, action.epoch)
            case lead.Serve():
                self.hear(ClusteredFailover._serve, action)
            case lead.Renew():
                if self.app.is_leased:
                    self._said.renew(self.name, action.epoch, action.until)
            case lead.Lead():
                self.hear(ClusteredFailover._take_lead)
            case lead.Ask():
                if self._failover is not None:
                    self._failover.hear(Failover.ask, action.epoch)
            case lead.Abandon():
                self._abandon()
            case _:
                self._say(action)

    def _say(self, action: lead.Action) -> None:
        """To the other nodes."""
        match action:
            case lead.Claim():
                self._said.claim(self.name, self._claimed)
            case lead.Release():
                self._said.release(self.name)
            case lead.Answer():
                self._said.answer(self.name, action.epoch)
            case lead.Announce():
                self._said.write(self.name, action.epoch, None)
            case lead.Publish():
                self._said.write(self.name, action.epoch, self.app.targets.get(action.primary))

    def _give_order_on(self) -> None:
        """The lead was lost before an order was carried out: to whoever has it now, which may be this node again."""
        if self._ordered is None or self._failover is self._ordered[2]:
            return
        (target, since, _), now = self._ordered, self._clock()
        is_late, is_there = now - since > ORDER_KEPT, self.app.targets.get(target.config.name) is target
        if is_late or not is_there or target is self.app.primary:
            self._ordered = None
        elif self._failover is not None:
            self._ordered = target, since, self._failover
            if self._failover.promote(target.config.name):
                self._ordered = None
        elif now < self.machine.until and self.machine.holder:
            self._ordered = None
            self._said.order(self.name, target)
        if is_late:
            text = "app %s: the order to make %s primary is dropped: no node could decide for %d s"
            logger.warning(text, self.name, target.config.name, now - since)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        when = self.machine.next_look()
        if when < float("inf"):
            wait = max(0.0, when - self._clock())
            self._timer = self._loop.call_later(wait, self.hear_of, LeadMachine.look)

    def _claimed(self, fault: str) -> None:
        def again() -> None:
            self.machine.claimed()
            self.hear_of(LeadMachine.look)

        if fault:
            self._loop.call_later(CLAIM_AGAIN, again)
        else:
            again()

    def _begin_pause(self, epoch: int) -> None:
        if epoch != self.machine.told.epoch:
            return  # there is a newer one
        self._end_confirmation()
        if self.app.primary is not None:
            self._changed = self._loop.now
        self.app.primary, self.app.epoch = None, epoch
        if self._failover is None:
            self._tell("electing", f"node {self.machine.holder} looks for one" if self.machine.holder else "")
        self._pause.begin(epoch)
        self.open_ports()

    def _have_paused(self, epoch: int) -> None:
        self.open_ports()
        self.hear_of(lambda machine, now: machine.paused(epoch, now))

    def _serve(self, action: lead.Serve) -> None:
        if self.machine.told != lead.Written(action.epoch, action.primary):
            return
        if self._failover is not None and not self._failover.is_serving and self.machine.is_leading:
            self._failover.serve()
            self._ordered, self._changed = None, self._loop.now
            self._said.renew(self.name, action.epoch, self.machine.until)
            return
        self._follow(action.epoch, action.primary)
        if self.machine.is_leading and self._failover is None:
            self._take_lead()

    def _follow(self, epoch: int, primary: str) -> None:
        """What another node has found."""
        app, now = self.app, self._loop.now
        target = app.targets.get(primary) or next(
            (one for one in app.targets.values() if str(one.config.address) == self._place), None
        )
        if target is None:
            logger.error("app %s: %s is primary, which is no target here: nobody is served", self.name, primary)
            return
        app.primary, app.epoch, app.since, self._changed = target, epoch, now, now
        self._context.worker_pool.send(Primary(self.name, epoch, app.primary_name, now))
        if app.is_leased:
            self._said.renew(self.name, epoch, self.machine.until)
        holder = self.machine.holder
        logger.info("app %s: target %s is primary (epoch %d, found by node %s)", self.name, primary, epoch, holder)
        self._tell("serving", f"found by node {holder}")
        self.open_ports()

    def _take_lead(self) -> None:
        machine = self.machine
        if not machine.is_leading:
            return
        primary, is_new = machine.written.primary, self._failover is None
        if primary and (machine.told != machine.written or not is_new):
            return  # it is, when the workers know
        if primary and self.app.primary is None and self._resign(f"{primary} is primary, which is no target here"):
            return
        if self._failover is None:
            logger.info("app %s: this node decides who is primary", self.name)
            self._failover = Failover(self._context, self._scripts, self.app, decider=self)
            if self._ended is not None and self._ended.is_busy:
                self._failover.follow(self._ended)
            self._ended = None
        if primary and self.app.primary is not None:
            epoch = machine.written.epoch
            given = self._given if self._given.get("epoch") == epoch else {}
            self._failover.go_on({**given, "epoch": epoch, "primary": self.app.primary_name})
            self.look_at_reports()
        else:
            self._failover.look()
            self._failover.begin(f"{primary} is no target here" if primary else "there is none", self._first)
        self._said.look_at_order(self.name)

    def _abandon(self) -> None:
        logger.warning("app %s: this node does not decide any more who is primary", self.name)
        if self._failover is not None:
            self._failover.abandon()
            self._ended, self._failover = self._failover, None

    # -- as one that follows

    def _confirmed(self, epoch: int, success: bool | None, _text: str) -> None:
        self._confirmation = None
        if epoch != self.app.epoch or self.app.primary is None:
            return
        if success is False:
            self._said.report_lost(self.name, epoch)
        self._loop.call_later(AGAIN if success is False else REASSURE_AFTER, self.hear, ClusteredFailover._reassure, epoch)

    def _reassure(self, epoch: int) -> None:
        if self.app.primary is not None and epoch == self.app.epoch:
            self._context.worker_pool.send(Primary(self.name, epoch, self.app.primary_name, self.app.since))

    def _end_confirmation(self) -> None:
        if self._confirmation is not None:
            self._confirmation.cancel()
            self._confirmation = None

    def _tell(self, state: str, why: str) -> None:
        data = {
            "app": self.name, "state": state, "epoch": self.app.epoch, "primary": self.app.primary_name, "why": why,
            "seconds": 0.0,
        }  # fmt: skip
        self._context.events.publish("election", data)
