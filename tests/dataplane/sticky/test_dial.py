"""Sessions of a sticky app in a worker's loop: keys, questions, copies, drains, failures; the authority is a table here."""

import contextlib
import dataclasses
import os
import socket

import pytest
from dataplane.authority import Authority
from dataplane.house import House, blackhole, first_slot, reset

from tcp_proxy.config.model import SessionLimits, Sticky, Timeouts
from tcp_proxy.control.targets.semaphores import make_semaphores
from tcp_proxy.dataplane.place_queue import Bell, PlaceQueue
from tcp_proxy.dataplane.primary_queue import dequeue_all, enqueue_all
from tcp_proxy.dataplane.session import DIALING, DONE
from tcp_proxy.dataplane.session_state import QUEUED, RELAYING
from tcp_proxy.dataplane.sticky.copies import REPORT, StickTableClient
from tcp_proxy.dataplane.sticky.session import StickySession
from tcp_proxy.runtime.socket_options import FIRST_OPTIONS, set_options
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import STICK_FALLBACKS
from tcp_proxy.wire.stick_table import CLOSED, OPENED
from tcp_proxy.wire.views import AppView, TargetView

BYTES = Sticky(key="source_ip+first_bytes", slice=(0, 4))


class StickyHouse(House):
    """`say(n, state)` changes a target; clients may come from any address of 127.0.0.0/8."""

    def __init__(self, sticky=None, connected=True, balance="round_robin", timeouts=None, **how):
        super().__init__(timeouts=timeouts, balance=balance, **how)
        self.view = AppView("web", self.app.slot, balance, 3, timeouts or Timeouts(), (), sticky=sticky or Sticky())
        self.targets = [self.target(n) for n in range(len(self.servers))]
        self.table_client = StickTableClient(self.loop)
        self.authority = Authority(self.loop)
        if connected:
            self.table_client.connect(self.authority.theirs)
        else:
            self.authority.theirs.close()
        self.configure()
        self.app.sticks = self.table_client.configure(self.app, self.view.sticky)

    def target(self, n, state="up"):
        return TargetView(f"t{n}", first_slot(n), 1, False, False, state, (self.endpoint(self.servers[n]),))

    def configure(self):
        self.app.configure(dataclasses.replace(self.view, targets=tuple(self.targets)))

    def say(self, n, state):
        self.app.change_target(f"t{n}", state, self.targets[n].endpoints)

    def come(self, source="127.0.0.1", first=b""):
        """A client, and its session."""
        client = self.stack.enter_context(socket.socket())
        client.bind((source, 0))
        client.connect(self.listening.getsockname())
        client.settimeout(5)
        if first:
            client.sendall(first)
        inner, address = self.listening.accept()
        set_options(inner, FIRST_OPTIONS)
        raw = socket.SocketType(inner.family, socket.SOCK_STREAM, 0, inner.detach())
        session = StickySession(len(self.sessions) + 1, self.thread, self.app, self.listener, raw, address)
        self.sessions.append(session)
        session.start()
        return client, session

    def served(self, *come, **how):
        """Where a client ended up, once it did."""
        client, session = self.come(*come, **how)
        self.until(lambda: session.state is not DIALING)
        return client, session, session.target.name if session.target else None

    def reported(self):
        self.pass_time(2 * REPORT)
        self.turn(3)
        return [item for item in self.authority.heard if item[0] in (OPENED, CLOSED)]

    def __exit__(self, *what):
        self.authority.close()
        super().__exit__(*what)
        left = {copy.key for sticks in self.table_client.apps.values() for copy in sticks.copies.values() if copy.open}
        assert what[0] is not None or not left, left


@pytest.fixture
def house():
    with StickyHouse(targets=3) as house:
        yield house


def test_a_key_is_asked_for_once_and_then_answered_by_the_copy(house):
    _, _, first = house.served()
    assert {house.served()[2] for _ in range(3)} == {first}
    assert house.authority.asked() == [("127.0.0.1", first, 0)]
    assert {house.served(f"127.0.1.{n}")[2] for n in range(1, 4)} == {"t0", "t1", "t2"}


