"""Answers that wait until what was said is on disk: who has one may kill the program, or cut its power.

Main thread only; the state file's own thread writes (control.store.state), and nobody waits for it but the answer.
"""

from typing import Any

from tcp_proxy.control.replies import Later
from tcp_proxy.control.store.state import State
from tcp_proxy.runtime.loop import Loop

WITHIN = 2.0  # seconds: a disk that hangs makes no answer wait for ever


class Durable:
    def __init__(self, loop: Loop, store: State) -> None:
        self._loop = loop
        self._store = store

    def __repr__(self) -> str:
        return f"<Durable in {self._store!r}>"

    def answer(self, body: Any) -> Later:
        """This, as soon as everything said so far is kept."""
        later = Later()
        timer = self._loop.call_later(WITHIN, later.answer, body)

        def kept() -> None:
            timer.cancel()
            later.answer(body)

        self._store.when_durable(lambda: self._loop.call_soon(kept))
        return later
