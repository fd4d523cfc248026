"""Requests whose header says whose they are: whose target they get, what is asked, and when a key has a session."""

import contextlib
import os

import pytest

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Http, SessionLimits, Sticky, Timeouts
from tcp_proxy.dataplane.place_queue import Bell, PlaceQueue
from tcp_proxy.dataplane.sticky.copies import REPORT, StickTableClient
from tcp_proxy.dataplane.sticky.session import StickySession
from tcp_proxy.sansio.http1.requests import read_request
from tcp_proxy.wire.stick_table import CLOSED, OPENED
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.authority import Authority
from tests.dataplane.house import first_slot, reset
from tests.dataplane.http.rig import HttpHouse
from tests.dataplane.http.test_tunnel import EXEC, SIZED, SWITCH, SWITCHED, finish

STICKY = Sticky(key="header", header="X-User")


def get(user=b"", method=b"GET"):
    field = b"X-User: %b\r\n" % user if user else b""
    return b"%b / HTTP/1.1\r\nHost: a\r\n%b\r\n" % (method, field)


class StickHouse(HttpHouse):
    def __init__(self, targets=3, connected=True, timeouts=None, **how):
        super().__init__(targets=targets, timeouts=timeouts, **how)
        views = tuple(
            TargetView(f"t{n}", first_slot(n), 1, False, False, "up", (self.endpoint(server),))
            for n, server in enumerate(self.servers)
        )
        view = AppView(
            "web", self.app.slot, "round_robin", 3, timeouts or Timeouts(), views, http=self.app.http, sticky=STICKY
        )
        self.app.configure(view)
        self.http.shared.stuck_session = StickySession
        self.table_client = StickTableClient(self.loop)
        self.authority = Authority(self.loop)
        if connected:
            self.table_client.connect(self.authority.theirs)
        else:
            self.authority.theirs.close()
        self.app.sticks = self.table_client.configure(self.app, STICKY)

    def __exit__(self, kind, *rest):
        self.authority.close()
        copies = self.app.sticks.copies
        super().__exit__(kind, *rest)
        assert kind is not None or not any(copy.open for copy in copies.values()), copies

    def say(self, name, state):
        target = self.app.targets[name]
        self.app.change_target(name, state, target.endpoints)

    def who_serves(self, client):
        """The name of the target that the request has gone to, and its end of the connection."""
        (session,) = [one for one in self.sessions if one.client.fileno() >= 0 and one.address[1] == client.getsockname()[1]]
        self.until(lambda: session.exchange is not None and session.exchange.upstream is not None)
        return session.exchange.target.name

    def serve(self, client, request):
        """Whose answer it gets."""
        client.sendall(request)
        self.turn(3)
        name = self.who_serves(client)
        sock = self.ends.get(name)
        if sock is None:
            sock = self.ends[name] = self.accept(int(name[1:]))
        self.read_head(sock)
        sock.sendall(OK)
        assert self.receive(client, len(OK_PASSED)) == OK_PASSED
        return name

    @contextlib.contextmanager
    def queue(self):
        """Each target may have one request, and nine may wait."""
        bell = os.eventfd(0, os.EFD_NONBLOCK)
        queue = PlaceQueue(self.loop, Bell(self.loop, bell), lambda: [self.row], self.row, self.app.slot)
        queue.configure(SessionLimits(queue=9))
        for target in self.app.targets.values():
            target.limited = self.app._limited = True
            target.adopt(os.eventfd(1, os.EFD_NONBLOCK | os.EFD_SEMAPHORE), [self.row])
        self.app.use_queue(queue)
        self.app._sort()
        yield
        for target in self.app.targets.values():
            target.lift()
        self.app.use_queue(None)
        os.close(bell)

    @property
    def ends(self):
        self.__dict__.setdefault("_ends", {})
        return self._ends


def test_a_key_has_one_target_on_every_connection():
    with StickHouse() as house:
        of = {}
        for _ in range(3):
            client, _ = house.client()
            for user in (b"ann", b"bob", b"eve", b"ann"):
                of.setdefault(user, set()).add(house.serve(client, get(user)))
        assert all(len(names) == 1 for names in of.values()), of
        assert len(set.union(*of.values())) == 3
        assert len(house.authority.asked()) == 3, "each key is asked for once"


def test_a_request_without_the_header_belongs_to_nobody():
    with StickHouse() as house:
        client, _ = house.client()
        assert {house.serve(client, get()) for _ in range(3)} == {"t0", "t1", "t2"}
        assert not house.authority.heard


def test_a_key_that_is_asked_for_holds_up_no_other_client():
    with StickHouse() as house:
        house.authority.holds = True
        waits, session = house.client()
        waits.sendall(get(b"ann"))
        house.turn(3)
        assert session.state.name == "DIALING"
        other, _ = house.client()
        house.serve(other, get())
        house.authority.let_go()
        name = house.who_serves(waits)
        sock = house.ends.get(name) or house.accept(int(name[1:]))
        house.read_head(sock)
        sock.sendall(OK)
        assert house.receive(waits, len(OK_PASSED)) == OK_PASSED


@pytest.mark.parametrize("is_known", [False, True])
def test_an_authority_that_is_silent_or_gone_costs_the_stick_and_no_request(is_known):
    with StickHouse(connected=is_known, timeouts=Timeouts(connect=1.0)) as house:
        house.authority.holds = True
        client, session = house.client()
        client.sendall(get(b"ann"))
        house.turn(3)
        if is_known:
            assert session.state.name == "DIALING"
            house.pass_time(1.1)
        name = house.who_serves(client)
        sock = house.accept(int(name[1:]))
        house.read_head(sock)
        sock.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        if is_known:
            house.authority.let_go()  # too late
            house.turn(3)