def test_what_the_authority_says_wins_and_the_turn_is_not_lost(house):
    house.authority.table.claim("127.0.0.1", "t2", 0, 1, 0.0)
    _, session, name = house.served()
    assert (name, house.authority.asked()[0][1]) == ("t2", "t0")
    assert [house.served(f"127.0.1.{n}")[2] for n in range(1, 4)] == ["t0", "t1", "t2"]
    assert session.target.active == 2


def test_one_that_waits_for_a_primary_is_dialed_when_its_app_is_sticky_again(house):
    """A change that is taken back: it is a session of an app that had sticks, and has none yet."""
    house.authority.holds = True
    client, session = house.come()
    assert session.state is DIALING
    sticky, house.view = house.view, dataclasses.replace(house.view, balance="failover", sticky=None, election_wait=9.0)
    house.configure()
    enqueue_all(house.app, house.thread.members)
    assert session.state is QUEUED
    house.app.sticks = house.table_client.configure(house.app, None)
    house.view = sticky
    house.configure()
    dequeue_all(house.app, house.thread.members)
    house.app.sticks = house.table_client.configure(house.app, sticky.sticky)
    house.until(lambda: session.state is RELAYING)
    house.authority.let_go()
    house.turn(3)
    reset(client)
    assert house.record()["reason"] == "client_reset"


def test_first_and_last_of_a_key_are_reported_in_order(house):
    clients = [house.served()[0] for _ in range(2)]
    assert house.reported() == []  # the question was the report
    reset(clients.pop())
    house.turn(3)
    assert house.reported() == []
    reset(clients.pop())
    house.turn(3)
    assert house.reported() == [(CLOSED, "web", "127.0.0.1")]
    house.served()
    assert house.reported()[1:] == [(OPENED, "web", "127.0.0.1", "t0")]
    assert len(house.authority.asked()) == 1


def test_a_copy_is_given_up_before_its_entry_expires(house):
    client, _, _ = house.served()
    reset(client)
    house.turn(3)
    house.pass_time(98.0)
    house.served()
    assert len(house.authority.asked()) == 1
    house.sessions[-1].kill(Reason.CLOSED_BY_ADMIN, Side.PROXY)
    house.turn(3)
    house.pass_time(599.5)
    house.served()
    assert len(house.authority.asked()) == 2


def test_a_client_of_a_port_that_has_just_left_the_group_does_not_lose_its_target(house):
    """The listener is about to close. The target is well, and its clients on the other ports stay with it."""
    _, _, name = house.served()
    plain = house.targets
    elsewhere = [dataclasses.replace(view, servers=((5001, view.endpoints),)) for view in plain]
    house.targets[:], plain = elsewhere, list(plain)
    house.configure()
    assert house.served()[2] is None
    house.targets[:] = plain
    house.configure()
    assert house.served()[2] == name
    assert len(house.authority.asked()) == 1


def test_who_was_not_served_does_not_prolong_a_copy(house):
    """The table has not heard of that client: its entry ends when it would have ended without."""
    client, _, _ = house.served()
    reset(client)
    house.turn(3)
    house.pass_time(50.0)
    for n in range(3):
        house.say(n, "down")
    assert house.served()[2] is None
    house.turn(3)
    for n in range(3):
        house.say(n, "up")
    house.pass_time(49.5)
    house.served()
    assert len(house.authority.asked()) == 2


def test_a_shorter_time_counts_for_copies_that_are_idle_already(house):
    client, _, _ = house.served()
    reset(client)
    house.turn(3)
    house.pass_time(50.0)
    house.authority.table.resize(1000, 60.0)
    house.table_client.configure(house.app, Sticky(expires=60))
    house.pass_time(9.5)
    house.served()
    assert len(house.authority.asked()) == 2


