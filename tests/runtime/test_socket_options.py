"""What the kernel does with the options of section 9: inherited, counted, refused, reset. Loopback sockets only."""

import select
import socket
from contextlib import ExitStack

import pytest

from kit.clogged import fill
from kit.waiting import Stopwatch, pause, wait_until
from tcp_proxy.runtime import socket_options
from tcp_proxy.runtime.socket_options import (
    FIRST_OPTIONS,
    Refusal,
    has_ended,
    hear_every_hop,
    keepalive_options,
    outstanding,
    refusal,
    refuse_by_filter,
    refuse_by_hop_limit,
    refuse_new_connections,
    reset_on_close,
    set_options,
    unanswered,
    waiting,
)

TCP = socket.IPPROTO_TCP
HOSTS = ["127.0.0.1", "::1"]


class Rig:
    """A listening socket and whoever connects; everything is closed at the end."""

    def __init__(self, host="127.0.0.1", backlog=128):
        self.stack = ExitStack()
        self.listener = self.own(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
        self.listener.bind((host, 0))
        self.listener.listen(backlog)
        self.listener.settimeout(5)

    def own(self, sock):
        sock.settimeout(5)
        return self.stack.enter_context(sock)

    def client(self):
        """A client whose handshake is complete."""
        return self.own(socket.create_connection(self.listener.getsockname()[:2]))

    def accept(self):
        return self.own(self.listener.accept()[0])

    def pair(self):
        return self.client(), self.accept()

    def try_connect(self):
        """A client that has just sent its SYN."""
        client = self.own(socket.socket(self.listener.family))
        client.setblocking(False)
        client.connect_ex(self.listener.getsockname())
        return client


@pytest.fixture(params=HOSTS)
def rig(request):
    rig = Rig(request.param)
    with rig.stack:
        yield rig


def events(sock, mask, seconds=5.0):
    poll = select.poll()
    poll.register(sock, mask)
    return dict(poll.poll(seconds * 1000)).get(sock.fileno(), 0)


def fill_up(sock):
    sock.setblocking(False)
    total = fill(sock)
    sock.settimeout(5)
    return total


# -- options


@pytest.mark.parametrize(
    ("name", "level", "option", "value"),
    [
        ("no delay", TCP, socket.TCP_NODELAY, 1),
        ("urgent data in its place", socket.SOL_SOCKET, socket.SO_OOBINLINE, 1),
        ("keep-alive", socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ("silence before the first probe", TCP, socket.TCP_KEEPIDLE, 45),
        ("between probes", TCP, socket.TCP_KEEPINTVL, socket_options.KEEPALIVE_INTERVAL),
        ("probes", TCP, socket.TCP_KEEPCNT, socket_options.KEEPALIVE_PROBES),
    ],
)
def test_what_is_accepted_inherits(rig, name, level, option, value):
    _, plain = rig.pair()
    assert plain.getsockopt(level, option) != value, "the kernel's default would prove nothing"
    set_options(rig.listener, FIRST_OPTIONS + keepalive_options(45))
    _, accepted = rig.pair()
    assert accepted.getsockopt(level, option) == value, name


def test_keepalive_is_never_rounded_to_nothing(rig):
    """0 would be EINVAL."""
    for seconds, wanted in ((0.2, 1), (1.4, 1), (2.6, 3), (60, 60)):
        set_options(rig.listener, keepalive_options(seconds))
        assert rig.listener.getsockopt(TCP, socket.TCP_KEEPIDLE) == wanted


def test_urgent_data_comes_in_its_place(rig):
    set_options(rig.listener, FIRST_OPTIONS)
    client, accepted = rig.pair()
    client.sendall(b"a")
    client.send(b"!", socket.MSG_OOB)
    client.sendall(b"z")
    client.close()
    assert b"".join(iter(lambda: accepted.recv(10), b"")) == b"a!z"


# -- no new connections


@pytest.fixture(params=[refuse_by_filter, refuse_by_hop_limit, refuse_new_connections])
def refuse(request):
    """Each way to refuse; the first needs a privilege, which the one that chooses does without."""
    if request.param is refuse_by_filter and refusal() is not Refusal.FILTER:
        pytest.skip("a filter on a TCP socket needs CAP_NET_ADMIN here")

    def refuse(sock):
        assert request.param(sock)

    return refuse


def test_a_listener_that_refuses_answers_no_syn(rig, refuse):
    refuse(rig.listener)
    late = rig.try_connect()
    assert events(late, select.POLLOUT, 0.3) == 0, "neither connected nor refused"
    assert events(rig.listener, select.POLLIN, 0) == 0


def test_clients_whose_handshake_is_complete_are_still_accepted(rig, refuse):
    clients = [rig.client() for _ in range(20)]
    refuse(rig.listener)
    for number, client in enumerate(clients):
        client.sendall(b"%02d" % number)
    accepted = [rig.accept() for _ in clients]
    for sock in accepted:
        hear_every_hop(sock)
    assert sorted(sock.recv(2) for sock in accepted) == [b"%02d" % number for number in range(20)]
    rig.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        rig.listener.accept()


def test_what_was_accepted_before_or_after_goes_on_in_both_directions(rig, refuse):
    pairs = [rig.pair()]
    waiting = rig.client()
    refuse(rig.listener)
    pairs.append((waiting, rig.accept()))
    hear_every_hop(pairs[1][1])
    for client, server in pairs:
        for one, other in ((client, server), (server, client)):
            one.sendall(b"x" * 100_000)
            got = 0
            while got < 100_000:
                got += len(other.recv(1 << 20))
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"after the FIN")
        assert client.recv(100) == b"after the FIN"
        server.close()
        assert client.recv(1) == b""


def test_a_refusal_of_one_copy_holds_for_all(rig, refuse):
    """The supervisor attaches the filter once; the workers have copies of the same socket."""
    copy = rig.own(rig.listener.dup())
    refuse(copy)
    assert events(rig.try_connect(), select.POLLOUT, 0.2) == 0


def test_a_refusal_may_be_said_twice(rig, refuse):
    """By the supervisor, and by a worker that has lost it."""
    before = rig.client()
    refuse(rig.listener)
    refuse(rig.listener)
    rig.accept().sendall(b"x")
    assert before.recv(1) == b"x"


def test_a_refused_client_reaches_the_next_listener_on_that_port(rig, refuse):
    """Its SYN is sent again after a second, to whoever listens then: nobody was told no."""
    address = rig.listener.getsockname()
    refuse(rig.listener)
    late = rig.try_connect()
    assert events(late, select.POLLOUT, 0.05) == 0
    rig.listener.close()
    with socket.socket(rig.listener.family) as successor:
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(address)
        successor.listen()
        assert events(late, select.POLLOUT) == select.POLLOUT
        assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_dual_stack_listener_refuses_both_families(host):
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        before = socket.create_connection((host, listener.getsockname()[1]))
        assert refuse_by_hop_limit(listener)
        with before, socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as late:
            late.setblocking(False)
            late.connect_ex((host, listener.getsockname()[1]))
            assert events(late, select.POLLOUT, 0.3) == 0
            accepted, _ = listener.accept()
            with accepted:
                hear_every_hop(accepted)
                before.sendall(b"x")
                accepted.settimeout(5)
                assert accepted.recv(1) == b"x"


@pytest.mark.parametrize("host", HOSTS)
def test_a_handshake_that_ends_while_we_refuse_loses_nothing(host):
    """Its socket inherits the minimum: what came before it was freed is sent again by the peer's kernel."""
    rig = Rig(host, backlog=0)
    with rig.stack:
        first, second = rig.client(), rig.try_connect()  # the queue has room for one more than its length
        third = rig.try_connect()
        assert refuse_by_hop_limit(rig.listener)
        got = []
        for client in (first, second, third):
            if events(client, select.POLLOUT, 0.2):
                client.setblocking(True)
                client.settimeout(5)
                client.sendall(b"hello")
                accepted = rig.accept()
                hear_every_hop(accepted)
                accepted.settimeout(5)
                got.append(accepted.recv(5))
        assert got
        assert set(got) == {b"hello"}


def test_what_the_process_may_do_is_found_out():
    assert refusal() in {Refusal.FILTER, Refusal.HOP_LIMIT}


def test_where_nothing_can_be_done_nobody_raises(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        sock.listen()
        assert not refuse_by_hop_limit(sock)
        refuse_new_connections(sock)


# -- what a peer owes


def test_bytes_that_the_peers_kernel_has_are_acknowledged(rig):
    client, server = rig.pair()
    assert outstanding(client) == 0
    client.sendall(b"x" * 1000)
    wait_until(lambda: outstanding(client) == 0, "the acknowledgement")
    assert len(server.recv(2000)) == 1000


def test_bytes_that_the_peer_has_no_room_for_are_counted_until_it_reads(rig):
    client, server = rig.pair()
    total = fill_up(client)
    left = wait_until(lambda: outstanding(client), "a full socket")
    assert 0 < left < total
    got = 0
    while got < total:
        got += len(server.recv(1 << 20))
    wait_until(lambda: outstanding(client) == 0, "the acknowledgement of everything")


def test_nothing_is_unacknowledged_once_the_peer_has_reset(rig):
    """The kernel would count for ever what nobody will take any more."""
    client, server = rig.pair()
    fill_up(client)
    assert outstanding(client) > 0
    reset_on_close(server)
    server.close()
    assert events(client, select.POLLIN) & select.POLLHUP
    assert outstanding(client) == 0


def test_a_fin_that_waits_for_its_acknowledgement_is_not_lost(rig):
    client, server = rig.pair()
    fill_up(client)
    client.shutdown(socket.SHUT_WR)
    assert outstanding(client) > 0
    while server.recv(1 << 20):
        pass
    wait_until(lambda: outstanding(client) == 0, "the acknowledgement")


def test_clients_in_the_queue_of_a_listener_are_counted():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert waiting(listener) == 0
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        assert waiting(listener) == 3
        listener.accept()[0].close()
        assert waiting(listener) == 2
        for client in clients:
            client.close()


def test_bytes_that_a_unix_peer_has_not_read_are_outstanding():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert outstanding(ours) == 0
        ours.sendall(b"x" * 100)
        assert outstanding(ours) > 0
        theirs.recv(200)
        assert outstanding(ours) == 0


def test_a_peer_that_is_gone_is_unanswered_for_ever_longer(rig):
    """Nothing that is sent to it comes through: the kernel sends again, and nobody answers."""
    client, server = rig.pair()
    client.sendall(b"x")
    wait_until(lambda: outstanding(client) == 0, "the acknowledgement")
    assert unanswered(client) == 0.0
    vanish(server)
    client.sendall(b"y")
    first = wait_until(lambda: unanswered(client), "a retransmission")
    wait_until(lambda: unanswered(client) > first + 0.1, "more time without an answer")
    hear_every_hop(server)
    wait_until(lambda: outstanding(client) == 0, "the answer after all")
    assert unanswered(client) == 0.0


def test_a_peer_that_merely_stopped_reading_answers_every_probe(rig):
    client, _server = rig.pair()
    fill_up(client)
    watch = Stopwatch()
    while watch.seconds < 1.0:
        assert unanswered(client) < 0.2
        pause(0.01)
    assert outstanding(client) > 0


def vanish(sock):
    """This end of a connection hears nothing any more and so answers nothing; `hear_every_hop` takes that back."""
    assert refuse_by_hop_limit(sock)


# -- reset


def test_reset_on_close_is_seen_as_a_reset(rig):
    client, server = rig.pair()
    reset_on_close(server)
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_without_it_a_close_is_a_fin(rig):
    client, server = rig.pair()
    server.close()
    assert client.recv(1) == b""


def test_reset_on_close_resets_after_a_fin_too(rig):
    client, server = rig.pair()
    reset_on_close(server)
    server.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    server.close()
    assert events(client, select.POLLIN) & select.POLLERR
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_a_peer_that_ends_its_direction_or_resets_has_ended():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for how in ("open", "fin", "rst"):
            peer = socket.create_connection(listening.getsockname())
            inner, _ = listening.accept()
            with inner, peer:
                peer.sendall(b"unread")
                assert not has_ended(inner)
                if how == "fin":
                    peer.shutdown(socket.SHUT_WR)
                elif how == "rst":
                    reset_on_close(peer)
                    peer.close()
                assert has_ended(inner) == (how != "open")
                if how != "rst":
                    assert inner.recv(10) == b"unread", "nothing was read"
