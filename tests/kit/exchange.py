"""Bytes both ways at once: in pieces that the test chooses, or by the gigabyte."""

import hashlib
import os
import select
import socket
import threading

from kit.waiting import PATIENCE, Deadline

BLOCK = 1 << 20


class _Half:
    """One peer's part: what it still has to say, and what it heard."""

    def __init__(self, peer, data, cuts, wanted, fins):
        self.peer, self.view, self.cuts = peer, memoryview(data), iter(cuts)
        self.wanted, self.fins = wanted, fins
        self.heard = bytearray()
        self.said_all = False
        self.heard_all = not fins and not wanted

    @property
    def is_over(self):
        return self.said_all and self.heard_all

    @property
    def interest(self):
        return (0 if self.said_all else select.POLLOUT) | (0 if self.heard_all else select.POLLIN)

    def say(self):
        size = next(self.cuts, len(self.view))
        if self.view[:size]:
            sent = self.peer.sock.send(self.view[:size], socket.MSG_NOSIGNAL)
            self.peer.sent += sent
            self.view = self.view[sent:]
        if not self.view:
            self.said_all = True
            if self.fins:
                self.peer.fin()

    def hear(self):
        part = self.peer.sock.recv(BLOCK)
        self.heard += part
        self.peer.received += len(part)
        if not part:
            self.peer.ended = "fin"
            assert self.fins, f"{self.peer!r} ended after {len(self.heard)} of {self.wanted} bytes"
        self.heard_all = not part if self.fins else len(self.heard) >= self.wanted


def exchange(left, left_data, left_cuts, right, right_data, right_cuts, fins=True, seconds=PATIENCE):
    """Each says its data in pieces of the sizes in `cuts`, then the rest at once, while both read; what both heard.

    With `fins` each ends its direction when it has said everything, and both read until the other's end.
    """
    halves = [
        _Half(left, left_data, left_cuts, len(right_data), fins),
        _Half(right, right_data, right_cuts, len(left_data), fins),
    ]
    deadline = Deadline(seconds)
    by_fd = {half.peer.sock.fileno(): half for half in halves}
    while not all(half.is_over for half in halves):
        poll = select.poll()
        for fd, half in by_fd.items():
            if half.interest:
                poll.register(fd, half.interest)
        ready = poll.poll(deadline.left * 1000)
        if not ready:
            raise TimeoutError(f"{left!r} and {right!r} came to a stop: unsaid {[len(half.view) for half in halves]}")
        for fd, events in ready:
            half = by_fd[fd]
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and not half.heard_all:
                half.hear()
            if events & select.POLLOUT and not half.said_all:
                half.say()
    return bytes(halves[1].heard), bytes(halves[0].heard)


def send_stream(peer, count, digest, seconds):
    """`count` bytes no two megabytes of which are equal, and FIN; `digest` takes them too."""
    block = os.urandom(BLOCK - 8)
    for number in range(count // BLOCK):
        piece = number.to_bytes(8, "big") + block
        digest.update(piece)
        peer.send(piece, seconds)
    peer.fin()


def move_streams(left, right, up, down, seconds=60.0):
    """That many bytes (whole MiB) each way at once, and FIN; what arrived has the SHA-256 of what was sent."""
    sums = {left: hashlib.sha256(), right: hashlib.sha256()}
    senders = [
        threading.Thread(target=send_stream, args=(peer, count, sums[peer], seconds), name=f"sender-{count}")
        for peer, count in ((left, up), (right, down))
    ]
    arrived = {}
    reader = threading.Thread(target=lambda: arrived.update(up=right.digest_to_end(seconds)), name="reader-up")
    for thread in (*senders, reader):
        thread.start()
    arrived["down"] = left.digest_to_end(seconds)
    for thread in (*senders, reader):
        thread.join()
    assert arrived["up"] == (up, sums[left].hexdigest()), f"{right!r} got other bytes than {left!r} sent"
    assert arrived["down"] == (down, sums[right].hexdigest()), f"{left!r} got other bytes than {right!r} sent"
    return arrived["up"][0], arrived["down"][0]