def test_sessions_of_an_earlier_table_say_nothing_to_the_next(house):
    """The app was not sticky for a while: the end of a session from before is not that of one of today."""
    client, _, _ = house.served()
    house.table_client.configure(house.app, None)
    house.app.sticks = house.table_client.configure(house.app, house.view.sticky)
    house.served()
    reset(client)
    house.turn(3)
    assert house.reported() == []
    assert house.authority.table.in_use == 1


def test_a_draining_target_keeps_its_clients_and_gets_no_others(house):
    assert house.served()[2] == "t0"
    house.say(0, "draining")
    assert house.served()[2] == "t0"
    assert {house.served(f"127.0.1.{n}")[2] for n in range(1, 5)} == {"t1", "t2"}


@pytest.mark.parametrize("how", ["down", "removed"])
def test_a_key_of_a_target_that_is_down_gets_another_one_for_good(house, how):
    assert house.served()[2] == "t0"
    if how == "down":
        house.say(0, "down")
    else:
        del house.targets[0]
        house.configure()
    _, _, name = house.served()
    assert name != "t0"
    assert house.authority.table.get("127.0.0.1").target == name
    if how == "down":
        house.say(0, "up")
    assert house.served()[2] == name


def test_a_target_that_refuses_is_rewritten_too(house):
    assert house.served()[2] == "t0"
    house.servers[0].close()
    _, session, name = house.served()
    assert [target for target, _ in session.tried] == ["t0"]
    assert house.authority.table.get("127.0.0.1").target == name != "t0"
    assert house.served()[1].tried == []


def test_two_sessions_of_one_new_key_ask_once(house):
    house.authority.holds = True
    pairs = [house.come() for _ in range(3)]
    house.turn(3)
    assert {session.state for _, session in pairs} == {DIALING}
    house.authority.let_go()
    house.until(lambda: all(session.state is not DIALING for _, session in pairs))
    assert {session.target.name for _, session in pairs} == {"t0"}
    assert len(house.authority.asked()) == 1


def test_nobody_waits_for_who_waits(house):
    house.served("127.0.9.9")
    house.authority.holds = True
    house.come()
    assert house.served("127.0.9.9")[2] == "t0"
    house.authority.let_go()
    house.turn(3)


def test_a_client_that_goes_while_it_waits_leaves_nothing(house):
    house.authority.holds = True
    client, session = house.come()
    reset(client)
    house.until(lambda: session.state.name == "DONE")
    house.authority.let_go()
    house.turn(4)
    assert house.reported() == [(CLOSED, "web", "127.0.0.1")]
    assert house.authority.table.in_use == 0
    assert house.record()["reason"] == "client_gone"


def test_a_node_that_is_cut_off_takes_the_target_of_a_hash_as_every_other(house):
    house.authority.is_cut_off = True
    with StickyHouse(targets=3) as other:
        other.authority.is_cut_off = True
        other.served("127.0.9.9")  # another place in the turns
        keys = [f"127.0.1.{n}" for n in range(1, 25)]
        found = [house.served(key)[2] for key in keys]
        assert found == [other.served(key)[2] for key in keys]
        assert set(found) == {"t0", "t1", "t2"}
        assert sum(target.active for target in house.app.targets.values()) == len(keys), "no place is taken twice"
        away = found[0]
        for one in (house, other):
            one.say(int(away[1]), "down")
        moved = [house.served(key)[2] for key in keys]
        assert moved == [other.served(key)[2] for key in keys]
        assert away not in moved
        assert [name for name in found if name != away] == [
            new for name, new in zip(found, moved, strict=True) if name != away
        ], "only its own clients move"


def test_without_a_target_a_node_that_is_cut_off_has_none(house):
    house.authority.is_cut_off = True
    for n in range(3):
        house.say(n, "down")
    _, session, name = house.served()
    assert name is None
    assert session.state is not DIALING


def test_an_authority_that_does_not_answer_is_not_waited_for_longer_than_a_connect():
    with StickyHouse(targets=2, timeouts=Timeouts(connect=1.0)) as house:
        house.authority.holds = True
        _, session = house.come()
        house.turn(3)
        house.pass_time(1.2)
        house.until(lambda: session.state is not DIALING)
        assert session.target is not None
        house.authority.let_go()
        house.turn(3)


