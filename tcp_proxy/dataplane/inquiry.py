"""What is asked of a worker's sessions: a list, one of them, the end of one.

Questions come to the loop's thread. A session is looked at, and closed, only in the thread that it lives in: the relay
threads are asked by call_soon. One that is just moving to the loop is in no thread's table; so the loop's own is looked
at (again) when the relay threads have answered, for its `arrive` has come before their answers.

A list is made in slices, so that 10,000 sessions delay nobody by more than a slice.
"""

import heapq
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from tcp_proxy.dataplane.record import ID_MOST, LINE_MOST, REASONS, FinishedRequest, Recorder
from tcp_proxy.dataplane.relay.pool import RelayPool
from tcp_proxy.dataplane.relay.session_thread import SessionThread, in_slices
from tcp_proxy.dataplane.tls_told import Told, told
from tcp_proxy.sansio.address import client_text, ip_of, notes_of, peer_text
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.inquiries import (
    AskRequests,
    AskSession,
    AskSessions,
    CloseSession,
    EndedView,
    RequestsTold,
    RequestView,
    SessionClosed,
    SessionsTold,
    SessionTold,
    SessionView,
    TlsView,
    Tried,
)
from tcp_proxy.wire.messages import Message
from tcp_proxy.wire.records import Record, SessionRecord

MOST = 1001  # sessions in one answer: a page, and one to know that there are more
VIEWS = 20  # made in one turn of the loop: a tenth of a millisecond, which a session may have to wait
PART = 10  # in one message, written in one turn: the same
MOST_REQUESTS = 20  # in one answer, made in one turn: clients may give thousands the same id
MOST_ENDED = 50  # in one answer, made and written in one turn: this is asked four times a second, at most

Views = list[SessionView]
Found = TypeVar("Found")


class Inquiry:
    """`recorder()` is the one that keeps the ended sessions now."""

    def __init__(
        self, thread: SessionThread, relays: RelayPool, recorder: Callable[[], Recorder], send: Callable[[Message], Any]
    ) -> None:
        self._thread = thread
        self._relays = relays
        self._recorder = recorder
        self._send = send

    def __repr__(self) -> str:
        return f"<Inquiry of {self._thread!r} and {self._relays!r}>"

    def sessions(self, wanted: AskSessions, _descriptors: list[int]) -> None:
        limit = max(0, min(wanted.limit, MOST))
        views: Views = []

        place = partial(_place, self._recorder().incarnation)

        def all_told() -> None:
            by_number = {view.number: view for view in views}  # one may have moved, and be told twice
            first = heapq.nsmallest(limit, by_number.values(), key=lambda view: place(view.number, view.id))
            self._tell(wanted.question, first)

        def own_told(found: Views) -> None:
            views.extend(found)
            all_told()

        ask = partial(_list, wanted, limit, place)
        self._of_relays(ask, views.extend, lambda: ask(self._thread, own_told))

    def session(self, wanted: AskSession, _descriptors: list[int]) -> None:
        if wanted.since:
            ended, newest, left_out = self._recorder().since(wanted.number, MOST_ENDED)
            self._send(SessionTold(wanted.question, (), tuple(map(_ended, ended)), newest, left_out))
            return

        def told(view: SessionView | None) -> None:
            live = () if view is None else (view,)
            ended = self._recorder().find(wanted.number, wanted.id) if view is None else None
            self._send(SessionTold(wanted.question, live, () if ended is None else (_ended(ended),)))

        self._anywhere(partial(_look, wanted), told)

    def requests(self, wanted: AskRequests, _descriptors: list[int]) -> None:
        """Of mode http, whose clients live in this thread."""
        recorder, own_id, live = self._recorder(), wanted.own_id.encode("latin-1", "replace"), []
        for one in self._thread.members:
            if getattr(one, "exchange", None) is not None and _is_asked(one, wanted, own_id):
                live.append(one)
        views = [_request_now(one, self._thread.loop.now) for one in live[:MOST_REQUESTS]]
        ended = recorder.find_requests((wanted.session, wanted.id), wanted.number, own_id, MOST_REQUESTS - len(views))
        views += [_request(one, recorder.wall) for one in ended]
        self._send(RequestsTold(wanted.question, tuple(views)))

    def close(self, wanted: CloseSession, _descriptors: list[int]) -> None:
        def told(found: bool | None) -> None:
            self._send(SessionClosed(wanted.question, bool(found)))

        self._anywhere(partial(_close, wanted), told)

    def _tell(self, question: int, views: Views) -> None:
        part, rest = views[:PART], views[PART:]
        self._send(SessionsTold(question, tuple(part), not rest))
        if rest:
            self._thread.loop.call_again(lambda _events: self._tell(question, rest))

    def _anywhere(self, look: Callable[[SessionThread], Found | None], done: Callable[[Found | None], Any]) -> None:
        """The first thread whose answer is not None; each is asked in its own thread, `done` is called in the loop's."""
        found = look(self._thread)
        if found is not None:
            done(found)
            return
        others: list[Found] = []

        def ask(thread: SessionThread, answer: Callable[[list[Found]], Any]) -> None:
            found = look(thread)
            answer([] if found is None else [found])

        self._of_relays(ask, others.extend, lambda: done(others[0] if others else look(self._thread)))

    def _of_relays(
        self, ask: Callable[[SessionThread, Callable[[Any], Any]], Any], told: Callable[[Any], Any], done: Callable[[], Any]
    ) -> None:
        """`ask(thread, answer)` in every relay thread; `told(answer)` for each and `done()` at last, in the loop's."""
        waiting = 1

        def one_less() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done()

        def answered(answer: Any) -> None:
            told(answer)
            one_less()

        loop = self._thread.loop
        for thread in self._relays.threads:
            if thread.loop.call_soon(ask, thread, partial(loop.call_soon, answered)):
                waiting += 1
        one_less()