def test_who_leaves_while_its_key_is_asked_for_and_the_app_is_not_sticky_any_more_dials_nobody():
    with StickHouse(timeouts=Timeouts(connect=1.0)) as house:
        house.authority.holds = True
        client, session = house.client()
        client.sendall(get(b"a"))
        house.turn(3)
        assert session.state.name == "DIALING"
        sticks, house.app.sticks = house.app.sticks, None
        reset(client)
        house.turn(3)
        assert house.record()["reason"] == "client_reset"
        house.pass_time(1.1)
        house.turn(3)
        house.authority.let_go()  # what was proposed is held until then
        house.turn(3)
        assert not any(target.active for target in house.app.targets.values())
        house.app.sticks = sticks


def test_a_draining_target_keeps_its_keys_and_one_that_is_down_gives_them_away():
    with StickHouse() as house:
        client, _ = house.client()
        name = house.serve(client, get(b"ann"))
        house.say(name, "draining")
        assert house.serve(client, get(b"ann")) == name
        house.say(name, "down")
        other = house.serve(client, get(b"ann"))
        assert other != name
        house.say(name, "up")
        assert house.serve(client, get(b"ann")) == other, "for good"


def test_a_target_that_cannot_be_connected_to_loses_the_key():
    with StickHouse() as house:
        client, _ = house.client()
        name = house.serve(client, get(b"ann"))
        house.servers[int(name[1:])].close()
        house.ends.pop(name).close()
        house.turn(5)
        other = house.serve(client, get(b"ann"))
        assert other != name
        assert house.authority.table.find("ann", house.loop.now).target == other


def test_a_key_is_used_from_the_head_to_the_end_of_the_answer():
    with StickHouse() as house:
        client, _ = house.client()
        client.sendall(get(b"ann"))
        name = house.who_serves(client)
        sock = house.accept(int(name[1:]))
        house.read_head(sock)
        assert house.app.sticks.copies["ann"].open == 1
        sock.sendall(OK)
        assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        assert house.app.sticks.copies["ann"].open == 0
        gone, session = house.client()
        gone.sendall(get(b"ann"))
        house.until(lambda: house.app.sticks.copies["ann"].open == 1)
        reset(gone)
        house.until(lambda: session.state.name == "DONE")
        assert house.app.sticks.copies["ann"].open == 0


def test_a_tunnel_is_a_session_of_its_key():
    with StickHouse(http=Http(upgrades=("tcp",))) as house:
        client, _ = house.client()
        head = (EXEC % (SIZED % 0)).replace(b"Host: a\r\n", b"Host: a\r\nX-User: ann\r\n")
        client.sendall(head)
        sock = house.accept(int(house.who_serves(client)[1:]))
        house.read_head(sock)
        sock.sendall(SWITCH)
        assert house.receive(client, len(SWITCHED)) == SWITCHED
        (session,) = house.thread.members
        assert isinstance(session, StickySession)
        assert (session.key, house.app.sticks.copies["ann"].open) == ("ann", 1)
        finish(house, client, sock)
        assert house.app.sticks.copies["ann"].open == 0


def test_a_target_at_its_limit_is_passed_over_and_the_key_stays():
    with StickHouse() as house:
        client, _ = house.client()
        name = house.serve(client, get(b"ann"))
        target = house.app.targets[name]
        target.limited = house.app._limited = True
        house.app._sort()
        target.adopt(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE), [house.row])
        assert house.serve(client, get(b"ann")) != name
        target.lift()
        assert house.serve(client, get(b"ann")) == name


def test_who_belongs_to_a_target_waits_behind_those_who_wait_for_it():
    with StickHouse(targets=1) as house, house.queue():
        first, _ = house.client()
        first.sendall(get(b"ann"))
        assert house.who_serves(first) == "t0"
        sock = house.accept()
        clients = [house.client()[0] for _ in range(3)]
        for number, (client, user) in enumerate(zip(clients, (b"bob", b"ann", b"eve"), strict=True)):
            client.sendall(get(user))
            house.until(lambda number=number: len(house.app.queue) == number + 1)
        for client in (first, *clients):
            house.read_head(sock)
            sock.sendall(OK)
            assert house.receive(client, len(OK_PASSED)) == OK_PASSED
        house.turn(3)
        assert house.authority.table.find("bob", house.loop.now).target == "t0"
        assert house.authority.table.find("eve", house.loop.now).target == "t0"


def test_a_request_that_comes_from_another_worker_is_reported_as_one_of_its_key():
    with StickHouse() as house:
        http_app = house.http.shared.http_app(house.app)
        request, _ = read_request(get(b"ann"), 0, http_app.limits)
        targets = http_app.route_targets(request)
        targets.arrive_at(house.app.targets["t1"])
        copy = targets.copy
        assert (copy.open, copy.is_reported) == (1, True)
        targets.end_stick()
        assert (copy.open, house.app.sticks.copies) == (0, {})
        house.clock.now += REPORT
        house.until(lambda: len(house.authority.heard) == 2)
        assert [item[:3] for item in house.authority.heard] == [(OPENED, "web", copy.key), (CLOSED, "web", copy.key)]
