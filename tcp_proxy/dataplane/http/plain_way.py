"""The straight way of a plain request and of a plain answer (sansio/http1/plain.py): one read and one write for each, with
what is in between done in one place. Beside the general way, not in it: what turns out not to be plain goes on there.

Owned by the loop's thread; a client's connection holds one for all its requests, one after the other. It is the owner of the
connection to the target until the first event there; whatever that is, the exchange is from then on.

    READING ── one read is one plain request, and a connection to its target is kept ──> EXCHANGING ── one read is the
       │ else: connection.advance                                                             │    whole answer ──> READING
       v                                                                                      v else: exchange.heard
"""

from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.exchange import Exchange
from tcp_proxy.dataplane.http.owner import ExchangeOwner
from tcp_proxy.dataplane.http.reader import READABLE
from tcp_proxy.dataplane.session_state import ENDED
from tcp_proxy.runtime.loop import READ
from tcp_proxy.sansio.http1.fields import Fields
from tcp_proxy.sansio.http1.forward import Client, request_lines
from tcp_proxy.sansio.http1.plain import PlainAnswer, plain_answer, plain_request
from tcp_proxy.sansio.http1.requests import END, Request


class PlainOwner(ExchangeOwner):
    """Whose way it is."""

    exchange: Exchange | None


class PlainWay:
    __slots__ = ("_answer", "_fields", "_lines", "_request", "_said", "_who", "owner")
    __deletable__ = ("owner",)  # by its end, also where this is compiled

    def __init__(self, owner: PlainOwner) -> None:
        self.owner = owner
        # The last request and the last answer: one that is the same again is compared, which needs no hash of it.
        self._said = b""
        self._request: Request | None = None
        self._answer: PlainAnswer | None = None
        self._fields: Fields | None = None  # whose lines are `_lines`, and
        self._who: Client | None = None
        self._lines = b""  # of the target's head, between the first line and the number of the request

    def __repr__(self) -> str:
        return f"<PlainWay of {getattr(self, 'owner', None)!r}>"

    def begin(self) -> bool:
        """What the client has sent, if that is one plain request. False where there is something to do besides, and nothing
        was done."""
        connection = self.owner
        said, app, http_app = connection.reader.input, connection.app, connection.http_app
        request = self._request if said == self._said else plain_request(said)
        if request is None or not http_app.takes_plain or http_app.http is not app.http or connection.upstreams.resting:
            return False
        span = requests.span_of(connection, request)
        if span is not None and not span.dropped.isdisjoint(request.fields.values):
            return False
        route_targets, loop = http_app.route_targets(request), connection.thread.loop
        target = route_targets.choose(connection.key, loop.now, None) if route_targets is not None else None
        if target is None:
            return False
        connection.reader.input = b""
        self._said, self._request = said, request
        connection.requests += 1
        connection.head_begun = False
        exchange = connection.exchange = Exchange(connection, request, route_targets)
        exchange.span = span
        exchange.serve(target, target.cut)
        upstream = connection.upstreams.take_for(target, connection.listener.port)
        if upstream is None:
            exchange.dial(target)
            return True
        if request.fields is not self._fields or connection.who is not self._who:  # else it has sent the same before
            self._fields, self._who = request.fields, connection.who
            lines = request_lines(request, connection.who, request.fields.kept)
            self._lines = b"%bX-Request-ID: %b" % (lines, connection.name.encode())
        exchange.upstream = upstream
        upstream.owner = self
        connection.exchanging()
        try:
            traced = b"" if span is None else span.line
            upstream.writer.write(b"%b%b%d\r\n%b\r\n" % (request.line, self._lines, connection.requests, traced))
        except OSError as error:
            upstream.owner = exchange
            exchange.not_sent(upstream, error.errno or 0)
        return True

    def upstream_ready(self, events: int) -> None:
        """The first event since: the answer, mostly."""
        connection = self.owner
        exchange = connection.exchange
        assert exchange is not None
        upstream = exchange.upstream
        assert upstream is not None
        upstream.owner = exchange
        writer = connection.writer
        if events & READABLE != READ or writer.blocked or upstream.writer.blocked or connection.shared.draining:
            exchange.upstream_ready(events)
            return
        reader, now = upstream.reader, connection.thread.loop.now
        connection.timers.last = now
        size = reader.receive()
        data = reader.heard
        answer = self._answer
        end = len(answer.said) if answer is not None else 0
        if answer is None or data[:end] != answer.said:
            end = data.find(END) + len(END)
            answer = self._answer = plain_answer(data[:end])
        if size <= 0 or answer is None or answer.response.length != len(data) - end:
            if exchange.heard(upstream, size, events):
                exchange.hear(upstream, events)
            return
        reader.heard = b""
        exchange.response = answer.response
        exchange.status = answer.response.status
        exchange.answered_at = now
        exchange.keep = True
        exchange.bytes_down = len(data) - end
        if not connection.write(answer.head + data[end:]):
            return
        if writer.blocked:  # over when the client has taken it
            exchange.down = Body(connection.thread.loop, exchange, upstream.sock, writer, 0, is_answer=True)
        elif upstream.holder is not None or not upstream.is_as_wanted:
            exchange.over()
        else:
            http = connection.http_app.http
            upstream.is_drained = not reader.was_full
            exchange.upstream = None
            connection.shared.upstreams.put(upstream, http.upstream_connections, http.upstream_idle)
            requests.ended(exchange, ENDED)
            connection.exchange_over(True)
