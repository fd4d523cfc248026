"""Another configuration, applied while the program serves: one after another, everything of it or nothing.

Main thread only; a file is read, checked and compared in a thread `reload` of its own, for it may be big, or on a disk that
hangs. What is said at run time meanwhile has it compared again.

    IDLE ──request──> READING ──wrong: every error is logged──> IDLE
                         │ right, and something is different
                      RESOLVING  new listeners are bound; new names have had an answer, or RESOLVE_WAIT is over
                         │ a port, a file or a right is refused: one error, everything prepared is given back ──> IDLE
                      CLEARING   listeners in the way of new ones are closed, the new ones bound, or they come back
                         │
                      commit     in slices, hidden: targets, listeners, settings; the workers are told (changes.transition)
                         │
                      SETTLING   listeners that left are closed, then apps that left removed; every worker has acknowledged
                         └──────> IDLE, and the next request, if one has come meanwhile

A worker that starts in between is told what is true at that moment (control.changes.worker_updates); one that dies is
waited for no more. Requests before the program serves wait; SIGTERM ends whatever is under way.
"""

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from typing import Any

from tcp_proxy.config.diff import Change
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.control.changes.comparison import Comparison, compare, compared, or_errors
from tcp_proxy.control.changes.lost_listeners import LostListeners
from tcp_proxy.control.changes.one_target import change_target
from tcp_proxy.control.changes.overrides import Key, Overrides
from tcp_proxy.control.changes.transition import CannotApply, Transition, are_closed, close_listeners
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.context import Context
from tcp_proxy.control.listeners.sockets import CannotListen
from tcp_proxy.control.targets.all_targets import Changed
from tcp_proxy.control.targets.states import OF_AN_APP
from tcp_proxy.control.tls import trial
from tcp_proxy.runtime import memory
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.share import Share

logger = logging.getLogger(__name__)

