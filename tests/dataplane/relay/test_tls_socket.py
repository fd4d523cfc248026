"""A TLS socket has the face of a plain one: the traps of OpenSSL and of Python's ssl, with real sockets and openssl."""

import errno
import fcntl
import os
import socket
import ssl
import struct
import subprocess
import sys
import termios
from contextlib import ExitStack, suppress

import pytest
from dataplane.tls import KeyUpdates, TlsPeer, client_context, contexts, raw, server_context, shake
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.clogged import SETTLED
from kit.programs import need
from kit.waiting import pause, wait_until
from tcp_proxy.dataplane.relay.tls_socket import READ_MOST, SEND_MOST, WASTED_MOST, TlsSocket
from tcp_proxy.runtime.tls import HandshakeFailed
from tcp_proxy.sansio.reasons import TLS_FAULT, TLS_TRUNCATED

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def pair(request, stack):
    """(peer, ours), over TCP."""
    return tcp_tls(stack, request.param)


def tcp_pair(stack):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = stack.enter_context(socket.create_connection(listener.getsockname()))
        return near, stack.enter_context(listener.accept()[0])


def tcp_tls(stack, version=None):
    server, client = contexts(version)
    near, far = tcp_pair(stack)
    peer, ours = TlsPeer(near, client, False, "localhost"), TlsSocket(far, server, True)
    stack.callback(peer.close)
    stack.callback(ours.close)
    for sock in (peer, ours):
        os.set_blocking(sock.fileno(), False)
    shake(peer, ours)
    return peer, ours


def receive(sock, size):
    """So many bytes, or what came before the end."""
    got = bytearray()

    def have():
        try:
            part = sock.recv(size - len(got), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        got.extend(part)
        return len(got) == size or not part

    wait_until(have, lambda: f"{len(got)} of {size} bytes came")
    return bytes(got)


def error_of(sock):
    """The errno that recv comes to."""
    found = []

    def has_failed():
        try:
            assert sock.recv(1 << 16, socket.MSG_DONTWAIT), "an end"
        except BlockingIOError:
            return False
        except OSError as error:
            found.append(error.errno)
            return True
        return False

    wait_until(has_failed, "no error came")
    return found[0]


def readable(sock):
    wait_until(lambda: peek_raw(sock), "nothing came")


def peek_raw(sock):
    try:
        return sock.raw.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True


# -- ends


def test_half_close_one_way_while_the_other_goes_on(pair):
    peer, ours = pair
    ours.shutdown(socket.SHUT_WR)
    assert receive(peer, 1) == b""
    peer.send(b"late")
    assert receive(ours, 4) == b"late"
    with pytest.raises(BlockingIOError):
        ours.recv(1, FLAGS)
    peer.shutdown(socket.SHUT_WR)
    assert receive(ours, 1) == b""
    assert ours.is_ended
    assert receive(ours, 1) == b"", "and again"


def test_after_our_end_nothing_can_be_sent(pair):
    _, ours = pair
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError, match="shutdown") as raised:
        ours.send(b"x", FLAGS)
    assert raised.value.errno == errno.EPIPE


def test_what_came_before_our_end_is_not_lost_by_it(pair):
    """OpenSSL's shutdown reads on and throws away what it finds."""
    peer, ours = pair
    peer.sendall(b"a" * 40_000)
    readable(ours)
    assert receive(ours, 10) == b"a" * 10  # the rest is in memory
    ours.shutdown(socket.SHUT_WR)
    peer.sendall(b"b" * 10)
    assert receive(ours, 40_000) == b"a" * 39_990 + b"b" * 10


def test_an_end_without_close_notify_is_no_end(pair):
    peer, ours = pair
    peer.sendall(b"a part")
    peer.raw.shutdown(socket.SHUT_WR)
    assert receive(ours, 6) == b"a part"
    assert error_of(ours) == TLS_TRUNCATED
    assert error_of(ours) == TLS_TRUNCATED, "and again"


def test_not_even_where_openssl_is_told_to_take_it_for_one(stack):
    """As Debian's Python 3.11.2 does by itself."""
    server, client = server_context(), client_context()
    server.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    near, far = tcp_pair(stack)
    peer, ours = TlsPeer(near, client, False, "localhost"), TlsSocket(far, server, True)
    with peer:
        stack.callback(ours.close)
        os.set_blocking(peer.fileno(), False)
        shake(peer, ours)
        peer.raw.shutdown(socket.SHUT_WR)
        assert error_of(ours) == TLS_TRUNCATED