Place = Callable[[int, str], tuple[int, int]]


def _place(incarnation: str, number: int, id: str) -> tuple[int, int]:
    """Of a session among all: by its worker's start and its number, those of its id where it has moved here."""
    incarnation, _, digits = id.rpartition("-") if id else (incarnation, "", str(number))
    start = incarnation.rpartition(".")[2]
    return int(start) if start.isdecimal() else 0, int(digits)


def _list(wanted: AskSessions, limit: int, place: Place, thread: SessionThread, done: Callable[[Views], Any]) -> None:
    """In the thread's thread: the views of the first `limit` that are wanted."""

    def place_of(one: Any) -> tuple[int, int]:
        return place(one.number, one.origin.id if one.origin is not None else "")

    after = wanted.after_start, wanted.after
    found: list[Any] = []
    views: Views = []

    def matching(members: tuple[Any, ...]) -> None:
        found.extend([member for member in members if _is_wanted(member, wanted) and place_of(member) > after])

    def chosen() -> None:
        first = heapq.nsmallest(limit, found, key=place_of)
        in_slices(thread.loop, tuple(first), lambda part: views.extend(_views(part, thread)), lambda: done(views), VIEWS)

    in_slices(thread.loop, tuple(thread.members), matching, chosen)


def _is_wanted(session: Any, wanted: AskSessions) -> bool:
    return (
        (not wanted.app or session.app.name == wanted.app)
        and (not wanted.listener or session.listener.address == wanted.listener)
        and (not wanted.target or _target_name(session) == wanted.target)
        and (not wanted.client or wanted.client in (ip_of(session.address), client_text(session.address)))
    )


def _views(sessions: tuple[Any, ...], thread: SessionThread) -> Views:
    """Of those that have not ended, or moved away, since they were found."""
    return [_view(session, thread) for session in sessions if session in thread.members]


def _look(wanted: AskSession, thread: SessionThread) -> SessionView | None:
    session = _find(wanted, thread)
    return None if session is None else _view(session, thread)


def _close(wanted: CloseSession, thread: SessionThread) -> bool | None:
    session = _find(wanted, thread)
    if session is None:
        return None
    session.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
    return True


def _find(wanted: AskSession | CloseSession, thread: SessionThread) -> Any:
    """Its number is its own where it began, and another's where it has come to."""
    if wanted.number >= 0:
        own = (one for one in thread.members if one.number == wanted.number and one.origin is None)
        found = next(own, None)
        if found is not None:
            return found
    return next((one for one in thread.members if one.origin is not None and one.origin.id == wanted.id), None)


