"""What a request brought is judged in a thread `judge`, one request after another: it may be long, and wrong in many places.

Owned by the main thread, which calls `ask` and is called back by its loop. The thread is there only while something is
judged; one at a time, so that many requests take no more of the interpreter's time than one does.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.config.model import Target
from tcp_proxy.runtime.loop import Loop

logger = logging.getLogger(__name__)

Found = Target | ConfigErrors | str  # str: why it could not be judged
Question = Callable[[], Target]  # raises ConfigErrors
Done = Callable[[Found], Any]


class Judge:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Question, Done]] = deque()
        self._is_busy = False

    def __repr__(self) -> str:
        return f"<Judge {'busy' if self._is_busy else 'idle'}, {len(self._waiting)} waiting>"

    def ask(self, question: Question, done: Done) -> None:
        """`done` is called in the loop's thread, later."""
        self._waiting.append((question, done))
        self._next()

    def _next(self) -> None:
        if self._is_busy or not self._waiting:
            return
        question, done = self._waiting.popleft()
        self._is_busy = True
        thread = threading.Thread(target=self._judge, args=(question, done), name="judge", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads for this user or machine
            self._loop.call_soon(self._done, done, str(error))

    def _judge(self, question: Question, done: Done) -> None:
        """In the thread."""
        try:
            found: Found = question()
        except ConfigErrors as errors:
            found = errors
        except Exception as error:  # a mistake of ours ends one request
            logger.exception("internal error, please report it")
            found = f"internal error, please report it: {error!r}"
        self._loop.call_soon(self._done, done, found)

    def _done(self, done: Done, found: Found) -> None:
        self._is_busy = False
        self._next()
        done(found)
