"""One failover app, as the supervisor sees it: carries out what its election says, and notices that a primary is lost.

Main thread only. Owns the app's `primary` and `epoch`, the connection attempt, the script and the timer of the step that
is under way: at most one of each. Workers are told by Primary messages. The phases are drawn in sansio.election.

    PAUSING      every worker is told that there is no primary, and with `on_demotion` "close" resets every target of the
                 app before it answers (worker_pause); in a cluster, every worker of every node (clustered)
    SERVING      a worker's failed connect is confirmed by one of ours: then, or when the health checks, an
                 administrator or a new configuration say so, another election begins. If it is not confirmed, the
                 workers are told the same primary again, and try again

News waits while the app's targets are those of another configuration in part (`hear`); what it is an answer to may have
been given up by then.

In a cluster (`Decider`) only the node that has the lead has one of these; what it finds is primary when that is written.

Always true: no check or trigger of the app runs beside another one; nobody is asked before all workers have paused.
"""

import dataclasses
import itertools
import logging
import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy.config.secrets import secrets_in
from tcp_proxy.control.context import Context
from tcp_proxy.control.failover.connect_check import ConnectCheck, ask
from tcp_proxy.control.failover.decider import Decider
from tcp_proxy.control.failover.failback import Failback
from tcp_proxy.control.failover.ports import Ports
from tcp_proxy.control.failover.triggers import trigger_files
from tcp_proxy.control.failover.worker_pause import WorkerPause
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.scripts import Script, ScriptResult, Scripts, environment
from tcp_proxy.control.targets.known import Elected, KnownApp, KnownTarget
from tcp_proxy.runtime.loop import Timer
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.election import Action, Check, Connect, Election, Phase, Serve, Trigger, Wait
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.messages import Primary

logger = logging.getLogger(__name__)

REASSURE_AFTER = 0.1  # seconds until clients whose connect failed are sent to the same primary again