def _target_name(session: Any) -> str:
    target = session.target or (session.dial.target if session.dial is not None else None)
    return target.name if target is not None else ""


def _view(session: Any, thread: SessionThread) -> SessionView:
    now, dial = thread.loop.now, session.dial
    bytes_up, bytes_down = _moved(session)
    started, connected = session.started, session.connected_at
    return SessionView(
        number=session.number,
        app=session.app.name,
        listener=session.listener.address,
        client=client_text(session.address),
        target=_target_name(session),
        state="waiting" if dial is not None and dial.queue is not None else session.state.name.lower(),
        tried=_tried(session.tried if dial is None else dial.tried),
        age=now - started,
        idle=now - session.last,
        connect_seconds=connected - started if connected >= 0 else -1.0,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        thread=thread.loop.name,
        peer=peer_text(session.address),
        tls=_tls(told(session.client)),
        notes=notes_of(session.address),
        id=session.origin.id if session.origin is not None else "",
        processes=(*session.origin.processes, os.getpid()) if session.origin is not None else (),
    )


def _is_asked(connection: Any, wanted: AskRequests, own_id: bytes) -> bool:
    if not own_id:
        session = connection.number if connection.origin is None else connection.origin.id
        return connection.requests == wanted.number and session in (wanted.session, wanted.id)
    return _own_id(connection.exchange.request) == own_id


def _own_id(request: Any) -> bytes:
    """The X-Request-ID that its client has sent."""
    given: bytes = request.fields.values.get(b"x-request-id", [b""])[0]
    return given[:ID_MOST]


def _request(kept: FinishedRequest, wall: float) -> RequestView:
    (
        session, number, app, listener, address, line, own_id, target, tried, status, started, answered, ended, up, down,
        reason, error,
    ) = kept  # fmt: skip
    number_of, id_of = (0, session) if isinstance(session, str) else (session, "")
    return RequestView(
        number_of, number, app, listener, client_text(address), _escaped(line), own_id.decode("latin-1"), target,
        _tried(tried), status, up, down, answered - started if answered >= 0 else -1.0, ended - started, ended + wall,
        REASONS[reason], error, id_of,
    )  # fmt: skip


def _request_now(connection: Any, now: float) -> RequestView:
    exchange, dial = connection.exchange, connection.dial
    request, answered = exchange.request, exchange.answered_at
    tried = exchange.tried if dial is None else (*exchange.tried, *dial.tried)
    moved = [0 if body is None else body.delivered for body in (exchange.up, exchange.down)]
    return RequestView(
        connection.number, connection.requests, connection.app.name, connection.listener.address, connection.client_text,
        _escaped(request.line[:LINE_MOST]), _own_id(request).decode("latin-1"), _target_name(connection), _tried(tried),
        exchange.status, moved[0], moved[1],
        answered - exchange.started if answered >= 0 else -1.0, now - exchange.started,
        session_id=connection.origin.id if connection.origin is not None else "",
    )  # fmt: skip


def _escaped(line: bytes) -> str:
    """Whatever a client has sent, as text that can be shown."""
    return line.rstrip(b"\r\n").decode("latin-1").encode("unicode_escape").decode()


def _moved(session: Any) -> tuple[int, int]:
    """Bytes up and down. In mode http: of bodies, those of the exchange that goes on among them."""
    up, down, before_up, before_down = session.up, session.down, 0, 0
    if hasattr(session, "exchange"):  # an HttpConnection; a tunnel is a plain one
        before_up, before_down = session.bytes_up, session.bytes_down
        if session.exchange is not None:
            up, down = session.exchange.up, session.exchange.down
    return before_up + (up.delivered if up is not None else 0), before_down + (down.delivered if down is not None else 0)


def _ended(record: SessionRecord) -> EndedView:
    """Of what was recorded, all but what is for a trace."""
    told: dict[str, Any] = dict(zip(Record._fields, record, strict=True))
    del told["trace"]
    return EndedView(**(told | {"tried": _tried(told["tried"]), "tls": _tls(told["tls"])}))


def _tls(told: Told) -> TlsView | None:
    return TlsView(*told) if told else None


def _tried(pairs: Any) -> tuple[Tried, ...]:
    return tuple(Tried(target, error) for target, error in pairs)