def test_without_an_authority_clients_are_served():
    with StickyHouse(targets=2, connected=False) as house:
        assert {house.served()[2] for _ in range(4)} == {"t0", "t1"}


def test_an_authority_that_ends_lets_those_go_who_wait(house):
    house.authority.holds = True
    _, session = house.come()
    house.turn(2)
    house.authority.close()
    house.until(lambda: session.state is not DIALING)
    assert session.target is not None


def test_news_of_the_authority_count_for_the_next_client(house):
    house.served()
    house.authority.table.set("127.0.0.1", "t2", house.loop.now)
    house.authority.tell()
    house.turn(3)
    assert house.served()[2] == "t2"
    house.authority.table.delete("127.0.0.1")
    house.authority.tell()
    house.turn(3)
    house.served()
    assert len(house.authority.asked()) == 2


def test_no_target_at_all_is_said_as_ever(house):
    for n in range(3):
        house.say(n, "down")
    assert house.served()[2] is None
    assert house.record()["reason"] == "no_target"


def test_a_key_nobody_knows_meets_only_draining_targets(house):
    for n in range(3):
        house.say(n, "draining")
    assert house.served()[2] is None
    house.authority.table.set("127.0.0.2", "t1", house.loop.now)  # another worker's
    assert house.served("127.0.0.2")[2] == "t1"


# -- first bytes


@pytest.fixture
def bytes_house():
    with StickyHouse(BYTES, targets=2) as house:
        yield house


def test_the_first_bytes_are_part_of_the_key_and_reach_the_target(bytes_house):
    house = bytes_house
    _, session, name = house.served(first=b"user1 hello")
    assert house.authority.asked()[0][0] == "127.0.0.1 75736572"
    server = house.stack.enter_context(house.servers[int(name[1])].accept()[0])
    assert house.receive(server, 11) == b"user1 hello"
    assert session.up.moved == 11


def test_a_message_in_pieces_is_waited_for(bytes_house):
    house = bytes_house
    client, session = house.come(first=b"us")
    house.turn(3)
    client.sendall(b"er2")
    house.until(lambda: session.state is not DIALING)
    assert house.authority.asked() == [("127.0.0.1 75736572", "t0", 0)]
    server = house.stack.enter_context(house.servers[0].accept()[0])
    assert house.receive(server, 5) == b"user2"


def test_a_short_message_has_a_short_slice(bytes_house):
    house = bytes_house
    client, session = house.come(first=b"ab")
    house.turn(3)
    assert session.state is DIALING
    house.pass_time(0.1)
    house.until(lambda: session.state is not DIALING)
    assert house.authority.asked()[0][0] == "127.0.0.1 6162"
    assert client is not None


def test_a_client_that_says_nothing_is_known_by_its_address_and_counted(bytes_house):
    house = bytes_house
    _, session = house.come()
    house.pass_time(2.0)
    assert session.state is DIALING
    house.pass_time(1.2)
    house.until(lambda: session.state is not DIALING)
    assert house.authority.asked()[0][0] == "127.0.0.1"
    assert house.row[house.app.slot + STICK_FALLBACKS] == 1


def test_a_client_that_only_ends_its_direction_is_known_by_its_address(bytes_house):
    house = bytes_house
    client, session = house.come()
    client.shutdown(socket.SHUT_WR)
    house.until(lambda: session.state is not DIALING)
    assert house.authority.asked()[0][0] == "127.0.0.1"
    server = house.stack.enter_context(house.servers[0].accept()[0])
    assert house.receive(server) == b""


def test_a_client_that_resets_before_it_has_said_enough_is_gone(bytes_house):
    house = bytes_house
    client, session = house.come(first=b"a")
    house.turn(2)
    reset(client)
    house.until(lambda: session.state.name == "DONE")
    assert house.record()["reason"] == "client_gone"
    assert house.authority.heard == []