def test_a_record_that_is_cut_off_is_no_end(pair):
    peer, ours = pair
    out = encrypted(peer, b"x" * 1000)
    peer.raw.send(out[:500])
    peer.raw.shutdown(socket.SHUT_WR)
    assert error_of(ours) == TLS_TRUNCATED


def test_a_reset_is_told_after_what_came_before_it(pair):
    peer, ours = pair
    peer.sendall(b"last words")
    readable(ours)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    assert receive(ours, 10) == b"last words"
    assert error_of(ours) == errno.ECONNRESET
    assert error_of(ours) == errno.ECONNRESET, "the kernel tells it once"


def test_bytes_that_are_no_tls_are_a_fault_after_what_came_before(pair):
    peer, ours = pair
    peer.sendall(b"good")
    peer.raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert receive(ours, 4) == b"good"
    assert error_of(ours) == TLS_FAULT
    assert error_of(peer) == TLS_FAULT, "an alert has told it"


def test_an_end_that_has_no_room_is_said_later(stack):
    peer, ours = tcp_tls(stack)
    sent = fill(ours)
    with pytest.raises(BlockingIOError):
        ours.shutdown(socket.SHUT_WR)
    got = 0
    while not peer.is_ended:
        try:
            got += len(peer.recv(1 << 20))
        except BlockingIOError:
            pass
        try:
            ours.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
    assert got == sent


def test_the_end_of_who_has_gone_after_his_own_is_no_error(stack):
    peer, ours = tcp_tls(stack)
    peer.shutdown(socket.SHUT_WR)
    assert receive(ours, 1) == b""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    wait_until(lambda: ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "no reset")
    with suppress(BrokenPipeError, ConnectionResetError):  # of the write, which its caller passes over: `is_ended` tells
        ours.shutdown(socket.SHUT_WR)
    assert ours.is_ended


# -- bytes


def encrypted(peer, data):
    """What would be sent for it."""
    peer.stream.write(data)
    return peer._unsent.read()


def fill(sock):
    """Send until there is no room, and none a moment later; how many bytes will arrive."""
    sent = left = 0
    while True:
        try:
            sent += sock.send(bytes(SEND_MOST), FLAGS)
        except BlockingIOError:
            if sock._taken:
                sock._taken = 0  # as if the caller had asked, and been told
                sent += SEND_MOST
            elif len(sock._wait) == left:
                return sent
            left = len(sock._wait)
            pause(SETTLED)


def test_all_records_that_have_come_are_one_read(pair):
    peer, ours = pair
    for _ in range(10):
        peer.sendall(b"x" * 100)
    readable(ours)
    wait_until(lambda: len(ours.raw.recv(1 << 16, socket.MSG_PEEK)) > 1200, "all ten")
    assert len(ours.recv(65536, FLAGS)) == 1000


def test_a_short_read_says_that_the_socket_is_empty(stack):
    peer, ours = tcp_tls(stack)
    data = os.urandom(400_000)
    rest, got = data, bytearray()
    while len(got) < len(data):
        try:
            rest = rest[peer.send(rest) :] if rest else rest
        except BlockingIOError:
            pass
        if peer.has_unsent:
            peer.flush()
        try:
            part = ours.recv(65536, FLAGS)
        except BlockingIOError:
            continue
        got += part
        if len(part) < 65536:
            assert not ours._is_full
    assert bytes(got) == data


def test_a_part_of_a_record_leaves_the_rest_for_the_next_read(pair):
    peer, ours = pair
    data = os.urandom(40_000)
    peer.sendall(data)
    got = bytearray()
    while len(got) < len(data):
        if not ours.has_unread:
            readable(ours)
        for size in (1, 7, 16384, 5, 20_000, 3):
            try:
                part = ours.recv(min(size, len(data) - len(got)) or 1, FLAGS)
            except BlockingIOError:
                break
            got += part
    assert bytes(got) == data


def test_what_is_sent_is_encrypted_a_record_at_a_time(stack):
    """OpenSSL's memory keeps the size of the most that it ever held."""
    peer, ours = tcp_tls(stack)
    data = os.urandom(SEND_MOST)
    sent, got = memoryview(data), bytearray()
    while len(got) < len(data):
        try:
            sent = sent[ours.send(sent, FLAGS) :] if sent else sent
        except BlockingIOError:
            pass
        if ours.has_unsent:
            ours.flush()
        try:
            got += peer.recv(1 << 18, FLAGS)
        except BlockingIOError:
            pass
    assert bytes(got) == data
    assert not ours._unsent.pending


