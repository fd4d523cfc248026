"""The agent's end of the channel: messages in any pieces, pings answered by itself, an end that is told once."""

import asyncio
import logging
import socket

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control.cluster_agent.link import Link, LogLink
from tcp_proxy.wire import messages
from tcp_proxy.wire.cluster import JoinCluster, LeaveCluster
from tcp_proxy.wire.messages import Logged, Ping, Pong

JOIN = JoinCluster("c", "n", "i", ("http://a:1",), 10, "", ("", ""), "", "", "", 1.5, "info")


@given(st.lists(st.integers(1, 400)))
def test_any_cut(sizes):
    stream = b"".join(map(messages.encode, (JOIN, Ping(1), LeaveCluster())))
    received, ended = [], []

    async def whole():
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, link = await loop.create_connection(lambda: Link(received.append, lambda: ended.append(1)), sock=ours)
        rest = stream
        for size in [*sizes, len(stream)]:
            piece, rest = rest[:size], rest[size:]
            theirs.sendall(piece)
            await asyncio.sleep(0)
        theirs.shutdown(socket.SHUT_WR)
        while not ended:
            await asyncio.sleep(0)
        link.send(Pong(9))  # nobody hears it, and nothing happens
        said = theirs.recv(4096)
        theirs.close()
        transport.close()
        return said

    assert asyncio.run(whole()) == messages.encode(Pong(1))
    assert received == [JOIN, LeaveCluster()]
    assert ended == [1]


def test_what_is_logged_is_told():
    said = []
    link = Link(print, print)
    link.send = said.append
    handler = LogLink(link)
    handler.emit(logging.LogRecord("x", logging.WARNING, "", 0, "%s is so", ("it",), None))
    assert said == [Logged(logging.WARNING, "it is so")]