def test_sessions_that_end_in_a_relay_thread_leave_their_key():
    with StickyHouse(targets=1, relays=True) as house:
        client, session, _ = house.served()
        server = house.stack.enter_context(house.servers[0].accept()[0])
        house.until(lambda: session.up is not None)
        assert house.thread.send_away(session)
        house.until(lambda: session.thread is not house.thread)
        reset(client)
        house.until(lambda: house.records.all)
        house.until(lambda: any(item[0] == CLOSED for item in house.authority.heard))
        assert server is not None


def test_a_black_hole_is_left_after_connect():
    with StickyHouse(targets=2, timeouts=Timeouts(connect=1.0)) as house:
        house.authority.table.set("127.0.0.1", "t0", house.loop.now)
        address = blackhole(house.stack)
        house.targets[0] = dataclasses.replace(house.targets[0], endpoints=((2, address),))
        house.configure()
        _, session = house.come()
        house.turn(3)
        house.pass_time(1.2)
        house.until(lambda: session.state is not DIALING)
        assert session.target.name == "t1"
        assert house.authority.table.get("127.0.0.1").target == "t1"


# -- in the app's queue


class QueueHouse(StickyHouse):
    """Each target may have one session, and five clients may wait."""

    def __init__(self, targets):
        super().__init__(targets=targets)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.stack.callback(os.close, self.bell)
        queue = PlaceQueue(self.loop, Bell(self.loop, self.bell), lambda: [self.row], self.row, self.app.slot)
        queue.configure(SessionLimits(queue=5))
        self.app.use_queue(queue)
        for n, tokens in enumerate(make_semaphores({("web", f"t{n}"): 1 for n in range(targets)}).values()):
            self.app.targets[f"t{n}"].adopt(tokens, [self.row])

    def target(self, n, state="up"):
        return dataclasses.replace(super().target(n, state), limited=True)

    def __exit__(self, *what):
        for target in self.app.targets.values():
            self.stack.callback(target.lift)
        super().__exit__(*what)

    @contextlib.contextmanager
    def not_looking(self):
        """The bell rings, and nobody hears it."""
        look, self.app.queue._is_looking = self.app.queue._is_looking, True
        yield
        self.app.queue._is_looking = look

    def end(self, client, session):
        reset(client)
        self.until(lambda: session.state is DONE)


def test_whoever_belongs_to_a_target_overtakes_nobody_who_waits():
    with QueueHouse(targets=1) as house:
        first, one, _ = house.served("127.0.0.1")
        waiter, two = house.come("127.0.0.2")
        house.turn(5)
        assert (two.state, len(house.app.queue)) == (DIALING, 1)
        with house.not_looking():
            house.end(first, one)
            _, three = house.come("127.0.0.1")
            house.turn(5)
        assert two.target is None
        house.app.queue.look()
        house.until(lambda: two.state is not DIALING)
        assert three.state is DIALING
        house.end(waiter, two)
        house.until(lambda: three.state is not DIALING)
        assert three.target.name == "t0"


def test_a_turn_in_the_queue_is_for_the_own_target_and_a_new_key_belongs_to_what_it_gets():
    with QueueHouse(targets=2) as house:
        ends = {}
        for source in ("127.0.0.1", "127.0.0.2"):
            client, session, name = house.served(source)
            ends[name] = source, client, session
        owner, *busy = ends["t1"]
        waiter, waits = house.come("127.0.0.9")
        house.turn(5)
        house.end(*busy)
        house.until(lambda: waits.state is not DIALING)
        house.turn(5)
        assert house.authority.table.find("127.0.0.9", house.loop.now).target == waits.target.name == "t1"
        _, own = house.come(owner)
        house.turn(5)
        assert own.state is DIALING
        with house.not_looking():
            house.end(*ends["t0"][1:])
            house.end(waiter, waits)
        house.app.queue.look()
        house.until(lambda: own.state is not DIALING)
        assert own.target.name == "t1", "both are free, and it belongs to this one"
