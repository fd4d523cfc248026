"""One failover app, as the supervisor sees it: carries out what its election says, and notices that a primary is lost.

Main thread only. Owns the app's `primary` and `epoch`, the connection attempt, the script and the timer of the step that
is under way: at most one of each. Workers are told by Primary messages. The phases are drawn in sansio.election.

    PAUSING      every worker is told that there is no primary; one that has not obeyed in PAUSE_WITHIN is killed
    SERVING      a worker's failed connect is confirmed by one of ours: then, or when the health checks, an
                 administrator or a new configuration say so, another election begins. If it is not confirmed, the
                 workers are told the same primary again, and try again

Always true: no check or trigger of the app runs beside another one; nobody is asked before all workers have paused.
"""

import logging
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tcp_proxy.control.estate import Estate
from tcp_proxy.control.knock import Knock
from tcp_proxy.control.scripts import Script, ScriptResult, Scripts
from tcp_proxy.control.targets import KnownApp, KnownTarget
from tcp_proxy.control.triggers import find_triggers
from tcp_proxy.control.workers import Worker
from tcp_proxy.loop import Timer
from tcp_proxy.messages import CloseSessions, Primary
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.election import Action, Check, Connect, Election, Phase, Serve, Trigger, Wait
from tcp_proxy.sansio.reasons import Reason
from tcp_proxy.sansio.verdict import State

logger = logging.getLogger(__name__)

PAUSE_WITHIN = 2.0  # seconds
REASSURE_AFTER = 0.1  # seconds until clients whose connect failed are sent to the same primary again
LISTEN_AGAIN = 1.0  # seconds until a port that could not be opened is tried again
FAILBACK_LEAST = 1.0  # seconds between two attempts


@dataclass(frozen=True, slots=True)
class Elected:
    """What is shown of an app's elections. Seconds are of elections that are over; nothing that JSON cannot say."""

    app: str
    primary: str
    phase: str
    epoch: int
    elections: int  # that found a primary
    fruitless_rounds: int
    last_seconds: float
    total_seconds: float
    seconds: float  # since the primary was found, or lost


