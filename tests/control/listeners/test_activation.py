"""Listening sockets that a service manager passes: which listener each is for, what is said of those that are for none."""

import contextlib
import os
import socket

import pytest

from tcp_proxy.config.model import App
from tcp_proxy.control.listeners import activation as module
from tcp_proxy.control.listeners.activation import Activation, CannotTake
from tcp_proxy.control.listeners.sockets import bind_all
from tcp_proxy.runtime.socket_options import refuse_new_connections
from tcp_proxy.sansio.address import ListenAddress


@pytest.fixture
def passed(monkeypatch):
    """passed(sock, ..., names="a:b"): what Activation finds, as if each had been handed over with the start."""
    with contextlib.ExitStack() as stack:

        def made(*socks, names="", pid=None):
            first = 1000
            for number, sock in enumerate(socks):
                os.dup2(sock.fileno(), first + number)
                stack.callback(closed, first + number)
            monkeypatch.setattr(module, "FIRST_DESCRIPTOR", first)
            environment = {"LISTEN_PID": str(pid or os.getpid()), "LISTEN_FDS": str(len(socks)), "LISTEN_FDNAMES": names}
            one = Activation({} if not socks else environment)
            stack.callback(one.close)
            assert not socks or environment == {}, "somebody else would take them for its own"
            return one

        yield made


def closed(fd):
    with contextlib.suppress(OSError):
        os.close(fd)


@pytest.fixture
def listening():
    """listening(host, family): a socket of the manager's."""
    with contextlib.ExitStack() as stack:

        def made(host="127.0.0.1", family=socket.AF_INET, only=True):
            sock = stack.enter_context(socket.socket(family))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind((host, 0))
            sock.listen(16)
            return sock

        yield made


def address_of(sock, host=None):
    found, port, *_ = sock.getsockname()
    return ListenAddress(host or found, port)


def app(*addresses, name="web", **more):
    return App(name, tuple(addresses), (), **more)


@pytest.mark.parametrize(
    ("host", "family", "only", "written"),
    [
        ("127.0.0.1", socket.AF_INET, True, "127.0.0.1"),
        ("0.0.0.0", socket.AF_INET, True, "0.0.0.0"),
        ("::1", socket.AF_INET6, True, "::1"),
        ("::", socket.AF_INET6, True, "::"),
        ("::", socket.AF_INET6, False, "*"),
    ],
)
def test_it_takes_the_place_of_the_listener_with_its_address(passed, listening, host, family, only, written):
    sock = listening(host, family, only)
    one = passed(sock, names="web")
    apps = [app(address_of(sock, written))]
    one.require(apps)
    (bound,) = bind_all(apps, one)
    try:
        assert bound.is_activated
        assert bound.sock.getsockname() == sock.getsockname()
        assert not os.get_inheritable(bound.sock.fileno())
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", bound.address.port)):
            bound.sock.accept()[0].close()
    finally:
        bound.sock.close()


def test_the_others_are_bound_as_ever(passed, listening):
    sock, other = listening(), listening()
    free = address_of(other)
    other.close()
    apps = [app(address_of(sock), free)]
    one = passed(sock)
    one.require(apps)
    bound = bind_all(apps, one)
    try:
        assert [item.is_activated for item in bound] == [True, False]
    finally:
        for item in bound:
            item.sock.close()


def test_one_that_is_for_nobody_is_named(passed, listening):
    sock, other = listening(), listening()
    port = sock.getsockname()[1]
    one = passed(sock, names="web")
    whole = f"descriptor 1000 (web) of LISTEN_FDS listens on 127.0.0.1:{port}, which "
    hint = ": write it in the app's ports, or take it out of the socket unit"
    with pytest.raises(CannotTake) as error:
        one.require([app(address_of(other), name="shop")])
    assert str(error.value) == whole + "no app does" + hint
    with pytest.raises(CannotTake) as error:
        one.require([app(address_of(other))])
    assert str(error.value) == whole + "app 'web' does not" + hint
    with pytest.raises(CannotTake) as error:
        one.require([app(address_of(sock), name="shop"), app(address_of(other))])
    assert str(error.value) == whole + "is app 'shop''s and not app 'web''s"


@pytest.mark.parametrize("name", ["tcp-proxy.socket", "unknown", ""])
def test_a_name_that_is_no_app_says_nothing(passed, listening, name):
    sock = listening()
    passed(sock, names=name).require([app(address_of(sock))])


def test_what_is_no_listening_tcp_socket_is_refused(passed, tmp_path):
    hint = " is no listening TCP socket: wanted ListenStream= with an address or a port, and Accept=no"
    udp, unix = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX)
    with socket.socket() as idle, udp, unix:
        unix.bind(str(tmp_path / "sock"))
        unix.listen(1)
        for sock in (idle, udp, unix):
            with pytest.raises(CannotTake) as error:
                passed(sock, names="web")
            assert str(error.value) == f"descriptor 1000 (web) of LISTEN_FDS{hint}"
    with (tmp_path / "file").open("w") as file, pytest.raises(CannotTake, match="of LISTEN_FDS is no socket: "):
        passed(file)


def test_those_of_another_process_are_not_taken(passed, listening):
    one = passed(listening(), pid=1)
    one.require([])


def test_what_an_earlier_life_left_on_it_is_taken_off(passed, listening):
    sock = listening()
    refuse_new_connections(sock)
    passed(sock)
    with socket.create_connection(sock.getsockname(), 5):
        peer, _ = sock.accept()
        with peer:
            peer.send(b"x")


def test_nobody_is_refused_when_we_end_and_nobody_waits_when_the_app_goes(passed, listening):
    sock = listening()
    one = passed(sock)
    (bound,) = bind_all([app(address_of(sock))], one)
    bound.refuse_new()
    with socket.create_connection(sock.getsockname(), 5):
        sock.accept()[0].close()
    bound.leave()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sock.getsockname(), 5)
