"""What a client has sent, however it is cut: each byte is handed out once, in its order."""

import socket
from contextlib import ExitStack

import pytest
from dataplane.tls import tls_pair
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.dataplane.http.reader import RequestReader
from tcp_proxy.runtime.loop import READ
from tcp_proxy.sansio.http1.requests import Limits
from tcp_proxy.sansio.reasons import TLS_TRUNCATED
from tests.dataplane.http.rig import GET, pair

LIMITS = Limits(8192, 65536, 100)
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


@given(st.lists(st.integers(0, len(GET + POST) + 5), max_size=6))
def test_heads_and_bodies_are_as_they_were_sent(cuts):
    text = GET + POST + b"hello"
    with ExitStack() as stack:
        ours, theirs = pair(stack)
        stack.callback(ours.close)
        reader, methods = RequestReader(ours), []
        for first, after in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True):
            if text[first:after]:
                theirs.sendall(text[first:after])
            reader.receive(READ)
            while reader.input and len(methods) < 2:
                request = reader.next_request(LIMITS)
                if request is None:
                    assert reader.seen == len(reader.input)
                    break
                methods.append(request.method)
        assert methods == [b"GET", b"POST"]
        assert reader.take() == b"hello"
        assert reader.input == b""


def test_more_is_awaited_without_an_event_only_where_none_will_come():
    with ExitStack() as stack:
        ours, theirs = pair(stack)
        stack.callback(ours.close)
        reader = RequestReader(ours)
        theirs.sendall(b"GET")
        reader.receive(READ)
        assert not reader.unread
        reader.put_back(b"GET / ")
        assert (reader.input, reader.unread) == (b"GET / ", True)
        reader.receive(READ)
        assert not reader.unread
        theirs.close()
        reader.receive(READ)
        assert reader.is_ended
        assert reader.input == b"GET / "


def test_an_end_of_tls_that_was_read_with_the_last_bytes_is_asked_for():
    """close_notify without FIN: no event will tell of it."""
    with ExitStack() as stack:
        client, ours = map(stack.enter_context, tls_pair(*socket.socketpair()))
        reader = RequestReader(ours)
        client.sendall(GET)
        client.say_end()
        while not reader.input:
            reader.receive(READ)
        assert reader.unread
        reader.receive(READ)
        assert reader.is_ended


@pytest.mark.parametrize("said", [b"", b"GET / HT"])
def test_the_end_of_tls_that_nobody_has_said_is_an_end_between_two_requests_only(said):
    with ExitStack() as stack:
        client, ours = map(stack.enter_context, tls_pair(*socket.socketpair()))
        reader = RequestReader(ours)
        client.sendall(said or b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not reader.input:
            reader.receive(READ)
        if not said:
            assert reader.next_request(LIMITS) is not None
        client.raw.shutdown(socket.SHUT_WR)
        if said:
            with pytest.raises(OSError, match="close_notify") as raised:
                reader.receive(READ)
            assert raised.value.errno == TLS_TRUNCATED
        else:
            reader.receive(READ)
        assert reader.is_ended == (not said)
