"""What is asked of a worker's sessions: a list, one of them, the end of one.

Questions come to the loop's thread. A session is looked at, and closed, only in the thread that it lives in: the relay
threads are asked by call_soon. One that is just moving to the loop is in no home; therefore the loop's own home is looked
at (again) when the relay threads have answered, for its `arrive` has come before their answers.

A list is made in slices, so that 10,000 sessions delay nobody by more than a slice.
"""

import heapq
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from tcp_proxy.dataplane.homes import Home, in_slices
from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.relay_pool import RelayPool
from tcp_proxy.inquiries import (
    AskSession,
    AskSessions,
    CloseSession,
    EndedView,
    SessionClosed,
    SessionsTold,
    SessionTold,
    SessionView,
    Tried,
)
from tcp_proxy.messages import Message
from tcp_proxy.sansio.address import client_text, ip_of
from tcp_proxy.sansio.reasons import Reason, Side

MOST = 1001  # sessions in one answer: a page, and one to know that there are more
VIEWS = 20  # made in one turn of the loop: a tenth of a millisecond, which a session may have to wait
PART = 10  # in one message, written in one turn: the same
MOST_ENDED = 50  # in one answer, made and written in one turn: this is asked four times a second, at most

_number = attrgetter("number")
Views = list[SessionView]
Found = TypeVar("Found")


class Inquiry:
    """`recorder()` is the one that keeps the ended sessions now."""

    def __init__(
        self, home: Home, relays: RelayPool, recorder: Callable[[], Recorder], send: Callable[[Message], Any]
    ) -> None:
        self._home = home
        self._relays = relays
        self._recorder = recorder
        self._send = send

    def __repr__(self) -> str:
        return f"<Inquiry of {self._home!r} and {self._relays!r}>"

    def sessions(self, wanted: AskSessions, _descriptors: list[int]) -> None:
        limit = max(0, min(wanted.limit, MOST))
        views: Views = []

        def all_told() -> None:
            by_number = {view.number: view for view in views}  # one may have moved, and be told twice
            self._tell(wanted.question, heapq.nsmallest(limit, by_number.values(), key=_number))

        def own_told(found: Views) -> None:
            views.extend(found)
            all_told()

        self._of_relays(partial(_list, wanted, limit), views.extend, lambda: _list(wanted, limit, self._home, own_told))

    def session(self, wanted: AskSession, _descriptors: list[int]) -> None:
        if wanted.since:
            ended, newest, left_out = self._recorder().since(wanted.number, MOST_ENDED)
            self._send(SessionTold(wanted.question, (), tuple(map(_ended, ended)), newest, left_out))
            return

        def told(view: SessionView | None) -> None:
            live = () if view is None else (view,)
            ended = self._recorder().find(wanted.number) if view is None else None
            self._send(SessionTold(wanted.question, live, () if ended is None else (_ended(ended),)))

        self._anywhere(partial(_look, wanted.number), told)

    def close(self, wanted: CloseSession, _descriptors: list[int]) -> None:
        def told(found: bool | None) -> None:
            self._send(SessionClosed(wanted.question, bool(found)))

        self._anywhere(partial(_close, wanted.number), told)

    def _tell(self, question: int, views: Views) -> None:
        part, rest = views[:PART], views[PART:]
        self._send(SessionsTold(question, tuple(part), not rest))
        if rest:
            self._home.loop.call_again(lambda _events: self._tell(question, rest))

    def _anywhere(self, look: Callable[[Home], Found | None], done: Callable[[Found | None], Any]) -> None:
        """The first home whose answer is not None; each is asked in its own thread, `done` is called in the loop's."""
        found = look(self._home)
        if found is not None:
            done(found)
            return
        others: list[Found] = []

        def ask(home: Home, answer: Callable[[list[Found]], Any]) -> None:
            found = look(home)
            answer([] if found is None else [found])

        self._of_relays(ask, others.extend, lambda: done(others[0] if others else look(self._home)))

    def _of_relays(
        self, ask: Callable[[Home, Callable[[Any], Any]], Any], told: Callable[[Any], Any], done: Callable[[], Any]
    ) -> None:
        """`ask(home, answer)` in every relay thread; `told(answer)` for each and `done()` at last, in the loop's."""
        waiting = 1

        def one_less() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                done()

        def answered(answer: Any) -> None:
            told(answer)
            one_less()

        loop = self._home.loop
        for home in self._relays.homes:
            if home.loop.call_soon(ask, home, partial(loop.call_soon, answered)):
                waiting += 1
        one_less()


