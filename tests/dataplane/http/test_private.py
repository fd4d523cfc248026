"""A connection on which a client has logged in is that client's alone: no other gets it, and it gets no other."""

import os
import random
import re
import socket
from contextlib import suppress

import pytest

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, Route, SendProxy, Timeouts
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.house import reset
from tests.dataplane.http.rig import GET, HttpHouse

LENGTH = b"Date: x\r\nContent-Length: 0\r\n"
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\n" + LENGTH + b"\r\n"
LOGIN = b"GET /login HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


def answer(house, client, server, request=GET):
    """The request goes to `server`, and OK back."""
    client.setblocking(True)
    client.sendall(request)
    house.read_head(server)
    house.send(server, OK)
    return house.receive(client, len(OK_PASSED))


def logged_in(house, target=0, first=GET, challenge=CHALLENGE):
    """A client that was asked who it is, and the target's end of its connection."""
    client, session = house.client()
    server = house.ask(client, first, target)
    house.send(server, challenge)
    assert house.read_head(client).startswith(challenge[:12])
    return client, session, server


def public(house, client=None):
    """A further client's connection to the target, which must be a new one."""
    client = client or house.client()[0]
    other = house.ask(client, GET)
    house.send(other, OK)
    assert house.receive(client, len(OK_PASSED)) == OK_PASSED
    return client, other


def private(house):
    return len(house.http.shared.upstreams.reserved)


CHALLENGES = [
    CHALLENGE,
    CHALLENGE.replace(b"NTLM", b"negotiate"),
    CHALLENGE.replace(b"NTLM", b'Basic realm="a, b", NeGoTiAtE'),
    CHALLENGE.replace(b"WWW-A", b'WWW-Authenticate: Digest nonce="x"\r\nwww-a'),
    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: NTLM\r\n" + LENGTH + b"\r\n",
    b"HTTP/1.1 200 OK\r\nWWW-Authenticate: Negotiate dGhlIGVuZA==\r\n" + LENGTH + b"\r\n",
]


@pytest.mark.parametrize("kept", [0, 10])
@pytest.mark.parametrize("challenge", CHALLENGES)
def test_who_was_asked_to_log_in_has_the_connection_alone(challenge, kept):
    with HttpHouse(Http(upstream_connections=kept)) as house:
        alice, _, server = logged_in(house, challenge=challenge)
        mallory, other = public(house)
        for _ in range(3):
            assert answer(house, alice, server) == OK_PASSED
            if kept:
                assert answer(house, mallory, other) == OK_PASSED
        assert private(house) == 1
        alice.close()
        assert house.receive(server) == b""


def test_who_logs_in_unasked_has_the_connection_alone():
    with HttpHouse() as house:
        bob, shared = public(house)
        alice, _ = house.client()
        answer(house, alice, shared, LOGIN)  # the one that everybody had until now
        _, other = public(house, bob)
        assert answer(house, alice, shared) == OK_PASSED
        assert answer(house, bob, other) == OK_PASSED


def test_a_login_of_each_request_shares_the_connection():
    with HttpHouse() as house:
        _alice, _, server = logged_in(house, challenge=CHALLENGE.replace(b"NTLM", b'Basic realm="x"'))
        mallory, _ = house.client()
        assert answer(house, mallory, server) == OK_PASSED
        assert private(house) == 0


