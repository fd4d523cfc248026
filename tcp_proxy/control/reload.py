"""Another configuration, applied while the program serves: one after another, everything of it or nothing.

Main thread only; a file is read and checked in a thread `reload` of its own, for it may be big, or on a disk that hangs.

    IDLE ──request──> READING ──wrong: every error is logged──> IDLE
                         │ right, and something is different
                      RESOLVING  new listeners are bound; new names have had an answer, or RESOLVE_WAIT is over
                         │ a port, a file or a right is refused: one error, everything prepared is given back ──> IDLE
                      CLEARING   listeners in the way of new ones are closed, the new ones bound, or they come back
                         │
                      commit     in one turn: targets, listeners, settings; the workers are told (control.transition)
                         │
                      SETTLING   listeners that left are closed, then apps that left removed; every worker has acknowledged
                         └──────> IDLE, and the next request, if one has come meanwhile

A worker that starts in between is told what is true at that moment (control.briefing); one that dies is waited for no
more. Requests before the program serves wait; SIGTERM ends whatever is under way.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tcp_proxy.config.diff import Change
from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.config.model import Config
from tcp_proxy.control.briefing import Briefing
from tcp_proxy.control.estate import Estate
from tcp_proxy.control.lost_listeners import LostListeners
from tcp_proxy.control.overrides import Overrides
from tcp_proxy.control.sockets import CannotListen
from tcp_proxy.control.targets import Changed
from tcp_proxy.control.transition import CannotApply, Transition, are_closed, close_listeners

logger = logging.getLogger(__name__)

RESOLVE_WAIT = 2.0  # seconds that a reload waits for the first answer of names that are new
BIND_TRIES, BIND_WAIT = 20, 0.05  # for ports that were ours a moment ago
SETTLE_EVERY = 0.5  # seconds between two looks for counters that nobody writes any more

Load = Callable[[], Config]  # raises ConfigErrors


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request. `errors` is empty when it was applied, or nothing was different. `is_prevented`: nothing is
    wrong with what was read, but the machine refuses a part of it."""

    changes: tuple[Change, ...] = ()
    errors: tuple[str, ...] = ()
    is_prevented: bool = False

    @property
    def ok(self) -> bool:
        return not self.errors


@dataclass(frozen=True, slots=True)
class Request:
    load: Load
    why: str
    done: Callable[[Outcome], Any] | None


class Stage(Enum):
    IDLE = auto()
    READING = auto()
    RESOLVING = auto()
    CLEARING = auto()
    SETTLING = auto()


