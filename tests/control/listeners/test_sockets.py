"""Binding: which clients reach which socket, one clear line when it fails, and nothing left open then."""

import contextlib
import itertools
import os
import resource
import select
import socket
import types

import pytest

from kit.ports import free_port, lock_descriptors
from tcp_proxy.config.model import App, Timeouts
from tcp_proxy.control.listeners import sockets
from tcp_proxy.control.listeners.sockets import IN_USE_TRIES, IN_USE_WAIT, CannotListen, bind_all
from tcp_proxy.sansio.address import ListenAddress
from tests.control.health.bench import in_own_network


def app(*addresses, name="web", **more):
    return App(name, tuple(ListenAddress(host, port) for host, port in addresses), (), **more)


@pytest.fixture
def bound():
    """bound(app, ...): bind_all, closed at the end."""
    found = []
    yield lambda *apps: found.extend(bind_all(apps)) or found
    for listening in found:
        listening.sock.close()


def reaches(sock, host, port):
    """Whether a client of this address comes out of this listening socket, and as whom."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        try:
            client.connect((host, port))
        except ConnectionRefusedError:
            return False
        sock.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while True:
                accepted, address = sock.accept()
                accepted.close()
                if address[1] == client.getsockname()[1]:
                    return True
        return False


class Waits:
    """What passes between two tries to bind, without a clock: `then` is done after so many of them."""

    def __init__(self):
        self.milliseconds = []
        self.then = {}

    def poll(self, milliseconds):
        self.milliseconds.append(milliseconds)
        self.then.get(len(self.milliseconds), lambda: None)()


@pytest.fixture
def waits(monkeypatch):
    found = Waits()
    monkeypatch.setattr(sockets, "select", types.SimpleNamespace(poll=lambda: found))
    return found


def opened():
    """But for what another block of ports is locked by, and what the look itself has open."""
    listed = sorted(set(os.listdir("/proc/self/fd")) - {str(fd) for fd in lock_descriptors()})
    return [fd for fd in listed if os.path.lexists(f"/proc/self/fd/{fd}")]


# -- what is bound


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.2", {"127.0.0.2"}),
        ("0.0.0.0", {"127.0.0.1", "127.0.0.2"}),
        ("::1", {"::1"}),
        ("::", {"::1"}),
        ("*", {"127.0.0.1", "127.0.0.2", "::1"}),
    ],
)
def test_an_address_is_reached_by_its_own_clients_only(bound, host, reached):
    """Explicit IPv6 is V6ONLY; "*" is one dual-stack socket."""
    port = free_port()
    (listening,) = bound(app((host, port)))
    assert {client for client in ("127.0.0.1", "127.0.0.2", "::1") if reaches(listening.sock, client, port)} == reached


def test_both_wildcards_on_one_port_are_two_sockets(bound):
    port = free_port()
    four, six = bound(app(("0.0.0.0", port), ("::", port)))
    assert reaches(four.sock, "127.0.0.1", port)
    assert not reaches(four.sock, "::1", port)
    assert reaches(six.sock, "::1", port)
    assert not reaches(six.sock, "127.0.0.1", port)


def test_two_addresses_of_one_port_are_two_sockets(bound):
    port = free_port()
    one, two = bound(app(("127.0.0.1", port)), app(("127.0.0.2", port), name="other"))
    assert reaches(two.sock, "127.0.0.2", port)
    assert not reaches(one.sock, "127.0.0.2", port)


def test_listeners_are_numbered_over_all_apps_and_know_their_app(bound):
    ports = [free_port() for _ in range(3)]
    found = bound(app(("127.0.0.1", ports[0]), ("::1", ports[1])), app(("*", ports[2]), name="other"))
    assert [(item.number, item.app, item.address.port) for item in found] == [
        (0, "web", ports[0]), (1, "web", ports[1]), (2, "other", ports[2]),
    ]  # fmt: skip


def test_the_backlog_is_the_kernels_limit(bound):
    """tcp_info of a listening socket: the backlog stands where established ones have tcpi_sacked."""
    (listening,) = bound(app(("127.0.0.1", free_port())))
    with open("/proc/sys/net/core/somaxconn") as file:
        limit = int(file.read())
    info = listening.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(info[28:32], "little") == limit


def test_sockets_are_not_inherited_and_can_be_bound_again_at_once(bound, waits):
    port = free_port()
    (listening,) = bound(app(("127.0.0.1", port)))
    assert not os.get_inheritable(listening.sock.fileno())
    assert listening.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    with socket.create_connection(("127.0.0.1", port)):
        accepted, _ = listening.sock.accept()
        accepted.close()  # first: its port is in TIME_WAIT from now on
    listening.sock.close()
    assert len(bound(app(("127.0.0.1", port)))) == 2
    assert waits.milliseconds == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "*"])
def test_accepted_sockets_have_the_options_of_the_app(bound, host):
    port = free_port()
    (listening,) = bound(app((host, port), timeouts=Timeouts(keepalive=17)))
    with socket.create_connection(("::1" if host == "::1" else "127.0.0.1", port)):
        accepted, _ = listening.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 17


def test_refuse_new_answers_no_syn_any_more(bound):
    port = free_port()
    (listening,) = bound(app(("*", port)))
    listening.refuse_new()
    for host in ("127.0.0.1", "::1"):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as client:
            client.setblocking(False)
            client.connect_ex((host, port))
            poll = select.poll()
            poll.register(client, select.POLLOUT)
            assert poll.poll(200) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "*"])
def test_a_port_that_is_closed_and_opened_again_stays_ours(bound, host):
    (listening,) = bound(app((host, free_port())))
    port = listening.sock.getsockname()[1]
    where = ("::1" if host == "::1" else "127.0.0.1", port)
    for _ in range(3):
        with socket.create_connection(where) as queued:
            listening.stop_listening()
            listening.stop_listening()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(where)
            with pytest.raises(ConnectionResetError):
                queued.recv(1)
        listening.listen()
        listening.listen()
        with socket.create_connection(where) as client, listening.sock.accept()[0] as server:
            server.sendall(b"x")
            assert client.recv(1) == b"x"


def test_a_link_local_address_names_its_interface(bound):
    port = free_port()
    (listening,) = bound(app(("::1%lo", port)))
    assert reaches(listening.sock, "::1", port)


# -- what cannot be bound


@pytest.mark.parametrize(
    ("holder", "host", "written"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:{}"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0:{}"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1:{}"),
        ("::1", "::1", "[::1]:{}"),
        ("127.0.0.1", "*", "*:{}"),
        ("::1", "*", "*:{}"),
    ],
)
def test_an_address_in_use_is_refused_after_a_second_and_names_address_and_app(waits, holder, host, written):
    port = free_port()
    family = socket.AF_INET6 if ":" in holder else socket.AF_INET
    with socket.create_server((holder, port), family=family):
        before = opened()
        with pytest.raises(CannotListen) as caught:
            bind_all([app(("127.0.0.1", free_port())), app((host, port), name="shop")])
        assert waits.milliseconds == [IN_USE_WAIT] * (IN_USE_TRIES - 1), "for a second"
        assert opened() == before, "nothing is left open"
    text = str(caught.value)
    assert f"cannot listen on {written.format(port)} for app 'shop': Address already in use" in text
    assert "ss -ltnp" in text
    assert "\n" not in text


def test_an_address_that_becomes_free_in_that_second_is_had(bound, waits):
    port = free_port()
    holder = socket.create_server(("127.0.0.1", port))
    waits.then[3] = holder.close
    (listening,) = bound(app(("127.0.0.1", port)))
    assert len(waits.milliseconds) == 3
    assert reaches(listening.sock, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_machine_is_refused_at_once(waits, host):
    before = opened()
    with pytest.raises(CannotListen, match=r"cannot listen on .* for app 'web': .*; this machine has no such address"):
        bind_all([app(("127.0.0.1", free_port()), (host, free_port()))])
    assert waits.milliseconds == []
    assert opened() == before


def test_an_interface_that_is_not_there_is_refused():
    before = opened()
    with pytest.raises(CannotListen, match=r"cannot listen on \[fe80::1%nothing0\]:.* for app 'web'"):
        bind_all([app(("fe80::1%nothing0", free_port()))])
    assert opened() == before


def test_a_port_that_is_not_allowed_says_what_would_allow_it():
    """Where every port is allowed to everybody, as in some containers, a network of the test's own has a limit."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        first_free = int(file.read())
    if first_free > 1:
        is_refused(first_free - 1)
    else:
        in_own_network(lambda: is_refused(1023))


def is_refused(port):
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(CannotListen, match=r"Permission denied.*CAP_NET_BIND_SERVICE"):
            bind_all([app(("127.0.0.1", port))])
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_no_descriptor_free_is_said_in_one_line_and_leaves_nothing_open():
    ports = [free_port() for _ in range(20)]
    before, limits = opened(), resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in itertools.count() if str(number) not in before)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(itertools.islice(free, 6, None)), limits[1]))
    try:
        with pytest.raises(CannotListen, match="Too many open files") as caught:
            bind_all([app(*(("127.0.0.1", port) for port in ports))])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert "\n" not in str(caught.value)
    assert opened() == before