def test_pipelined_requests_take_the_same_connection():
    with HttpHouse() as house:
        client, _ = house.client()
        server = house.ask(client, LOGIN + GET + POST + GET)
        for body in (0, 0, 1):
            house.receive(server, body)
            house.send(server, OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
            house.read_head(server)
        house.send(server, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        assert private(house) == 1


def test_a_target_that_ends_it_takes_the_login_along():
    with HttpHouse() as house:
        for how in (reset, socket.socket.close):
            client, session, server = logged_in(house)
            how(server)
            house.until(lambda: private(house) == 0)
            assert session.state.name == "READING"
            again = house.ask(client, LOGIN)
            house.send(again, OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
            client.close()
            assert house.receive(again) == b""


@pytest.mark.parametrize("request_", [GET, LOGIN, POST])
def test_a_request_that_dies_on_it_is_not_sent_on_another(request_):
    with HttpHouse() as house:
        client, _, server = logged_in(house)
        client.setblocking(True)
        client.sendall(request_)
        house.read_head(server)
        server.close()
        head = house.read_head(client)
        assert head.startswith(b"HTTP/1.1 502 ")
        house.receive(client, int(re.search(rb"Content-Length: (\d+)", head)[1]))
        house.turn(5)
        house.servers[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            house.servers[0].accept()
        house.servers[0].setblocking(True)
        again = house.ask(client, GET)  # and begins anew
        house.send(again, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


def test_an_end_that_nobody_was_told_of():
    with HttpHouse() as house:
        client, _, server = logged_in(house)
        server.close()
        client.setblocking(True)
        client.sendall(LOGIN)
        house.turn(3)
        again = house.accept()
        assert house.read_head(again).startswith(b"GET /login ")
        house.send(again, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


def test_what_comes_unasked_ends_it():
    with HttpHouse() as house:
        client, _, server = logged_in(house)
        server.setblocking(True)
        server.sendall(OK)
        house.until(lambda: private(house) == 0)
        public(house, client)


def test_an_answer_that_ends_the_connection():
    with HttpHouse() as house:
        client, _, server = logged_in(house, challenge=CHALLENGE.replace(b"Date", b"Connection: close\r\nDate"))
        assert house.receive(server) == b""
        public(house, client)


def test_a_client_that_ends_takes_it_along():
    with HttpHouse() as house:
        client, _ = house.client()
        server = house.ask(client, LOGIN.replace(b"Host", b"Connection: close\r\nHost"))
        house.send(server, OK)
        house.read_head(client)
        assert house.receive(server) == b""
        assert private(house) == 0


def test_a_client_that_has_said_all_is_answered_on_it():
    with HttpHouse() as house:
        client, session, server = logged_in(house)
        client.setblocking(True)
        client.sendall(GET)
        client.shutdown(socket.SHUT_WR)
        house.read_head(server)
        house.send(server, OK)
        assert house.receive(client) == OK_PASSED
        assert house.receive(server) == b""
        assert session.state.name == "DONE"


def test_it_lives_as_long_as_the_client_s_connection():
    times = Timeouts(next_request=50.0)
    with HttpHouse(Http(upstream_idle=1.0), timeouts=times) as house:
        client, _session, server = logged_in(house)
        house.pass_time(40.0)
        assert answer(house, client, server) == OK_PASSED
        house.pass_time(51.0)
        assert house.receive(server) == b""
        assert house.receive(client) == b""


def test_an_upgrade_takes_it_along():
    with HttpHouse(Http(upgrades=("websocket",))) as house:
        client, _, server = logged_in(house)
        upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        house.send(client, upgrade)
        house.read_head(server)
        house.send(server, b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nup")
        house.read_head(client)
        assert house.receive(client, 2) == b"up"
        house.send(client, b"hello")
        assert house.receive(server, 5) == b"hello"
        client.close()
        assert house.receive(server) == b""
        server.close()
        house.until(lambda: not house.thread.members)


@pytest.mark.parametrize(("state", "stays"), [("up", True), ("draining", True), ("down", False)])
def test_the_state_of_its_target(state, stays):
    with HttpHouse(targets=2) as house:
        client, _, server = logged_in(house)
        target = house.app.targets["t0"]
        house.app.change_target("t0", state, target.endpoints)
        if stays:
            house.pass_time(2.0)
            assert answer(house, client, server) == OK_PASSED
        else:
            house.pass_time(2.0)
            assert house.receive(server) == b""
            other = house.ask(client, GET, target=1)
            house.send(other, OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED


@pytest.mark.parametrize("kept", [0, 1, 10])
def test_a_reload_takes_it_from_nobody(kept):
    """Another weight, other routes, and other numbers of kept connections: alice is who she was, and nobody else is."""
    with HttpHouse(targets=2) as house:
        alice, _, server = logged_in(house)
        slots = [target.slot for target in house.app.targets.values()]
        views = tuple(
            TargetView(f"t{n}", slots[n], weight, False, False, "up", (house.endpoint(house.servers[n]),))
            for n, weight in enumerate((1, 50))
        )
        http = Http(upstream_connections=kept, routes=(Route("", "/", ("t0", "t1")),))
        house.app.configure(AppView("web", house.app.slot, "round_robin", 3, Timeouts(), views, http=http))
        mallory, _ = house.client()
        other = house.ask(mallory, GET, target=1)
        house.send(other, OK)
        assert house.receive(mallory, len(OK_PASSED)) == OK_PASSED
        for _ in range(3):
            assert answer(house, alice, server) == OK_PASSED
        assert private(house) == 1


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("how", ["leave", "cut"])
def test_a_target_that_is_removed_or_has_its_sessions_ended(how, when):
    with HttpHouse(targets=2) as house:
        client, _, server = logged_in(house)
        target = house.app.targets["t0"]
        if how == "leave":
            target.leave()
            house.app.change_target("t0", "down", ())
        else:
            target.cut += 1
        if when == "later":
            house.pass_time(2.0)
            assert house.receive(server) == b""
        house.send(client, GET)
        taken = house.accept(1)
        house.read_head(taken)
        house.send(taken, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED


def test_other_targets_turns_do_not_move_who_has_logged_in():
    with HttpHouse(targets=3) as house:
        client, _, server = logged_in(house)
        for _ in range(7):
            assert answer(house, client, server) == OK_PASSED


def test_each_route_has_a_login_of_its_own():
    routes = (Route("", "/a", ("t0",)), Route("", "/b", ("t1",)))
    with HttpHouse(Http(routes=routes), targets=2) as house:
        client, _ = house.client()
        ends = {}
        for number, path in enumerate((b"/a", b"/b")):
            request = LOGIN.replace(b"/login", path)
            ends[request] = house.ask(client, request, number)
            house.send(ends[request], OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        assert private(house) == 2
        for request in (*ends, *reversed(ends)):
            assert answer(house, client, ends[request], request) == OK_PASSED
        client.close()
        for server in ends.values():
            assert house.receive(server) == b""


def test_at_its_target_s_limit_the_client_is_told_and_stays_who_it_is():
    with HttpHouse(targets=2, limits=(1,)) as house:
        client, _, server = logged_in(house)
        target = house.app.targets["t0"]
        target.adopt(os.eventfd(1, os.EFD_SEMAPHORE | os.EFD_NONBLOCK), [house.row])
        assert target.take(house.row)
        house.send(client, GET)
        head = house.read_head(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        house.receive(client, int(re.search(rb"Content-Length: (\d+)", head)[1]))
        target.give(house.row)
        assert answer(house, client, server) == OK_PASSED
        target.lift()


def test_descriptors_of_those_at_rest_are_counted():
    with HttpHouse() as house:
        client, _, server = logged_in(house)
        assert house.http.descriptors == 1
        house.http.make_room()
        assert house.receive(server) == b""
        assert house.receive(client) == b""
        assert house.http.descriptors == 0


@pytest.mark.parametrize("seed", range(30))
def test_nobody_is_ever_taken_for_somebody_else(seed):
    """Clients, logins and ends by the dice, against a target that remembers who has logged in on a connection."""
    dice = random.Random(seed)
    with HttpHouse(Http(upstream_connections=dice.choice((0, 1, 10))), targets=2) as house:
        ends, owners = [], {}
        for listener in house.servers:
            listener.setblocking(False)
        for step in range(60):
            client, _ = house.client()
            who = b"u%d" % step
            for _ in range(dice.choice((1, 2, 3))):
                login = dice.random() < 0.4
                _serve(house, client, who, login, ends, owners)
            kind = dice.choice(("close", "stay", "stay", "target"))
            if kind == "close":
                client.close()
            elif kind == "target" and ends:
                ends.pop(dice.randrange(len(ends))).close()
            house.turn(3)
            if dice.random() < 0.2:
                house.pass_time(5.0)


@pytest.mark.parametrize("has_login", [False, True])
def test_one_that_names_its_client_rests_no_longer_than_any_other(has_login):
    """But one that its client has logged in on, and must use again, as long as that is there."""
    with HttpHouse(Http(upstream_idle=5.0)) as house:
        target = house.app.targets["t0"]
        target.send_proxy, target.is_personal = (None, False) if has_login else (SendProxy(1), True)
        client, _ = house.client()
        request = GET if not has_login else LOGIN
        client.sendall(request)
        house.turn(3)
        server = house.accept()
        house.read_head(server)
        house.send(server, OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.pass_time(4.0)
        assert private(house) == 1
        house.pass_time(2.0)
        house.pass_time(2.0)
        assert private(house) == int(has_login)


def _serve(house, client, who, login, ends, owners):
    mark = b"Authorization: Negotiate %b\r\n" % who if login else b""
    client.setblocking(True)
    client.sendall(b"GET /%b HTTP/1.1\r\nHost: a\r\n%b\r\n" % (who, mark))
    for _ in range(1000):
        house.turn()
        for listener in house.servers:
            with suppress(BlockingIOError):
                ends.append(house.stack.enter_context(listener.accept()[0]))
        for end in ends:
            end.setblocking(False)
            try:
                head = end.recv(1 << 16)
            except BlockingIOError:
                continue
            if head:
                assert head.startswith(b"GET /%b " % who)
                assert owners.get(end, who) == who, "somebody else's connection"
                if login:
                    owners[end] = who
                house.send(end, OK)
                assert house.receive(client, len(OK_PASSED)) == OK_PASSED
                return
    raise AssertionError("nobody was asked")
