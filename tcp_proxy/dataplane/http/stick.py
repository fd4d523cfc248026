"""Where a request goes whose client stays with a target by a header: to the one that the header's value belongs to.

Owned by the loop's thread; loaded with the first such app. The key has a session from the request's head to its end, or to
the end of the tunnel that it becomes. Whose the key is the worker mostly knows (sticky.copies); else it is asked for, and
the request's dial begins when that is known.

    a dial ──its key has a target, or nobody can be asked──> begins
           └─> ASKING ──the answer; none within `connect`──> begins      the request is over ──> nobody is told

A target that is up or draining keeps its keys; for one request it is passed over where it has no place, or somebody waits
for one. One that cannot be connected to loses the key to the target that the request gets.
"""

from typing import Any

from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.relay.session_thread import NEVER
from tcp_proxy.runtime.loop import Timer


class StickTargets:
    """Those of one request with such a header. `base`: the app; `sticks`: its StickCopies."""

    def __init__(self, base: Any, sticks: Any, key: str) -> None:
        self._base = base
        self._sticks = sticks
        self.copy = sticks.use(key)
        self._was_asked = False
        self._dial: Dial | None = None  # that waits for the answer
        self._timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<StickTargets of {self._base!r} for {self.copy!r}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def arrive_at(self, target: LiveTarget) -> None:
        """The request comes from another worker, which will say that it has one less."""
        self._sticks.leave(self._sticks.arrive(self.copy.key, target.name))

    def end_stick(self) -> None:
        """The request is over."""
        self._take_dial()
        self._sticks.leave(self.copy)

    # -- asking

    def asks(self, dial: Dial) -> bool:
        """Whether it is to be known first whose the key is: the dial begins then."""
        if self._was_asked or self._own(None) is not None:
            return False
        self._was_asked = True
        if not self._sticks.ask(self.copy, self, None):
            return False
        self._dial = dial
        self._timer = dial.loop.call_later(self._base.timeouts.connect, self.answered)
        dial.owner.deadline_set(NEVER)
        return True

    def answered(self) -> None:
        """Or it was waited for in vain."""
        dial = self._take_dial()
        if dial is None:
            return
        target = self.choose(dial.key, dial.loop.now, None)
        if target is None:
            dial.start()
        else:
            dial.given(dial, target)

    def _take_dial(self) -> Dial | None:
        dial, self._dial = self._dial, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return dial

    def _own(self, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        """The key's target, if that may have it."""
        own: LiveTarget | None = self._sticks.target_of(self.copy, excluded)
        return own

    # -- as an app

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        base, own = self._base, self._own(excluded)
        if own is None and not self._was_asked and not excluded:
            return None
        if own is not None:
            waiting = base.queue is not None and own.limited and own.is_eligible and base.queue.holds_back(base.queue_line)
            if not waiting and own.take(base.row):  # nobody overtakes those who wait
                return own
        chosen: LiveTarget | None = base.choose(key, now, excluded)
        if own is None and excluded and chosen is not None:
            self._sticks.tell(self.copy, chosen)
        return chosen

    def choose_waiting(self, key: bytes, now: float) -> LiveTarget | None:
        own = self._own(None)
        if own is not None and own.take(self._base.row):
            return own
        chosen: LiveTarget | None = self._base.choose_waiting(key, now)
        if own is None and chosen is not None:
            self._sticks.tell(self.copy, chosen)
        return chosen

    def retake(self, target: LiveTarget) -> bool:
        """The lone target once more; a draining one, too, for whom it is the own."""
        if self._own(None) is target:
            return target.take(self._base.row)
        again: bool = self._base.retake(target)
        return again
