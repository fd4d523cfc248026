"""How an exchange ends: a part of Exchange (exchange.py), apart only for its size; owned by the loop's thread.

The target may stop taking the request and still answer: nothing more is sent then, and what it says is heard out. An
answer is whole, or broken off, or there is none and the client gets one of ours; each exchange has exactly one of these
ends, and `release` lets go of everything.
"""

from errno import EPIPE
from typing import TYPE_CHECKING

from tcp_proxy.dataplane.apps import LiveTarget
from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.upstreams import Upstream
from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import Response
from tcp_proxy.sansio.reasons import Reason, Side, errno_name

if TYPE_CHECKING:
    from tcp_proxy.dataplane.http.session import HttpSession


class Outcome:
    """`response` is None until its head has come; `status` is what the client was told."""

    session: "HttpSession"
    request: Request
    answered_at = -1.0
    status = 0
    served_by = ""  # the name of the last target
    bytes_up = bytes_down = 0  # of the bodies, when it is over
    target: LiveTarget | None = None
    cut = 0
    upstream: Upstream | None = None
    tried: tuple[tuple[str, str], ...] = ()
    up: Body | None = None
    down: Body | None = None
    heard = b""
    seen = 0  # so much of it was looked at
    response: Response | None = None
    retried = False  # or an interim answer has come: nothing is sent a second time
    ending = 0
    up_failed = False
    reset_code = 0  # what sending met: the target's connection did not end, it was reset
    keep = False
    upgrade = b""

    def cut_off(self, reason: Reason) -> None:
        """The target is not to serve any more, by our own decision."""
        self._fail(502, "the target was taken out of service", reason, Side.PROXY)

    def timed_out(self) -> None:
        """No byte in any direction for `timeouts.response`."""
        session, up, down = self.session, self.up, self.down
        if down is not None and down.done:
            self._over()
        elif self.response is not None:
            self._fail(504, "the target went silent in its answer", Reason.IDLE_TIMEOUT, Side.TARGET)
        elif up is not None and not up.done and not up.outlet.blocked and not self._is_client_waiting:
            self._fail(408, "the rest of the request did not come in time", Reason.IDLE_TIMEOUT, Side.CLIENT)
        else:
            seconds = f"{session.site.timeouts.response:g}"
            self._fail(504, f"the target did not answer within {seconds} seconds", Reason.IDLE_TIMEOUT, Side.TARGET)

    @property
    def _is_client_waiting(self) -> bool:
        """For the word of the target before it sends its body (Expect: 100-continue)."""
        return self.request.expects and not self.retried and self.up is not None and not self.up.moved

    def _cannot_send(self, code: int) -> None:
        """The target takes no more of the request; perhaps because it has answered already."""
        upstream, up = self.upstream, self.up
        assert upstream is not None
        if up is not None:
            up.moved -= upstream.outlet.waiting()
            up.stop()
        upstream.outlet.give_up(self.session.front.pipes)
        self.up_failed = True
        if code != EPIPE:  # that is an end that has been heard
            self.reset_code = code
        if self.response is None:
            self._hear(0)
        elif self.down is not None:
            self.down.code = self.reset_code
            if self.down.done:
                self._over()

    def _lost(self, code: int, nothing_sent: bool = False) -> None:
        """The target's connection ended before there was an answer."""
        upstream, target = self.upstream, self.target
        assert upstream is not None
        assert target is not None
        stale = upstream.is_used and not self.heard and self.request.is_idempotent and self.up is None
        if (nothing_sent or stale) and not self.retried:
            self.retried = True
            self.session.front.upstreams.close(upstream)
            self.upstream = None
            self.ending = self.reset_code = 0
            self.up_failed = False
            self._dial(target)
            return
        how = f"reset its connection ({errno_name(code)})" if code else "closed its connection"
        self._fail(502, f"the target {how} without an answer", Reason.TARGET_RESET, Side.TARGET)

    def _bad_answer(self, error: Refused) -> None:
        self._fail(502, f"the target's answer has {error}", Reason.PROTOCOL_ERROR, Side.TARGET)

    def _fail(self, status: int, text: str, reason: Reason, side: Side) -> None:
        """`side`: whose fault it is. The client is told, or reset where it has heard a part of the answer."""
        session, is_read = self.session, self._is_read
        if side is Side.TARGET:
            requests.target_failed(self)
        self.release(reset=True)
        if self.response is None:
            session.answer(status, text, is_read, self, reason)
        else:
            requests.ended(self, reason)
            session.break_off(reason, side)

    def _over(self) -> None:
        """The last byte of the answer is written."""
        session, upstream, response, up, down = self.session, self.upstream, self.response, self.up, self.down
        assert upstream is not None
        assert response is not None
        sent = (up is None or up.done) and not self.up_failed and not upstream.outlet.blocked
        clean = not self.ending and (down is None or not (down.rest or down.source_ended))
        if sent and clean and response.keeps:
            http = session.site.http
            session.front.upstreams.put(upstream, http.upstream_connections, http.upstream_idle)
            self.upstream = None
        self.release(reset=not sent)
        requests.ended(self, Reason.DONE)
        session.exchange_over(self.keep)

    def release(self, reset: bool) -> None:
        """Let everything go that is not the client's, but the target: it is given back when all is counted."""
        upstream, up, down = self.upstream, self.up, self.down
        if up is not None:
            self.bytes_up = up.delivered
            up.stop()
        if down is not None:
            self.bytes_down = down.delivered or self.bytes_down
            down.stop()
        if upstream is not None:
            self.upstream = None
            upstream.owner = None
            self.session.front.upstreams.close(upstream, reset)

    @property
    def _is_read(self) -> bool:
        """Whether the whole request has been read, so that what comes next is the next one."""
        return not self.request.length if self.up is None else self.up.done and not self.up_failed

    def _dial(self, target: LiveTarget) -> None:
        raise NotImplementedError

    def _hear(self, events: int) -> None:
        raise NotImplementedError