class Reload:
    """`load` reads the file; `overrides` is what was said at run time, which wins (control.overrides); `keep` is called
    with it whenever it may be different."""

    def __init__(
        self, estate: Estate, briefing: Briefing, overrides: Overrides, load: Load, keep: Callable[[Overrides], Any]
    ) -> None:
        self.stage = Stage.IDLE
        self._estate = estate
        self._briefing = briefing
        self._overrides = overrides
        self._keep = keep
        self._load = load
        self._requests: deque[Request] = deque()
        self._request: Request | None = None
        self._file: Config = overrides.file
        self._transition: Transition | None = None
        self._is_due: Callable[[], bool] = lambda: False  # what is waited for
        self._next: Callable[[], Any] = lambda: None  # what is done then
        self._waits_until = 0.0
        self._is_settling_slots = False
        self._lost = LostListeners(estate, briefing)

    def __repr__(self) -> str:
        return f"<Reload {self.stage.name}, {len(self._requests)} waiting>"

    def request(self, why: str, load: Load | None = None, done: Callable[[Outcome], Any] | None = None) -> None:
        """Reload, as soon as nothing else is under way. `load` reads something else than the file."""
        request = Request(load or self._load, why, done)
        if load is None and done is None and any(waiting.done is None for waiting in self._requests):
            logger.info("%s: a reload is waiting already", why)
            return
        if self.stage is not Stage.IDLE or not self._estate.is_serving:
            logger.info("%s: the configuration will be read again when that is possible", why)
        self._requests.append(request)
        self.look()

    def plan(self, new: Config) -> list[Change]:
        """What a reload of this would change, with what was said at run time."""
        return Transition(self._estate, self._briefing, self._overrides.rebased(new).apply(new)).changes

    def apply(self) -> None:
        """Something was said at run time (`overrides`): applied at once, for no listener changes. Raises CannotApply."""
        transition = Transition(self._estate, self._briefing, self._overrides.apply())
        transition.commit()
        self._keep(self._overrides)
        self.settle_slots()

    def look(self) -> None:
        """Something has happened that may have been waited for."""
        estate = self._estate
        if estate.is_stopping:
            return
        if self.stage is Stage.IDLE:
            if self._requests and estate.is_serving:
                self._begin(self._requests.popleft())
        elif self.stage is not Stage.READING and (self._is_due() or estate.loop.now >= self._waits_until):
            self._is_due = lambda: False
            self._waits_until = float("inf")
            self._next()

    def abort(self) -> None:
        """The program ends. What is bound and not committed is given back; nobody is told."""
        if self._transition is not None and self.stage in (Stage.RESOLVING, Stage.CLEARING):
            self._transition.roll_back()
        self._transition = None

    # -- one reload

    def _begin(self, request: Request) -> None:
        self.stage, self._request = Stage.READING, request
        logger.info("%s: reading the configuration again", request.why)
        self.read(request.load, self._was_read)

    def read(self, load: Load, done: Callable[[Config | list[str]], Any]) -> None:
        """Have it read in a thread, which may take long; `done` is called with it, or with its errors."""
        thread = threading.Thread(target=self._read, args=(load, done), name="reload", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user or machine
            self._estate.loop.call_soon(done, [str(error)])

    def _read(self, load: Load, done: Callable[[Config | list[str]], Any]) -> None:
        """In the thread."""
        try:
            found: Config | list[str] = load()
        except ConfigErrors as errors:
            found = [str(error) for error in errors.errors]
        except Exception as error:  # a mistake of ours: the old configuration goes on
            logger.exception("the configuration cannot be read")
            found = [f"internal error, please report it: {error!r}"]
        self._estate.loop.call_soon(done, found)

    def _was_read(self, found: Config | list[str]) -> None:
        if self._estate.is_stopping:
            return
        if isinstance(found, list):
            self._fail(found)
            return
        self._file = found
        transition = Transition(self._estate, self._briefing, self._overrides.rebased(found).apply(found))
        if not transition.changes:
            self._overrides.rebase(found)
            self._keep(self._overrides)
            self._finish(Outcome(), "nothing is different")
            return
        try:
            transition.prepare()
        except CannotApply as error:
            self._fail([str(error)], is_prevented=True)
            return
        self._transition = transition
        self.stage = Stage.RESOLVING
        states = self._estate.states
        hosts = [host for host in transition.hosts() if _is_name(host)]
        states.want(hosts)
        self._wait(lambda: states.is_answered(hosts), self._clear, RESOLVE_WAIT)

    def _clear(self) -> None:
        assert self._transition is not None
        first = self._transition.first
        self.stage = Stage.CLEARING
        close_listeners(self._estate, first)
        self._wait(lambda: are_closed(self._estate, first), lambda: self._bind(BIND_TRIES if first else 1))

    def _bind(self, tries: int) -> None:
        transition = self._transition
        if transition is None:
            return
        try:
            transition.bind_rest()
        except CannotListen as error:
            if tries > 1:
                self._estate.loop.call_later(BIND_WAIT, self._bind, tries - 1)
                return
            transition.roll_back()
            self._lost.bring_back(item.address for item in transition.first)
            self._fail([str(error)], is_prevented=True)
            return
        self._commit()

    def _commit(self) -> None:
        transition, request = self._transition, self._request
        assert transition is not None
        assert request is not None
        estate = self._estate
        transition.new = self._overrides.rebased(self._file).apply(self._file)  # something may have been said meanwhile
        before = {item.address: item for item in estate.listening.values()}
        try:
            removed = transition.commit()
        except CannotApply as error:
            self._lost.bring_back(item.address for item in transition.first)
            self._fail([str(error)], is_prevented=True)
            return
        self._overrides.rebase(self._file)
        self._keep(self._overrides)
        for change in transition.changes:
            logger.log(logging.WARNING if change.needs_restart else logging.INFO, "%s: %s", request.why, change)
        wanted = {address for app in estate.config.apps for address in app.listeners}
        leaving = [item for address, item in before.items() if address not in wanted]
        close_listeners(estate, leaving)
        self.stage = Stage.SETTLING
        generation = estate.generation
        self._wait(
            lambda: are_closed(estate, leaving) and all(worker.generation >= generation for worker in estate.crew),
            lambda: self._remove(removed),
        )

    def _remove(self, names: tuple[str, ...]) -> None:
        """Apps whose listeners are closed: nobody comes any more; who is there goes on."""
        estate = self._estate
        if names:
            estate.generation += 1
            for name in names:
                estate.targets.remove(name, estate.generation)
                estate.states.remove(name)
            for worker in estate.crew:
                estate.crew.tell(worker, lambda worker: self._briefing.configure(worker, Changed(), names))
        assert self._transition is not None
        changes = tuple(self._transition.changes)
        self._finish(Outcome(changes), f"done, {len(changes)} change{'s' if len(changes) != 1 else ''}")

    # -- its end

    def _fail(self, errors: list[str], *, is_prevented: bool = False) -> None:
        assert self._request is not None
        for error in errors:
            logger.error("%s: %s", self._request.why, error)
        self._estate.states.forget_names()
        self._finish(Outcome((), tuple(errors), is_prevented), "nothing was changed")

    def _finish(self, outcome: Outcome, text: str) -> None:
        request = self._request
        assert request is not None
        self.stage, self._request, self._transition = Stage.IDLE, None, None
        logger.log(logging.INFO if outcome.ok else logging.ERROR, "%s: %s", request.why, text)
        data = {
            "ok": outcome.ok, "why": request.why, "changes": [str(change) for change in outcome.changes],
            "errors": list(outcome.errors),
        }  # fmt: skip
        self._estate.events.publish("reload", data)
        self.settle_slots()
        if request.done is not None:
            request.done(outcome)
        self._estate.loop.call_soon(self.look)

    def _wait(self, is_due: Callable[[], bool], then: Callable[[], Any], at_most: float = float("inf")) -> None:
        self._is_due, self._next = is_due, then
        self._waits_until = self._estate.loop.now + at_most
        if at_most < float("inf"):
            self._estate.loop.call_later(at_most, self.look)
        self.look()

    def settle_slots(self) -> None:
        """Counters of what has left are free when its last session has ended; looked at while there are any."""
        if not self._is_settling_slots and self._estate.ledger.slots.retired:
            self._is_settling_slots = True
            self._estate.loop.call_later(SETTLE_EVERY, self._settle)

    def _settle(self) -> None:
        estate = self._estate
        self._is_settling_slots = False
        estate.ledger.settle(min((worker.generation for worker in estate.crew), default=estate.generation))
        self.settle_slots()


def _is_name(host: str) -> bool:
    from tcp_proxy.control.resolver import endpoints  # noqa: PLC0415
    from tcp_proxy.sansio.address import Address  # noqa: PLC0415

    return not endpoints(Address(host, 1), ())