def _list(wanted: AskSessions, limit: int, home: Home, done: Callable[[Views], Any]) -> None:
    """In the home's thread: the views of the first `limit` that are wanted."""
    found: list[Any] = []
    views: Views = []

    def matching(members: tuple[Any, ...]) -> None:
        found.extend([member for member in members if _is_wanted(member, wanted)])

    def chosen() -> None:
        first = heapq.nsmallest(limit, found, key=_number)
        in_slices(home.loop, tuple(first), lambda part: views.extend(_views(part, home)), lambda: done(views), VIEWS)

    in_slices(home.loop, tuple(home.members), matching, chosen)


def _is_wanted(session: Any, wanted: AskSessions) -> bool:
    return (
        session.number > wanted.after
        and (not wanted.app or session.app.name == wanted.app)
        and (not wanted.listener or session.listener.address == wanted.listener)
        and (not wanted.target or _target_name(session) == wanted.target)
        and (not wanted.client or wanted.client in (ip_of(session.address), client_text(session.address)))
    )


def _views(sessions: tuple[Any, ...], home: Home) -> Views:
    """Of those that have not ended, or moved away, since they were found."""
    return [_view(session, home) for session in sessions if session in home.members]


def _look(number: int, home: Home) -> SessionView | None:
    session = _find(number, home)
    return None if session is None else _view(session, home)


def _close(number: int, home: Home) -> bool | None:
    session = _find(number, home)
    if session is None:
        return None
    session.kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
    return True


def _find(number: int, home: Home) -> Any:
    return next((member for member in home.members if member.number == number), None)


def _target_name(session: Any) -> str:
    target = session.target or (session.dial.target if session.dial is not None else None)
    return target.name if target is not None else ""


def _view(session: Any, home: Home) -> SessionView:
    now, dial = home.loop.now, session.dial
    bytes_up, bytes_down = _moved(session)
    started, connected = session.started, session.connected_at
    return SessionView(
        number=session.number,
        app=session.app.name,
        listener=session.listener.address,
        client=client_text(session.address),
        target=_target_name(session),
        state=session.state.name.lower(),
        tried=_tried(session.tried if dial is None else dial.tried),
        age=now - started,
        idle=now - session.last,
        connect_seconds=connected - started if connected >= 0 else -1.0,
        bytes_up=bytes_up,
        bytes_down=bytes_down,
        thread=home.loop.name,
    )


def _moved(session: Any) -> tuple[int, int]:
    """Bytes up and down. In mode http: of bodies, those of the exchange that goes on among them."""
    up, down, before_up, before_down = session.up, session.down, 0, 0
    if hasattr(session, "exchange"):  # an HttpSession; a tunnel is a plain one
        before_up, before_down = session.bytes_up, session.bytes_down
        if session.exchange is not None:
            up, down = session.exchange.up, session.exchange.down
    return before_up + (up.delivered if up is not None else 0), before_down + (down.delivered if down is not None else 0)


def _ended(record: tuple[Any, ...]) -> EndedView:
    id, app, listener, client, target, tried, *rest = record
    return EndedView(id, app, listener, client, target, _tried(tried), *rest)


def _tried(pairs: Any) -> tuple[Tried, ...]:
    return tuple(Tried(target, error) for target, error in pairs)