class Failover:
    def __init__(
        self, context: Context, scripts: Scripts, app: KnownApp, draw: Callable[[], float] = random.random,
        decider: Decider | None = None,
    ) -> None:  # fmt: skip
        self.app = app
        self._decider = decider
        self._unpublished: Serve | None = None  # found, and the other nodes do not know it
        self._context, self._loop = context, context.loop
        self._scripts, self._draw = scripts, draw
        self._election = Election()
        self._election.epoch = app.epoch  # of an earlier time with failover: epochs are never used twice
        self._before: Failover | None = None  # of such a time, too: a script of its own has not ended yet
        self._after: Failover | None = None  # who waits for that
        self._pause = WorkerPause(context, app, self._go_on)
        self._ports = Ports(context, app)
        self._connect_check: ConnectCheck | None = None
        self._confirmation: ConnectCheck | None = None
        self._script: Script | None = None
        self._timer: Timer | None = None
        self._failback_timer: Timer | None = None
        self._old = ""  # the last primary's address
        self._asked_at: Address | None = None  # where the candidate at hand is
        self._askable: dict[str, object] = {}  # the candidates, with what an answer of theirs depends on: where, and how
        self._began = self._changed = context.loop.now
        self._faults: dict[str, str] = {}  # of this round: target -> why not
        self._failback, self._failback_to = Failback(), ""  # the latter: for whose sake this one is

    def __repr__(self) -> str:
        return f"<Failover {self.name} {self._election!r}>"

    @property
    def name(self) -> str:
        return self.app.config.name

    @property
    def is_serving(self) -> bool:
        return self._election.phase is Phase.SERVING and self._unpublished is None

    @property
    def is_busy(self) -> bool:
        """Whether a script runs, or has not ended yet."""
        return self._script is not None or (self._before is not None and self._before.is_busy)

    @property
    def is_settled(self) -> bool:
        """Nothing is under way: a program that takes over can go on with what there is."""
        is_at_rest = self._election.phase in (Phase.SERVING, Phase.WAITING, Phase.IDLE)
        return is_at_rest and self._confirmation is None and not self.is_busy

    def given(self) -> dict[str, Any]:
        """For such a program; nothing that JSON cannot say."""
        return {
            "primary": self.app.primary_name if self.is_serving else "", "epoch": self._election.epoch,
            "since": self.app.since, "changed": self._changed, "elections": dataclasses.asdict(self.app.elections),
            "old": self._old, "failback": self._failback.given(),
        }  # fmt: skip

    def go_on(self, given: dict[str, Any]) -> None:
        """Instead of `begin`: with the primary of the program that was taken over, or of the node that decided so far."""
        self._old, self._changed = given.get("old", ""), given.get("changed", self._changed)
        self._failback.take(given.get("failback", {}))
        self.resume(given["epoch"], self.app.targets[given["primary"]])

    def resume(self, epoch: int, primary: KnownTarget) -> None:
        """The workers know it already."""
        self.app.primary = primary
        self._old = self._old or str(primary.config.address)
        self._election.resume(epoch, primary.config.name)
        self.look()

    def view(self, leader: str = "") -> Elected:
        election, past = self._election, self.app.elections
        return Elected(
            self.name, self.app.primary_name, election.phase.value, election.epoch, past.found, past.fruitless_rounds,
            past.last_seconds, past.total_seconds, self._loop.now - self._changed, leader,
        )  # fmt: skip

    # -- what happens

    def hear(self, what: Callable[..., Any], *about: Any) -> None:
        """What: a method of ours. All that comes from elsewhere, or from a timer, comes this way."""
        self.app.when_whole(lambda: what(self, *about))

    def begin(self, why: str, first: str = "", *, is_paused: bool = False) -> None:
        """Look for a primary. `is_paused`: no worker has ever been told of one."""
        level = logging.WARNING if self.is_serving else logging.INFO
        logger.log(level, "app %s: a primary is looked for: %s", self.name, why)
        if self.is_serving or self._election.phase is Phase.IDLE:
            self._began = self._changed = self._loop.now
        self._let_go()
        self._failback_to, self._unpublished = "", None
        self.app.primary = None
        if self._decider is not None:
            self._election.epoch = self._decider.epoch
        epoch = self.app.epoch = self._election.elect(first).epoch
        self._publish("electing", why)
        if self._decider is not None:
            self._decider.begin()
        elif is_paused:
            self._loop.call_soon(self.hear, Failover._go_on, epoch)
        else:
            self._pause.begin(epoch)

    def paused(self, worker: Worker, epoch: int) -> None:
        self._pause.paused(worker, epoch)

    def left(self, worker: Worker) -> None:
        self._pause.left(worker)

    def connect_failed(self, target: str) -> None:
        """In a worker. Is it lost?"""
        primary = self.app.primary
        if self.is_serving and primary is not None and primary.config.name == target and self._confirmation is None:
            done = partial(self.hear, Failover._confirmed, self._election.epoch)
            self._confirmation = ask(self._loop, self.app.config, primary, done)

    def look(self) -> None:
        """Something about the targets, or the configuration, is different."""
        election, config = self._election, self.app.config.failover
        election.has_check, election.max_backoff = config.check is not None, config.max_backoff
        election.candidates, before = self._candidates(), self._askable
        self._askable = {name: (self.app.targets[name].config.address, config) for name in election.candidates}
        better = [name for name, how in self._askable.items() if before.get(name) != how]
        self._failback.note(set(election.candidates), self._loop.now)
        primary = self.app.primary
        if self.is_serving:
            why = self._why_lost(primary)
            if why or primary is None:
                self.begin(f"{election.candidate}: {why}")
            else:
                election.candidate = primary.config.name  # it may have another name, and is the same one
                self._consider_failback()
        elif election.candidate and not self._is_allowed(self.app.targets.get(election.candidate)):
            self.begin(f"{election.candidate} may not be primary any more")
        elif better and (wait := election.wake(better)):
            self._sleep(wait)
        self.open_ports()

    def promote(self, target: str) -> str:
        """Have it tried first, now. What stands in the way; "" if nothing does."""
        known = self.app.targets.get(target)
        if known is None:
            return f"app {self.name} has no target {target}"
        if not self._is_candidate(known):
            return f"target {target} is {known.state}: {known.why}"
        if self.is_serving and known is self.app.primary:
            return f"target {target} is primary already"
        self.begin(f"{target} is to be promoted", target)
        return ""

    def follow(self, before: "Failover") -> None:
        """It was a failover app before. Its scripts, which are being ended, are waited for."""
        self._before, before._after = before, self

    def stop(self) -> None:
        """It is no failover app any more, or the program ends."""
        self.abandon()
        self.app.primary = None
        self.open_ports()

    def abandon(self) -> None:
        """Another node decides from now on."""
        self._let_go()
        if self._failback_timer is not None:
            self._failback_timer.cancel()
        self._ports.stop()
        self._pause.stop()
        self._election.stop()
        self._unpublished = None

    # -- one election

    def _let_go(self) -> None:
        """Of the step that is under way. A script that runs is ended; its end is waited for by `_go_on`."""
        for connect_check in (self._connect_check, self._confirmation):
            if connect_check is not None:
                connect_check.cancel()
        self._connect_check = self._confirmation = None
        if self._timer is not None:
            self._timer.cancel()
        if self._script is not None:
            self._script.end()

    def _go_on(self, epoch: int) -> None:
        """All workers have paused, those of other nodes too, and no script runs?"""
        if epoch != self._election.epoch or self._pause.is_pausing or self.is_busy:
            return
        if self._decider is not None and not self._decider.may_ask(epoch):
            return
        self.open_ports()
        self._refresh()
        self._do(self._election.paused(epoch, self._draw()))

    def ask(self, epoch: int) -> None:
        """On no node any worker sends anybody anywhere."""
        self._go_on(epoch)

    def _refresh(self) -> None:
        election = self._election
        election.candidates = self._candidates()
        for name, target in self.app.targets.items():
            if target.health is State.DOWN:  # it may have come back since it was looked at last
                self._context.states.probe_now(self.name, name)

    def _do(self, action: Action | None) -> None:
        if self._decider is not None and not self._decider.may_act():
            return  # it is over, and will be told so
        match action:
            case Connect():
                logger.info("app %s: trying target %s", self.name, action.name)
                target = self.app.targets[action.name]
                self._asked_at = target.config.address
                done = partial(self.hear, Failover._connected, action)
                self._connect_check = ask(self._loop, self.app.config, target, done)
            case Check():
                check = self.app.config.failover.check
                assert check is not None
                self._run(check, action.name, lambda result: self._checked(action, check, result))
            case Trigger():
                logger.info("app %s: target %s can be primary", self.name, action.name)
                self._trigger(action, trigger_files(self.name, self.app.config.failover.triggers))
            case Wait():
                self._wait(action)
            case Serve():
                if self._decider is None:
                    self._serve(action)
                else:
                    self._unpublished = action
                    self._decider.publish(action)

    def _connected(self, action: Connect, success: bool | None, text: str) -> None:
        if not self._election.is_at(action.step):
            return
        self._connect_check = None
        if not success:
            self._fault(action.name, text)
        self._refresh()
        self._do(self._election.answered(action.step, success, self._draw()))

    def _checked(self, action: Check, check: str, result: ScriptResult) -> None:
        success = None if result.is_local else result.success
        if not success:
            self._fault(action.name, f"check {check}: {result.text}")
        self._refresh()
        self._do(self._election.answered(action.step, success, self._draw()))

    def _fault(self, name: str, text: str) -> None:
        logger.warning("app %s: target %s cannot be primary: %s", self.name, name, text)
        self._faults[name] = text
        self._failback.failed(name, self._loop.now)

    def serve(self) -> None:
        """What was found is written."""
        action, self._unpublished = self._unpublished, None
        if action is not None and action.name in self.app.targets:
            self._serve(action)
        elif action is not None:
            self.begin(f"{action.name} is no target any more")

    def _wait(self, action: Wait) -> None:
        self.app.elections.fruitless_rounds += 1
        for name, target in self.app.targets.items():
            if not self._is_candidate(target):
                self._faults.setdefault(name, target.why)
        why = "; ".join(f"{name}: {text}" for name, text in self._faults.items())
        self._faults = {}
        logger.warning("app %s: no target can be primary (%s); tried again in %.1f s", self.name, why, action.seconds)
        if self._decider is None or not self._decider.is_fruitless():
            self._sleep(action)

    def _sleep(self, action: Wait) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(action.seconds, self.hear, Failover._waited, action)

    def _waited(self, action: Wait) -> None:
        if not self._election.is_at(action.step):
            return
        self._timer = None
        self._refresh()
        self._do(self._election.waited(action.step, self._draw()))

    def _serve(self, action: Serve) -> None:
        target = self.app.primary = self.app.targets[action.name]
        now = self.app.since = self._loop.now
        past, self._changed = self.app.elections, now
        past.found += 1
        past.last_seconds = now - self._began
        past.total_seconds += past.last_seconds
        self._faults = {}
        if self._failback_to and self._failback_to != action.name:
            self._failback.lost(self._failback_to)
        self._old = str(target.config.address)
        self.open_ports()
        self._context.worker_pool.send(Primary(self.name, action.epoch, action.name, now))
        text = "app %s: target %s is primary (epoch %d, after %.3f s)"
        logger.info(text, self.name, action.name, action.epoch, past.last_seconds)
        self._publish("serving", "")
        self.look()

    # -- scripts

    def _run(self, path: str, target: str, done: Callable[[ScriptResult], Any]) -> None:
        host, config = str(self.app.targets[target].config.address), self.app.config.failover
        ours = {"APP": self.name, "OLD_PRIMARY": self._old, "EPOCH": str(self._election.epoch)}
        env = environment(config.environment, {f"TCP_PROXY_{key}": value for key, value in ours.items()})
        secrets = secrets_in(config.environment, os.environ)
        ended: Callable[[ScriptResult], Any] = lambda result: self.hear(Failover._script_ended, result, done)  # noqa: E731
        name, path = f"app {self.name}: {path}", os.path.join(".", path)  # never one of that name in PATH
        self._script = self._scripts.run(path, [host], env, config.script_timeout, ended, name, secrets=secrets)

    def _script_ended(self, result: ScriptResult, done: Callable[[ScriptResult], Any]) -> None:
        self._script = None
        if self._election.phase in (Phase.CHECKING, Phase.TRIGGERING):
            done(result)
        else:  # its election is over, and the next one has waited for it
            self._freed()

    def _freed(self) -> None:
        if self._election.phase is not Phase.IDLE:
            self._go_on(self._election.epoch)
        elif self._after is not None:
            self._after._freed()

    def _trigger(self, action: Trigger, files: list[str]) -> None:
        """Run the first of them, and then the others."""
        if not files:
            self._do(self._election.triggered(action.step))
            return
        path, *rest = files

        def done(result: ScriptResult) -> None:
            if not result.success:
                logger.warning("app %s: trigger %s: %s", self.name, path, result.text)
            self._trigger(action, rest)

        self._run(path, action.name, done)

    # -- the primary

    def _confirmed(self, epoch: int, success: bool | None, text: str) -> None:
        if epoch != self._election.epoch:
            return
        self._confirmation = None
        why = f"{self._election.candidate} is lost: {text}"
        if success is False and (self._decider is None or not self._decider.lost(why)):
            self.begin(why)
        elif self.is_serving:
            self._loop.call_later(REASSURE_AFTER, self.hear, Failover._reassure, self._election.epoch)

    def _reassure(self, epoch: int) -> None:
        if self.is_serving and epoch == self._election.epoch:
            self._context.worker_pool.send(Primary(self.name, epoch, self.app.primary_name, self.app.since))

    def _why_lost(self, primary: KnownTarget | None) -> str:
        if primary is None or not self.app.primary_name:
            return "it is no target any more, or somewhere else"
        return "" if self._is_candidate(primary) else f"it is {primary.state}: {primary.why}"

    def _consider_failback(self) -> None:
        """The first of those before the primary that has been up for long enough."""
        if self._failback_timer is not None:
            self._failback_timer.cancel()
            self._failback_timer = None
        config, now = self.app.config.failover, self._loop.now
        if not config.failback:
            return
        before = itertools.takewhile(lambda target: target is not self.app.primary, self.app.targets.values())
        names = (target.config.name for target in before if self._is_candidate(target))
        due = {name: self._failback.due(name, config.failback_after, now) for name in names}
        name = next((name for name, when in due.items() if when <= self._loop.now), "")
        if name:
            self.begin(f"{name} has come back")
            self._failback_to = name
        elif due:
            self._failback_timer = self._loop.call_later(min(due.values()) - self._loop.now, self.hear, Failover.look)

    # -- small parts

    def _candidates(self) -> tuple[str, ...]:
        return tuple(name for name, target in self.app.targets.items() if target.state is State.UP)

    def _is_candidate(self, target: KnownTarget) -> bool:
        return target.state is State.UP

    def _is_allowed(self, target: KnownTarget | None) -> bool:
        config = target.config if target is not None else None
        return config is not None and not config.disabled and not config.drain and config.address == self._asked_at

    def open_ports(self) -> None:
        self._ports.look(is_serving=self.is_serving, is_pausing=self._pause.is_pausing)

    def _publish(self, state: str, why: str) -> None:
        data = {
            "app": self.name, "state": state, "epoch": self._election.epoch, "primary": self.app.primary_name, "why": why,
            "seconds": round(self.app.elections.last_seconds, 3) if state == "serving" else 0.0,
        }  # fmt: skip
        self._context.events.publish("election", data)
