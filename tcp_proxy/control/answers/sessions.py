"""Questions about sessions, which only the workers can answer: asked of all, put together, answered in any case.

Main thread only. A question ends when every worker that was asked has answered, has died, or is silent for DEADLINE
seconds; `done` is then called once, with a value that JSON can say. Who was silent is named in its "silent".

A session's id is its worker's incarnation (unique for each worker process), a dash, and its number there. The order of
sessions is that of their workers' starts, then of their numbers; that is what pages go by.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from operator import itemgetter
from typing import Any, Protocol

from tcp_proxy.control.answers import requests, why
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire.inquiries import (
    AskRequests,
    AskSession,
    AskSessions,
    CloseSession,
    EndedView,
    RequestsTold,
    SessionClosed,
    SessionsTold,
    SessionTold,
    SessionView,
)
from tcp_proxy.wire.messages import Message

_REQUEST_ID = re.compile(r"([0-9a-z]+\.[0-9]{1,18})-([0-9]{1,18})-([0-9]{1,18})")
_ID = re.compile(r"[0-9a-z]+\.([0-9]{1,18})-([0-9]{1,18})")
DEADLINE = 2.0  # seconds
LIMIT_MOST = 1000  # sessions on a page

View = dict[str, Any]
Done = Callable[[View], Any]
Told = SessionsTold | SessionTold | RequestsTold | SessionClosed


class Asked(Protocol):
    """What a question needs of a worker."""

    index: int
    incarnation: str

    def send(self, message: Message) -> Any: ...


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """"" leaves out what it stands for."""

    app: str = ""
    target: str = ""
    client: str = ""  # an IP, or one with its port
    listener: str = ""
    after: str = ""  # a session's id: the page after it
    limit: int = 100


class _Question:
    """`heard` is what each worker said; `finish` makes the answer of it."""

    def __init__(self, waiting: list[Asked], finish: Callable[["_Question"], Any]) -> None:
        self.waiting = waiting
        self.heard: list[tuple[Asked, Told]] = []
        self.finish = finish
        self.timer: Timer | None = None

    @property
    def silent(self) -> list[int]:
        return sorted(worker.index for worker in self.waiting)


class Questions:
    """`workers()` are all that live now; `have_moved()`: whether sessions may be elsewhere than where they began."""

    def __init__(
        self, loop: Loop, workers: Callable[[], Iterable[Asked]], have_moved: Callable[[], bool] = lambda: False
    ) -> None:
        self._loop = loop
        self._workers = workers
        self._have_moved = have_moved
        self._numbers = itertools.count(1)
        self._open: dict[int, _Question] = {}

    def __repr__(self) -> str:
        return f"<Questions {len(self._open)} open>"

    def sessions(self, wanted: SessionFilter, done: Done) -> None:
        """{"sessions": [...], "next": the id to go on after, or None, "silent": [...]}. Raises ValueError for a bad id."""
        limit = max(0, min(wanted.limit, LIMIT_MOST))
        after = _order(wanted.after) if wanted.after else (0, 0)

        def finish(question: _Question) -> None:
            found = [
                (_order(_id(worker, view)), _live(worker, view))
                for worker, told in question.heard
                if isinstance(told, SessionsTold)
                for view in told.sessions
            ]
            found.sort(key=lambda item: item[0])
            page = [view for _, view in found[:limit]]
            more = page[-1]["id"] if page and len(found) > limit else None
            done({"sessions": page, "next": more, "silent": question.silent})

        def ask(number: int, worker: Asked) -> Message:
            start, last = after
            since = last if self._have_moved() or _start(worker.incarnation) == start else 0
            return AskSessions(number, wanted.app, wanted.target, wanted.client, wanted.listener, since, limit + 1, start)

        known = self._introduced()
        asked = known if self._have_moved() else [worker for worker in known if _start(worker.incarnation) >= after[0]]
        self._ask(asked, ask, finish)

    def session(self, id: str, done: Done) -> None:
        """{"session": {...} or None if it does not go on, "silent": [...]}. Raises ValueError for a bad id."""

        def finish(question: _Question) -> None:
            done({"session": _found(question)[0], "silent": question.silent})

        self._ask_owner(id, AskSession, finish)

    def ended(self, seen: dict[str, int] | None, done: Done) -> None:
        """Those that have ended since: {"sessions": [...], "seen": what to ask with the next time, "left_out": how many more
        there were, "silent": [...]}. None: none yet. What a worker that died had not told is not told any more."""

        def ask(number: int, worker: Asked) -> Message:
            return AskSession(number, -1 if seen is None else seen.get(worker.incarnation, 0), since=True)

        def finish(question: _Question) -> None:
            told = [(worker, message) for worker, message in question.heard if isinstance(message, SessionTold)]
            views = [_ended(view) for _, message in told for view in message.ended]
            done({
                "sessions": sorted(views, key=itemgetter("ended_at")),
                "seen": (seen or {}) | {worker.incarnation: message.newest for worker, message in told},
                "left_out": sum(message.left_out for _, message in told),
                "silent": question.silent,
            })  # fmt: skip

        self._ask(self._introduced(), ask, finish)

    def close_session(self, id: str, done: Done) -> None:
        """{"closed": whether there was such a session, "silent": [...]}. Raises ValueError for a bad id."""

        def finish(question: _Question) -> None:
            closed = any(isinstance(told, SessionClosed) and told.found for _, told in question.heard)
            done({"closed": closed, "silent": question.silent})

        self._ask_owner(id, CloseSession, finish)

    def why(self, id: str, done: Done) -> None:
        """{"id", "state": "live", "ended" or "unknown", "story": text, "session": {...} or None, "silent": [...]}.

        Raises ValueError for a bad id.
        """

        def finish(question: _Question) -> None:
            live, ended = _found(question)
            if live is not None:
                state, text = "live", why.live(live)
            elif ended is not None:
                state, text = "ended", why.ended(ended)
            else:
                state, text = "unknown", self._unknown(id, question)
            done({"id": id, "state": state, "story": text, "session": live or ended, "silent": question.silent})

        self._ask_owner(id, AskSession, finish)

    def requests(self, id: str, done: Done) -> None:
        """Of mode http, by the id in the access log or by the X-Request-ID that their client has sent: {"id", "state":
        "live", "ended" or "unknown", "story": text, "requests": [...], the newest first, "silent": [...]}."""
        found = _REQUEST_ID.fullmatch(id)
        session, number = (int(found[2]), int(found[3])) if found else (0, 0)
        owners = self._introduced()
        if found and not self._have_moved():
            owners = [worker for worker in owners if worker.incarnation == found[1]]

        def ask(question: int, worker: Asked) -> Message:
            if not found:
                return AskRequests(question, 0, 0, id)
            here = session if worker.incarnation == found[1] else -1
            return AskRequests(question, here, number, id=f"{found[1]}-{session}" if self._have_moved() else "")

        def finish(question: _Question) -> None:
            told = [(worker, message) for worker, message in question.heard if isinstance(message, RequestsTold)]
            views = [requests.view(worker.incarnation, one) for worker, message in told for one in message.requests]
            views.sort(key=lambda view: view["ended_at"] or float("inf"), reverse=True)
            is_live = any(view["reason"] is None for view in views)
            text = "\n\n".join(map(requests.story, views)) or f"Request {id} is not known: {_lacking(question)}"
            state = "live" if is_live else "ended" if views else "unknown"
            done({"id": id, "state": state, "story": text, "requests": views, "silent": question.silent})

        self._ask(owners, ask, finish)

    # -- from the workers

    def told(self, worker: Asked, message: Told) -> None:
        question = self._open.get(message.question)
        if question is None or worker not in question.waiting:
            return
        question.heard.append((worker, message))
        if not isinstance(message, SessionsTold) or message.is_last:
            self._need_not_wait(message.question, worker)

    def left(self, worker: Asked) -> None:
        """It has died: nothing more will come, and its sessions have ended."""
        for number, question in tuple(self._open.items()):
            if worker in question.waiting:
                question.heard = [(who, told) for who, told in question.heard if who is not worker]
                self._need_not_wait(number, worker)

    # -- one question

    def _introduced(self) -> list[Asked]:
        return [worker for worker in self._workers() if worker.incarnation]

    def _ask_owner(self, id: str, kind: type[AskSession | CloseSession], finish: Callable[[_Question], Any]) -> None:
        """Where it began it has its number; if any have moved, it may be in any of the others."""
        _, session = _order(id)
        incarnation = id.rpartition("-")[0]
        owners = [worker for worker in self._workers() if worker.incarnation == incarnation]
        if not self._have_moved():
            self._ask(owners, lambda number, _worker: kind(number, session), finish)
            return

        def ask(number: int, worker: Asked) -> Message:
            return kind(number, session if worker.incarnation == incarnation else -1, id=id)

        self._ask(self._introduced(), ask, finish)

    def _ask(
        self, workers: list[Asked], message: Callable[[int, Asked], Message], finish: Callable[[_Question], Any]
    ) -> None:
        question = _Question(workers, finish)
        if not workers:
            finish(question)
            return
        number = next(self._numbers)
        self._open[number] = question
        question.timer = self._loop.call_later(DEADLINE, self._end, number)
        for worker in tuple(workers):
            worker.send(message(number, worker))

    def _need_not_wait(self, number: int, worker: Asked) -> None:
        question = self._open[number]
        question.waiting.remove(worker)
        if not question.waiting:
            self._end(number)

    def _end(self, number: int) -> None:
        question = self._open.pop(number)
        if question.timer is not None:
            question.timer.cancel()
        question.finish(question)

    def _unknown(self, id: str, question: _Question) -> str:
        if question.silent:
            return f"Session {id}: its worker did not answer within {DEADLINE:g} s; ask again."
        incarnation, _, _ = id.rpartition("-")
        if any(worker.incarnation == incarnation for worker in self._workers()):
            return f"Session {id} is not known: there was none, or more than 10,000 of its worker have ended since."
        return f"Session {id} is not known: its worker has ended, and all its sessions; the access log may have its record."


def _lacking(question: _Question) -> str:
    if question.silent:
        return f"a worker did not answer within {DEADLINE:g} s; ask again."
    return "there was none, its worker has ended, or has had 10,000 others since. The access log may have it."


def _order(id: str) -> tuple[int, int]:
    """When its worker started (the supervisor counts them: 69200e71.3 is its third), and its number there."""
    found = _ID.fullmatch(id)
    if found is None:
        raise ValueError(f"{id!r} is not the id of a session; one looks like 69200e71.1-17")
    return int(found[1]), int(found[2])


def _id(worker: Asked, view: SessionView) -> str:
    return view.id or f"{worker.incarnation}-{view.number}"


def _start(incarnation: str) -> int:
    return _order(f"{incarnation}-0")[0]


def _found(question: _Question) -> tuple[View | None, View | None]:
    """What was told of the one session: as it goes on, or as it ended."""
    live = ended = None
    for worker, told in question.heard:
        if isinstance(told, SessionTold):
            live = live or (_live(worker, told.live[0]) if told.live else None)
            ended = ended or (_ended(told.ended[0]) if told.ended else None)
    return live, ended


def _live(worker: Asked, view: SessionView) -> View:
    return {
        "id": _id(worker, view),
        "app": view.app,
        "listener": view.listener,
        "client": view.client,
        "peer": view.peer or None,
        "tls": asdict(view.tls) if view.tls is not None else None,
        "notes": view.notes or None,
        "target": view.target or None,
        "state": view.state,
        "tried": [asdict(tried) for tried in view.tried],
        "seconds": view.age,
        "idle_seconds": view.idle,
        "connect_seconds": view.connect_seconds if view.connect_seconds >= 0 else None,
        "bytes_up": view.bytes_up,
        "bytes_down": view.bytes_down,
        "worker": worker.index,
        "thread": view.thread,
        "processes": list(view.processes) or None,
    }


def _ended(view: EndedView) -> View:
    found = asdict(view)
    found["tried"] = list(found["tried"])
    found["target"] = view.target or None
    found["peer"] = view.peer or None
    found["notes"] = view.notes or None
    found["processes"] = list(view.processes) or None
    found["connect_seconds"] = view.connect_seconds if view.connect_seconds >= 0 else None
    return found