class Failover:
    def __init__(
        self, estate: Estate, scripts: Scripts, app: KnownApp, draw: Callable[[], float] = random.random
    ) -> None:
        self.app = app
        self._estate, self._loop = estate, estate.loop
        self._scripts = scripts
        self._draw = draw
        self._election = Election()
        self._election.epoch = app.epoch  # of an earlier time with failover: epochs are never used twice
        self._before: Failover | None = None  # of such a time, too: a script of its own has not ended yet
        self._after: Failover | None = None  # who waits for that
        self._pausing: set[Worker] = set()
        self._knock: Knock | None = None
        self._confirmation: Knock | None = None
        self._script: Script | None = None
        self._timer: Timer | None = None
        self._failback_timer: Timer | None = None
        self._listen_timer: Timer | None = None
        self._served: KnownTarget | None = None  # the primary, even if it has left or moved, until another is looked for
        self._old = ""  # the last primary's address
        self._asked_at: Address | None = None  # where the candidate at hand is
        self._began = self._changed = estate.loop.now
        self._faults: dict[str, str] = {}  # of this round: target -> why not
        self._up_since: dict[str, float] = {}
        self._homecomings: dict[str, int] = {}  # target -> elections for its sake that it has not won
        self._home = ""  # for whose sake this one is

    def __repr__(self) -> str:
        return f"<Failover {self.name} {self._election!r}>"

    @property
    def name(self) -> str:
        return self.app.config.name

    @property
    def is_serving(self) -> bool:
        return self._election.phase is Phase.SERVING

    @property
    def is_busy(self) -> bool:
        """Whether a script runs, or has not ended yet."""
        return self._script is not None or (self._before is not None and self._before.is_busy)

    def view(self) -> Elected:
        election, past = self._election, self.app.elections
        return Elected(
            self.name, self.app.primary_name, election.phase.value, election.epoch, past.found, past.fruitless_rounds,
            past.last_seconds, past.total_seconds, self._loop.now - self._changed,
        )  # fmt: skip

    # -- what happens

    def begin(self, why: str, first: str = "", *, is_paused: bool = False) -> None:
        """Look for a primary. `is_paused`: no worker has ever been told of one."""
        level = logging.WARNING if self.is_serving else logging.INFO
        logger.log(level, "app %s: a primary is looked for: %s", self.name, why)
        if self.is_serving or self._election.phase is Phase.IDLE:
            self._began = self._changed = self._loop.now
        self._let_go()
        self._home = ""
        old, self._served, self.app.primary = self._served, None, None
        epoch = self.app.epoch = self._election.elect(first).epoch
        self._publish("electing", why)
        if is_paused:
            self._loop.call_soon(self._go_on, epoch)
            return
        self._pausing = set(self._estate.crew)
        self._estate.crew.send(Primary(self.name, epoch, "", self._loop.now))
        if old is not None and self.app.config.failover.on_demotion == "close" and self._is_ours(old):
            self._estate.crew.send(CloseSessions(self.name, old.config.name, Reason.DEMOTED.value))
        self._loop.call_later(PAUSE_WITHIN, self._end_the_silent, epoch)
        self._go_on(epoch)

    def paused(self, worker: Worker, epoch: int) -> None:
        if epoch == self._election.epoch:
            self.left(worker)

    def left(self, worker: Worker) -> None:
        """A worker that is gone sends nobody anywhere."""
        if worker in self._pausing:
            self._pausing.discard(worker)
            self._go_on(self._election.epoch)

    def connect_failed(self, target: str) -> None:
        """In a worker. Is it lost?"""
        primary = self.app.primary
        if self.is_serving and primary is not None and primary.config.name == target and self._confirmation is None:
            seconds = self.app.config.timeouts.connect
            self._confirmation = Knock(self._loop, primary.endpoints, seconds, self._confirmed)

    def look(self) -> None:
        """Something about the targets, or the configuration, is different."""
        election, config = self._election, self.app.config.failover
        election.has_check, election.max_backoff = config.check is not None, config.max_backoff
        before, election.candidates = election.candidates, tuple(target.config.name for target in self._candidates())
        self._note_who_is_up()
        primary = self.app.primary
        if self.is_serving:
            why = self._why_lost(primary)
            if primary is not None and not why:
                election.candidate = primary.config.name  # it may have another name, and is the same one
            if why:
                self.begin(f"{election.candidate}: {why}")
            else:
                self._consider_failback()
        elif election.phase is Phase.WAITING:
            wait = election.wake() if set(election.candidates) - set(before) else None
            if wait is not None:
                self._sleep(wait)
        elif election.candidate and not self._is_allowed(self.app.targets.get(election.candidate)):
            self.begin(f"{election.candidate} may not be primary any more")
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
        self._let_go()
        for timer in (self._failback_timer, self._listen_timer):
            if timer is not None:
                timer.cancel()
        self._pausing.clear()
        self._election.stop()
        self.app.primary = None
        self.open_ports()

    # -- one election

    def _let_go(self) -> None:
        """Of the step that is under way. A script that runs is ended; its end is waited for by `_go_on`."""
        for knock in (self._knock, self._confirmation):
            if knock is not None:
                knock.cancel()
        self._knock = self._confirmation = None
        if self._timer is not None:
            self._timer.cancel()
        if self._script is not None:
            self._script.end()

    def _go_on(self, epoch: int) -> None:
        """All workers have paused, and no script runs?"""
        if epoch != self._election.epoch or self._pausing or self.is_busy:
            return
        self.open_ports()
        self._refresh()
        self._do(self._election.paused(epoch, self._draw()))

    def _end_the_silent(self, epoch: int) -> None:
        if epoch != self._election.epoch:
            return
        for worker in tuple(self._pausing):
            if worker.is_ready:  # one that starts is waited for: its channel tells when it hangs
                text = "app %s: worker %d (pid %d) does not let go of the old primary: it is killed"
                logger.error(text, self.name, worker.index, worker.pid)
                worker.kill()
        if self._pausing:
            self._loop.call_later(PAUSE_WITHIN, self._end_the_silent, epoch)

    def _refresh(self) -> None:
        election = self._election
        election.candidates = tuple(target.config.name for target in self._candidates())
        for name, target in self.app.targets.items():
            if target.health is State.DOWN:  # it may have come back since it was looked at last
                self._estate.states.probe_now(self.name, name)

    def _do(self, action: Action | None) -> None:
        match action:
            case Connect():
                logger.info("app %s: trying target %s", self.name, action.name)
                target, seconds = self.app.targets[action.name], self.app.config.timeouts.connect
                self._asked_at = target.config.address
                self._knock = Knock(self._loop, target.endpoints, seconds, lambda *answer: self._connected(action, *answer))
            case Check():
                check = self.app.config.failover.check
                assert check is not None
                self._run(check, action.name, lambda result: self._checked(action, result))
            case Trigger():
                logger.info("app %s: target %s can be primary", self.name, action.name)
                self._trigger(action, self._trigger_files())
            case Wait():
                self._wait(action)
            case Serve():
                self._serve(action)

    def _connected(self, action: Connect, success: bool | None, text: str) -> None:
        self._knock = None
        if not success:
            self._fault(action.name, text)
        self._refresh()
        self._do(self._election.answered(action.step, success, self._draw()))

    def _checked(self, action: Check, result: ScriptResult) -> None:
        success = None if result.is_local else result.success
        if not success:
            self._fault(action.name, f"check {self.app.config.failover.check}: {result.text}")
        self._refresh()
        self._do(self._election.answered(action.step, success, self._draw()))

    def _fault(self, name: str, text: str) -> None:
        logger.warning("app %s: target %s cannot be primary: %s", self.name, name, text)
        self._faults[name] = text
        self._up_since[name] = self._loop.now

    def _wait(self, action: Wait) -> None:
        self.app.elections.fruitless_rounds += 1
        for name, target in self.app.targets.items():
            if not self._is_candidate(target):
                self._faults.setdefault(name, target.why)
        why = "; ".join(f"{name}: {text}" for name, text in self._faults.items())
        self._faults = {}
        logger.warning("app %s: no target can be primary (%s); tried again in %.1f s", self.name, why, action.seconds)
        self._sleep(action)

    def _sleep(self, action: Wait) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(action.seconds, self._waited, action)

    def _waited(self, action: Wait) -> None:
        self._timer = None
        self._refresh()
        self._do(self._election.waited(action.step, self._draw()))

    def _serve(self, action: Serve) -> None:
        target = self._served = self.app.primary = self.app.targets[action.name]
        now = self.app.since = self._loop.now
        past, self._changed = self.app.elections, now
        past.found += 1
        past.last_seconds = now - self._began
        past.total_seconds += past.last_seconds
        self._faults = {}
        if self._home and self._home != action.name:
            self._homecomings[self._home] = self._homecomings.get(self._home, 0) + 1
        self._old = str(target.config.address)
        self.open_ports()
        self._estate.crew.send(Primary(self.name, action.epoch, action.name, now))
        text = "app %s: target %s is primary (epoch %d, after %.3f s)"
        logger.info(text, self.name, action.name, action.epoch, past.last_seconds)
        self._publish("serving", "")
        self.look()

    # -- scripts

    def _run(self, path: str, target: str, done: Callable[[ScriptResult], Any]) -> None:
        host = str(self.app.targets[target].config.address)
        env = {"TCP_PROXY_APP": self.name, "TCP_PROXY_OLD_PRIMARY": self._old}
        seconds, name = self.app.config.failover.script_timeout, f"app {self.name}: {path}"
        ended: Callable[[ScriptResult], Any] = lambda result: self._script_ended(result, done)  # noqa: E731
        path = os.path.join(".", path)  # never one of that name in PATH
        self._script = self._scripts.run(path, [host], env, seconds, ended, name)

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

    def _trigger_files(self) -> list[str]:
        files, warnings = find_triggers(self.app.config.failover.triggers)
        for warning in warnings:
            logger.warning("app %s: %s", self.name, warning)
        return files

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

    def _confirmed(self, success: bool | None, text: str) -> None:
        self._confirmation = None
        if success is False:
            self.begin(f"{self._election.candidate} is lost: {text}")
        else:
            self._loop.call_later(REASSURE_AFTER, self._reassure, self._election.epoch)

    def _reassure(self, epoch: int) -> None:
        if self.is_serving and epoch == self._election.epoch:
            self._estate.crew.send(Primary(self.name, epoch, self.app.primary_name, self.app.since))

    def _why_lost(self, primary: KnownTarget | None) -> str:
        if primary is None or not self._is_ours(primary):
            return "it is no target any more, or somewhere else"
        return "" if self._is_candidate(primary) else f"it is {primary.state}: {primary.why}"

    def _consider_failback(self) -> None:
        """The first of those before the primary that has been up for long enough."""
        if self._failback_timer is not None:
            self._failback_timer.cancel()
            self._failback_timer = None
        if not self.app.config.failover.failback:
            return
        due = {target.config.name: self._home_at(target.config.name) for target in self._before_primary()}
        name = next((name for name, when in due.items() if when <= self._loop.now), "")
        if name:
            self.begin(f"{name} has come back")
            self._home = name
        elif due:
            self._failback_timer = self._loop.call_later(min(due.values()) - self._loop.now, self.look)

    def _before_primary(self) -> Iterable[KnownTarget]:
        for target in self.app.targets.values():
            if target is self.app.primary:
                return
            if self._is_candidate(target):
                yield target

    def _home_at(self, name: str) -> float:
        """When it is to be tried: later each time, if it is up and cannot be primary all the same."""
        lost, after = self._homecomings.get(name, 0), self.app.config.failover.failback_after
        wait = max(after, FAILBACK_LEAST) * 2.0 ** min(lost, 10) if lost else after
        return self._up_since.get(name, self._loop.now) + wait

    def _note_who_is_up(self) -> None:
        for name in self._up_since.keys() - self.app.targets.keys():
            self._up_since.pop(name)
            self._homecomings.pop(name, None)
        for name, target in self.app.targets.items():
            if target.state is State.UP:
                self._up_since.setdefault(name, self._loop.now)
            else:
                self._up_since.pop(name, None)
                self._homecomings.pop(name, None)

    # -- small parts

    def _candidates(self) -> list[KnownTarget]:
        return [target for target in self.app.targets.values() if self._is_candidate(target)]

    def _is_candidate(self, target: KnownTarget) -> bool:
        return target.state is State.UP

    def _is_allowed(self, target: KnownTarget | None) -> bool:
        config = target.config if target is not None else None
        return config is not None and not config.disabled and not config.drain and config.address == self._asked_at

    def _is_ours(self, target: KnownTarget) -> bool:
        return any(target is other for other in self.app.targets.values())

    def open_ports(self) -> None:
        """Of an app with `while_electing` "refuse": open exactly while there is a primary."""
        estate, wanted = self._estate, self.is_serving or not self.app.config.refuses
        if estate.is_stopping or (not wanted and self._pausing):
            return  # a worker must not be left with a port that it watches and that is closed
        if self._listen_timer is not None:
            self._listen_timer.cancel()
        for item in estate.listening.values():
            if item.app != self.name or item.is_listening == wanted:
                continue
            try:
                item.listen() if wanted else item.stop_listening()
            except OSError as error:
                logger.error("app %s: %s cannot be opened: %s; tried again", self.name, item.address, error.strerror)  # noqa: TRY400
                self._listen_timer = self._loop.call_later(LISTEN_AGAIN, self.open_ports)
                return

    def _publish(self, state: str, why: str) -> None:
        data = {
            "app": self.name, "state": state, "epoch": self._election.epoch, "primary": self.app.primary_name, "why": why,
            "seconds": round(self.app.elections.last_seconds, 3) if state == "serving" else 0.0,
        }  # fmt: skip
        self._estate.events.publish("election", data)