def test_a_rest_between_two_pieces_loses_nothing(pair):
    peer, ours = pair
    for size in (100, 40_000, 1, 200_000):
        data, got = os.urandom(size), bytearray()
        ours.rest()
        for sender, reader in ((peer, ours), (ours, peer)):
            rest, got = memoryview(data), bytearray()
            while len(got) < len(data):
                try:
                    rest = rest[sender.send(rest, FLAGS) :] if rest else rest
                except BlockingIOError:
                    pass
                if sender.has_unsent:
                    sender.flush()
                ours.rest()
                try:
                    got += reader.recv(65536, FLAGS)
                except BlockingIOError:
                    pass
            assert bytes(got) == data


def test_a_reader_that_stops_holds_a_bounded_piece(stack):
    peer, ours = tcp_tls(stack)
    for _ in range(200):
        try:
            peer.send(bytes(60_000))
        except BlockingIOError:
            break
        ours.recv(1, FLAGS)
        assert ours._arrived.pending <= READ_MOST + 20_000


def test_what_has_no_room_goes_out_once_and_in_order(stack):
    """After SSLWantWriteError other bytes would put the old ones on the wire: here they are ours until they are gone."""
    peer, ours = tcp_tls(stack)
    data = os.urandom(6_000_000)
    rest, got, blocked = memoryview(data), bytearray(), 0
    while len(got) < len(data):
        try:
            while rest:
                rest = rest[ours.send(rest, FLAGS) :]
        except BlockingIOError:
            blocked += 1
        try:
            got += peer.recv(300_000)
        except BlockingIOError:
            pass
    assert bytes(got) == data
    assert blocked


def test_a_longer_piece_may_be_offered_after_a_full_socket(stack):
    """As a writer does that was given more meanwhile."""
    peer, ours = tcp_tls(stack)
    sent, want = bytearray(), bytearray()
    pending = b""
    got = bytearray()
    for number in range(2000):
        pending += bytes([number % 251]) * 5_000
        want += bytes([number % 251]) * 5_000
        try:
            while pending:
                size = ours.send(pending, FLAGS)
                sent += pending[:size]
                pending = pending[size:]
        except BlockingIOError:
            pass
        if number > 1000:
            try:
                got += peer.recv(1 << 20)
            except BlockingIOError:
                pass
    while len(got) < len(want):
        try:
            while pending:
                pending = pending[ours.send(pending, FLAGS) :]
        except BlockingIOError:
            pass
        try:
            got += peer.recv(1 << 20)
        except BlockingIOError:
            pass
    assert got == want


def test_a_look_takes_nothing(pair):
    peer, ours = pair
    with pytest.raises(BlockingIOError):
        ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    peer.sendall(b"abc")
    readable(ours)
    assert ours.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"a"
    peer.sendall(b"def")
    assert ours.recv(2, socket.MSG_PEEK | socket.MSG_DONTWAIT) in (b"a", b"ab")
    assert receive(ours, 6) == b"abcdef"


def test_session_tickets_are_no_bytes(stack):
    """TLS 1.3: they lie in the client's socket when the handshake is over."""
    peer, _ = tcp_tls(stack)
    with pytest.raises(BlockingIOError):
        peer.recv(1, socket.MSG_PEEK)


def asked_at_once(stack, version, question=b""):
    """(peer, ours): ours has just shaken, with `question` of the client behind its last message, and reads next."""
    server, client = contexts(version)
    near, far = tcp_pair(stack)
    peer, ours = TlsPeer(near, client, False, "localhost"), TlsSocket(far, server, True)
    stack.callback(peer.close)
    stack.callback(ours.close)
    for sock in (peer, ours):
        os.set_blocking(sock.fileno(), False)

    def step():
        with suppress(BlockingIOError):
            ours.begin(ours.raw.recv(1 << 16))
        return ours.step(is_read_next=True)

    wait_until(lambda: peer.handshake() | step(), "no handshake")
    wait_until(peer.handshake, "no handshake")
    if question:
        peer.sendall(question)
        readable(ours)
    wait_until(step, "no handshake")
    return peer, ours


def test_tickets_go_with_the_first_answer_to_who_has_asked_already(stack):
    peer, ours = asked_at_once(stack, ssl.TLSVersion.TLSv1_3, b"question")
    assert receive(ours, 8) == b"question"
    assert not peek_raw(peer), "each send wakes the client up"
    assert ours.send(b"answer", FLAGS) == 6
    readable(peer)
    assert receive(peer, 6) == b"answer"
    assert peer.stream.session.has_ticket


