"""What a target has said: heads one by one, what comes behind them, its end and its error."""

import socket
from contextlib import ExitStack
from errno import ECONNRESET

from dataplane.tls import tls_pair
from hypothesis import given
from hypothesis import strategies as st

from kit.dialogue import OK
from kit.waiting import wait_until
from tcp_proxy.dataplane.http.response_reader import NOTHING_YET, ResponseReader
from tcp_proxy.sansio.http1.requests import Limits
from tests.dataplane.house import reset
from tests.dataplane.http.rig import pair

LIMITS = Limits(8192, 65536, 100)
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@given(st.lists(st.integers(0, len(HINTS + OK)), max_size=6))
def test_heads_come_whole_and_in_order(cuts):
    text = HINTS + OK
    with ExitStack() as stack:
        ours, theirs = pair(stack)
        stack.callback(ours.close)
        reader, statuses = ResponseReader(ours), []
        for first, after in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
            if text[first:after]:
                theirs.sendall(text[first:after])
                assert reader.receive() == len(text[first:after])
            else:
                assert reader.receive() == NOTHING_YET
            while len(statuses) < 2:
                response = reader.next_response(LIMITS, False)
                if response is None:
                    assert reader.seen == len(reader.heard)
                    break
                statuses.append(response.status)
        assert statuses == [103, 200]
        assert reader.take() == b"hello"
        assert (reader.heard, reader.seen) == (b"", 0)


def test_the_end_and_the_error():
    with ExitStack() as stack:
        for end, code in ((socket.socket.close, 0), (reset, ECONNRESET)):
            ours, theirs = pair(stack, socket.AF_INET)
            stack.callback(ours.close)
            reader = ResponseReader(ours)
            end(theirs)
            assert (reader.receive(), reader.code) == (0, code)


def test_an_end_of_tls_that_was_read_with_the_answer_says_that_there_may_be_more():
    """Else the connection would be kept, and used for the next request."""
    with ExitStack() as stack:
        target, ours = map(stack.enter_context, tls_pair(*socket.socketpair()))
        reader = ResponseReader(ours)
        target.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        wait_until(lambda: reader.receive() > 0, "an answer")
        assert not reader.was_full
        target.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        target.say_end()
        wait_until(lambda: reader.receive() > 0, "an answer")
        assert reader.was_full