RESOLVE_WAIT = 2.0  # seconds that a reload waits for the first answer of names that are new
BIND_TRIES, BIND_WAIT = 20, 0.05  # for ports that were ours a moment ago
MOST_COMPARISONS = 3  # of a reload beside its first, in a thread
SHOWN = 3  # of what was said at run time, in the log
MOST_TOLD = 1000  # changes, or errors, in the log and in an event
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
    """`load` reads the file; `overrides` is what was said at run time, which wins (control.changes.overrides); `keep` is
    called with it whenever it may be different, and done in slices, `keep_one` when it is for one target."""

    def __init__(
        self,
        context: Context,
        worker_updates: WorkerUpdates,
        overrides: Overrides,
        load: Load,
        keep: Callable[[Overrides], Iterator[None]],
        keep_one: Callable[[Overrides, Key], Any],
    ) -> None:
        self.stage = Stage.IDLE
        self.is_held = False  # another program is about to take over: no request begins
        self._context = context
        self._worker_updates = worker_updates
        self._overrides = overrides
        self._keep = keep
        self._keep_one = keep_one
        self._load = load
        self._requests: deque[Request] = deque()
        self._request: Request | None = None
        self._transition: Transition | None = None
        self._is_due: Callable[[], bool] = lambda: False  # what is waited for
        self._next: Callable[[], Any] = lambda: None  # what is done then
        self._waits_until = 0.0
        self._is_settling_slots, self._comparisons = False, 0  # the latter: that were out of date when they were there
        self._lost = LostListeners(context, worker_updates)

    def __repr__(self) -> str:
        return f"<Reload {self.stage.name}, {len(self._requests)} waiting>"

    def request(self, why: str, load: Load | None = None, done: Callable[[Outcome], Any] | None = None) -> None:
        """Reload, as soon as nothing else is under way. `load` reads something else than the file."""
        request = Request(load or self._load, why, done)
        if load is None and done is None and any(waiting.done is None for waiting in self._requests):
            logger.info("%s: a reload is waiting already", why)
            return
        if self.stage is not Stage.IDLE or not self._context.is_serving:
            logger.info("%s: the configuration will be read again when that is possible", why)
        self._requests.append(request)
        self.look()

    def apply(self, app: App, was: Target | None, target: str) -> None:
        """Something was said at run time (`overrides`) of a target: applied at once, for no listener changes. `was`: as it
        runs. Raises CannotApply."""
        change_target(self._context, self._worker_updates, app, was, self._overrides.target(app.name, target))
        self._keep_one(self._overrides, (app.name, target))
        self.settle_slots()

    def revise(
        self, revised: Callable[[Overrides], Overrides], done: Callable[[str], Any], comparisons: int = MOST_COMPARISONS
    ) -> None:
        """The file as it was read, or what was said at run time, are others now: worked out in a thread, applied in slices,
        beside whatever reload is under way. `done` with what stands in the way, "" if nothing does."""
        context, overrides = self._context, self._overrides

        def judged() -> Comparison | list[str]:
            running, version = context.config, overrides.version
            return compared(running, revised(Overrides(overrides.file, dict(overrides.said))), version)

        def replacing(found: Comparison | list[str]) -> Iterator[None]:
            if isinstance(found, Comparison) and not found.is_with(context.config, overrides):
                if comparisons:
                    self.revise(revised, done, comparisons - 1)
                    return
                found = judged()
            try:
                if isinstance(found, list):
                    raise CannotApply("; ".join(found))
                if found.deltas:
                    yield from Transition(context, self._worker_updates, found).committing()
            except CannotApply as error:
                done(str(error))
                return
            if context.is_stopping:
                return
            overrides.become(found.said)
            yield from self._keep(overrides)
            self.settle_slots()
            done("")

        self._have_done(judged, lambda found: context.slices.do(replacing(found)))

    def look(self) -> None:
        """Something has happened that may have been waited for."""
        context = self._context
        if context.is_stopping:
            return
        if self.stage is Stage.IDLE:
            if self._requests and context.is_serving and not self.is_held:
                self._begin(self._requests.popleft())
        elif self.stage is not Stage.READING and (self._is_due() or context.loop.now >= self._waits_until):
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
        self._comparisons = 0
        memory.hold_collection()
        self._context.service_manager.reloading()
        logger.info("%s: reading the configuration again", request.why)
        self.read(request.load, self._was_read)

    def read(self, load: Load | None, done: Callable[[Comparison | list[str]], Any]) -> None:
        """Have it, or the file, read, and compared with what runs, in a thread, which may take long; `done` is called with
        what came of it, or with its errors."""

        def judged() -> Comparison | list[str]:
            config = (load or self._load)()
            return trial.faults(config) or self._compare(config)

        self._have_done(judged, done)

    def _compare(self, file: Config) -> Comparison:
        """With what is listed elsewhere as it is listed now. Raises ConfigErrors."""
        return compare(self._context.config, self._overrides, self._context.found.filled(file))

    def _with_what_was_said(self, found: Comparison, again: Callable[[Comparison | list[str]], Any]) -> Comparison | None:
        """The comparison, if nothing was said meanwhile; else None, and `again` is called with another one. Whoever says
        something all the time does not keep a reload from being applied: at last it is compared here and now."""
        if found.is_with(self._context.config, self._overrides):
            return found
        if self._comparisons < MOST_COMPARISONS:
            self._comparisons += 1
            self._have_done(lambda: self._compare(found.file), again)
        elif isinstance(last := or_errors(lambda: self._compare(found.file)), Comparison):
            return last
        else:
            again(last)
        return None

    def _have_done(self, call: Callable[[], Comparison | list[str]], done: Callable[[Comparison | list[str]], Any]) -> None:
        thread = threading.Thread(target=self._do, args=(call, done), name="reload", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user or machine
            self._context.loop.call_soon(done, [str(error)])

    def _do(self, call: Callable[[], Comparison | list[str]], done: Callable[[Comparison | list[str]], Any]) -> None:
        """In the thread."""
        memory.hold_collection()
        found = or_errors(call)
        memory.release_collection()
        self._context.loop.call_soon(done, found)

    def _was_read(self, found: Comparison | list[str]) -> None:
        if self._context.is_stopping:
            return
        if isinstance(found, list):
            self._fail(found)
            return
        comparison = self._with_what_was_said(found, self._was_read)
        if comparison is None:
            return
        if not comparison.changes:
            self._context.slices.do(self._keep_what_was_said(comparison))
            return
        self._transition = Transition(self._context, self._worker_updates, comparison)
        self.stage = Stage.RESOLVING
        self._context.slices.do(self._preparing(self._transition))

    def _preparing(self, transition: Transition) -> Iterator[None]:
        if self._context.is_stopping:
            return
        try:
            yield from transition.preparing()
        except CannotApply as error:
            self._fail([str(error)], is_prevented=True)
            return
        if self._context.is_stopping:
            return
        states, hosts = self._context.states, transition.comparison.hosts
        states.want(hosts)
        self._wait(lambda: states.is_answered(hosts), self._clear, RESOLVE_WAIT)

    def _keep_what_was_said(self, comparison: Comparison) -> Iterator[None]:
        """Nothing else is different."""
        if not comparison.is_with(self._context.config, self._overrides):
            self._was_read(comparison)
            return
        self._overrides.become(comparison.said)
        yield from self._keep(self._overrides)
        if not self._context.is_stopping:
            self._finish(Outcome(), "nothing is different")

    def _clear(self) -> None:
        assert self._transition is not None
        first = self._transition.first
        self.stage = Stage.CLEARING
        close_listeners(self._context, first)
        binding = self._binding(BIND_TRIES if first else 1)
        self._wait(lambda: are_closed(self._context, first), lambda: self._context.slices.do(binding))

    def _binding(self, tries: int) -> Iterator[None]:
        transition = self._transition
        if transition is None:
            return
        try:
            yield from transition.binding_rest()
        except CannotListen as error:
            if tries > 1:
                self._context.loop.call_later(BIND_WAIT, self._context.slices.do, self._binding(tries - 1))
                return
            transition.roll_back()
            self._lost.bring_back(item.address for item in transition.first)
            self._fail([str(error)], is_prevented=True)
            return
        if self._transition is transition:
            self._context.slices.do(self._commit(transition))

    def _compared_again(self, found: Comparison | list[str]) -> None:
        """With what was said meanwhile."""
        transition = self._transition
        if transition is None:
            return
        if isinstance(found, list):
            transition.roll_back()
            self._lost.bring_back(item.address for item in transition.first)
            self._fail(found, is_prevented=True)
            return
        transition.take(found)
        self._context.slices.do(self._commit(transition))

    def _commit(self, transition: Transition) -> Iterator[None]:
        request, context = self._request, self._context
        if context.is_stopping:
            return
        assert request is not None
        comparison = self._with_what_was_said(transition.comparison, self._compared_again)
        if comparison is None:
            return
        transition.take(comparison)
        try:
            removed = yield from transition.committing()
        except CannotApply as error:
            self._lost.bring_back(item.address for item in transition.first)
            self._fail([str(error)], is_prevented=True)
            return
        if context.is_stopping:
            return
        self._overrides.become(transition.comparison.said)
        yield
        yield from self._keep(self._overrides)
        yield from _logged(request.why, transition.changes)
        if context.is_stopping:
            return
        wanted = {address for app in context.config.apps for address in app.listeners}
        leaving = [item for item in context.listening.values() if item.address not in wanted]
        close_listeners(context, leaving)
        self.stage = Stage.SETTLING
        generation = context.generation
        self._wait(
            lambda: are_closed(context, leaving) and all(worker.generation >= generation for worker in context.worker_pool),
            lambda: context.slices.do(self._removing(removed)),
        )

    def _removing(self, names: tuple[str, ...]) -> Iterator[None]:
        """Apps whose listeners are closed: nobody comes any more; who is there goes on."""
        context, share = self._context, Share()
        if names:
            context.generation += 1
            context.slices.is_hidden = True
            for name in names:
                app = context.targets.remove(name, context.generation)
                context.states.remove(app)
                if share.is_used_up(OF_AN_APP + len(app.targets)):
                    yield
            context.states.removed()
            context.slices.is_hidden = False
            message, changed = self._worker_updates.configuration(Changed(), names), Changed()
            for worker in context.worker_pool.introduced:
                context.worker_pool.tell(worker, lambda worker: self._worker_updates.configure(worker, message, changed))
        if self._transition is None:
            return
        changes = tuple(self._transition.changes)
        self._finish(Outcome(changes), f"done, {len(changes)} change{'s' if len(changes) != 1 else ''}")

    # -- its end

    def _fail(self, errors: list[str], *, is_prevented: bool = False) -> None:
        assert self._request is not None
        for error in errors:
            logger.error("%s: %s", self._request.why, error)
        self._context.states.forget_names()
        self._finish(Outcome((), tuple(errors), is_prevented), "nothing was changed")

    def _finish(self, outcome: Outcome, text: str) -> None:
        request = self._request
        assert request is not None
        self.stage, self._request, self._transition = Stage.IDLE, None, None
        self._context.loop.call_later(SETTLE_EVERY, memory.release_collection)  # the health threads have followed by then
        logger.log(logging.INFO if outcome.ok else logging.ERROR, "%s: %s", request.why, text)
        if outcome.ok and self._overrides.said:
            logger.info("%s: %s", request.why, _standing(self._overrides))
        self._context.service_manager.ready(f"{request.why}: {text}")
        count = len(outcome.changes)
        data = {
            "ok": outcome.ok, "why": request.why, "changes": _some([*map(str, outcome.changes[: MOST_TOLD + 1])], count),
            "errors": _some(list(outcome.errors[: MOST_TOLD + 1]), len(outcome.errors)),
        }  # fmt: skip
        self._context.events.publish("reload", data)
        self.settle_slots()
        if request.done is not None:
            request.done(outcome)
        self._context.loop.call_soon(self.look)

    def _wait(self, is_due: Callable[[], bool], then: Callable[[], Any], at_most: float = float("inf")) -> None:
        self._is_due, self._next = is_due, then
        self._waits_until = self._context.loop.now + at_most
        if at_most < float("inf"):
            self._context.loop.call_later(at_most, self.look)
        self.look()

    def settle_slots(self) -> None:
        """Counters of what has left are free when its last session has ended; looked at while there are any."""
        if not self._is_settling_slots and self._context.counter_rows.slots.retired:
            self._is_settling_slots = True
            self._context.loop.call_later(SETTLE_EVERY, lambda: self._context.slices.do(self._settle()))

    def _settle(self) -> Iterator[None]:
        context = self._context
        if not context.is_stopping:
            known = min((worker.generation for worker in context.worker_pool), default=context.generation)
            yield from context.counter_rows.settle(known)
            yield
            if not context.counter_rows.slots.retired:
                memory.give_back()  # of targets that have left, perhaps thousands
        self._is_settling_slots = False
        self.settle_slots()


def _standing(overrides: Overrides) -> str:
    first = [str(said) for said in itertools.islice(overrides.standing(), SHOWN + 1)]
    return "; ".join(first[:SHOWN]) + ("; and more" if len(first) > SHOWN else "")


def _some(texts: list[str], count: int) -> list[str]:
    """Of thousands, the first: an event is kept, and told to everybody."""
    return texts[:MOST_TOLD] + ([f"and {count - MOST_TOLD} more"] if count > MOST_TOLD else [])


def _logged(why: str, changes: Sequence[Change]) -> Iterator[None]:
    """In slices; of thousands, the first."""
    for number, change in enumerate(changes[:MOST_TOLD]):
        logger.log(logging.WARNING if change.needs_restart else logging.INFO, "%s: %s", why, change)
        if number % 100 == 99:
            yield
    if len(changes) > MOST_TOLD:
        logger.info("%s: and %d changes more", why, len(changes) - MOST_TOLD)