def test_who_has_not_asked_has_them_at_once(stack):
    peer, ours = asked_at_once(stack, ssl.TLSVersion.TLSv1_3)
    assert not peek_raw(peer)
    with pytest.raises(BlockingIOError):
        ours.recv(100, FLAGS)
    readable(peer)


def test_who_asks_for_long_has_them_before_the_answer(stack):
    peer, ours = asked_at_once(stack, ssl.TLSVersion.TLSv1_3, b"question")
    assert receive(ours, 8) == b"question"
    with pytest.raises(BlockingIOError):
        ours.recv(100, FLAGS)
    readable(peer)


def test_the_last_message_of_tls_1_2_waits_for_nothing(stack):
    peer, ours = asked_at_once(stack, ssl.TLSVersion.TLSv1_2)  # whose handshake is not over without it
    peer.sendall(b"question")
    assert receive(ours, 8) == b"question"


@pytest.mark.parametrize("sizes", [(1, 5), (5, 1), (3, 20_000), (20_000, 3), (16_384, 16_384), (70_000, 1)])
@pytest.mark.parametrize("most", [1, 2, 1000, 16_384, 65_536])
def test_pieces_of_any_size_come_whole_whatever_is_asked_for(stack, sizes, most):
    peer, ours = tcp_tls(stack)
    sent = [os.urandom(size) for size in sizes]
    got = bytearray()
    for piece in sent:
        peer.sendall(piece)
        while len(got) < sum(map(len, sent[: sent.index(piece) + 1])):
            with suppress(BlockingIOError):
                part = ours.recv(most, FLAGS)
                assert 0 < len(part) <= most
                got += part
            with suppress(BlockingIOError):
                peer.flush()
        assert not ours.has_unread
    assert got == b"".join(sent)


def test_who_asks_and_does_not_read_is_given_up(stack):
    peer, ours = tcp_tls(stack)
    fill(ours)

    def ask():
        for _ in range(400):
            ours._unsent.write(bytes(20_000))
            peer.sendall(b"x")
            readable(ours)
            ours.recv(100, FLAGS)

    with pytest.raises(OSError, match="asks, and does not read") as raised:
        ask()
    assert raised.value.errno == errno.ENOBUFS


UPDATE = 27  # bytes of a key update on the wire


def all_there(sock, size):
    """So many bytes wait in the socket."""
    wait_until(lambda: waiting(sock) >= size, lambda: f"{waiting(sock)} of {size} bytes came")


def waiting(sock):
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


@pytest.mark.parametrize("is_answered", [False, True])
def test_a_peer_that_says_nothing_but_key_updates_is_given_up(stack, is_answered):
    """In one read, which would not come to an end while it sends."""
    peer, ours = tcp_tls(stack)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    updates = KeyUpdates(peer).records(WASTED_MOST // UPDATE + 1000, is_answered=is_answered)
    peer.raw.send(updates)
    all_there(ours, len(updates))
    for _ in range(2):
        with pytest.raises(OSError, match="says nothing but messages of TLS") as raised:
            ours.recv(1 << 16, FLAGS)
        assert raised.value.errno == TLS_FAULT


def test_key_updates_with_a_byte_between_them_go_by(stack):
    """However many there are."""
    peer, ours = tcp_tls(stack)
    updates, count = KeyUpdates(peer), WASTED_MOST // UPDATE // 4
    for _ in range(8):
        data = updates.records(count, between=b"x")
        peer.raw.send(data)
        all_there(ours, len(data))
        assert receive(ours, count) == b"x" * count


# -- the handshake


def ends(stack, server, client, name="localhost"):
    near, far = tcp_pair(stack)
    peer, ours = TlsPeer(near, client, False, name), TlsSocket(far, server, True)
    stack.callback(peer.close)
    stack.callback(ours.close)
    return peer, ours


def fails(sock):
    found = []

    def has_failed():
        try:
            assert not sock.handshake(), "a handshake"
        except HandshakeFailed as error:
            found.append(error.strerror)
        except OSError as error:
            found.append(f"errno {error.errno}")
        return bool(found)

    wait_until(has_failed, "it does not fail")
    return found[0]


def test_a_client_that_speaks_no_tls(stack):
    near, far = tcp_pair(stack)
    ours = TlsSocket(far, contexts()[0], True)
    stack.callback(ours.close)
    near.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert fails(ours) == "http request"


def test_a_client_that_ends_or_resets_in_its_handshake(stack):
    for how in ("end", "reset"):
        near, far = tcp_pair(stack)
        ours = TlsSocket(far, contexts()[0], True)
        stack.callback(ours.close)
        assert not ours.handshake()
        near.sendall(b"\x16\3\1")
        if how == "reset":
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near.close()
        assert fails(ours) == ("errno 0" if how == "end" else f"errno {errno.ECONNRESET}")


def test_a_certificate_that_does_not_fit_and_its_alert(stack):
    peer, ours = ends(stack, server_context(version=ssl.TLSVersion.TLSv1_2), client_context(), "other.example")
    peer.handshake()
    wait_until(lambda: ours.handshake() is not None, "")
    assert fails(peer).startswith("certificate verify failed: Hostname mismatch")
    assert fails(ours) == "sslv3 alert bad certificate"


def test_an_authority_that_is_not_known_is_told_by_an_alert(stack):
    strange = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    peer, ours = ends(stack, server_context(version=ssl.TLSVersion.TLSv1_2), strange)
    peer.handshake()
    wait_until(lambda: ours.handshake() is False and peek_raw(peer), "")
    assert fails(peer).startswith("certificate verify failed: unable to get local issuer certificate")
    assert fails(ours) == "tlsv1 alert unknown ca"


def test_a_version_that_is_too_old(stack):
    server, client = server_context(), client_context()
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    peer, ours = ends(stack, server, client)
    peer.handshake()
    assert fails(ours) == "unsupported protocol"
    assert "alert protocol version" in fails(peer)


def test_what_was_read_before_goes_in_first(stack):
    near, far = tcp_pair(stack)
    peer = TlsPeer(near, contexts()[1], False, "localhost")
    stack.callback(peer.close)
    peer.handshake()
    first = far.recv(100)
    ours = TlsSocket(raw(far), contexts()[0], True)
    stack.callback(ours.close)
    ours.begin(first)
    shake(peer, ours)


@given(cuts=st.lists(st.integers(1, 700), min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_a_connection_cut_anywhere(cuts):
    """A handshake and some bytes both ways, carried in pieces."""
    with ExitStack() as stack:
        near, near_end = (stack.enter_context(sock) for sock in socket.socketpair())
        far, far_end = (stack.enter_context(sock) for sock in socket.socketpair())
        peer = stack.enter_context(TlsPeer(near, contexts()[1], False, "localhost"))
        ours = stack.enter_context(TlsPeer(far, contexts()[0], True))
        for sock in (near_end, far_end):
            sock.setblocking(False)
        done = {peer: False, ours: False}
        said = {peer: b"question" * 3000, ours: b"answer" * 3000}
        got = {peer: bytearray(), ours: bytearray()}

        def turn(sock):
            if not done[sock]:
                done[sock] = sock.handshake()
                if done[sock]:
                    sock.sendall(said[sock])
                    sock.shutdown(socket.SHUT_WR)
            else:
                got[sock] += sock.recv(1 << 16)

        for number in range(100_000):
            with suppress(BlockingIOError):
                turn(peer)
            with suppress(BlockingIOError):
                turn(ours)
            size = cuts[number % len(cuts)]
            for source, dest in ((near_end, far_end), (far_end, near_end)):
                with suppress(BlockingIOError):
                    dest.sendall(source.recv(size))
            if peer.is_ended and ours.is_ended:
                break
        assert bytes(got[ours]) == said[peer]
        assert bytes(got[peer]) == said[ours]


# -- openssl itself


@pytest.mark.parametrize("command", ["K", "k"], ids=["both ways", "one way"])
def test_key_updates_go_by_unnoticed(command, stack):
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = subprocess.Popen(
        [need("openssl"), "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-tls1_3", "-brief"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    stack.enter_context(client)
    stack.callback(client.kill)
    ours = TlsSocket(raw(listener.accept()[0]), contexts()[0], True)
    stack.callback(ours.close)
    wait_until(ours.handshake, "no handshake")
    for number in range(5):
        client.stdin.write(f"{command}\n".encode())
        client.stdin.flush()
        readable(ours)  # it has told us; what it reads together with the command it would throw away
        client.stdin.write(f"hello {number}\n".encode())
        client.stdin.flush()
        assert receive(ours, 8) == f"hello {number}\n".encode()
        ours.send(b"world\n", FLAGS)
        while (line := client.stdout.readline()) != b"world\n":
            assert line, "openssl has ended"
