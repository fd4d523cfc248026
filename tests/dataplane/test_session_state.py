"""The steps a session can take, and what each event does in each state: a real session is brought into the state first."""

import itertools
import socket

import pytest

from tcp_proxy.config.model import Timeouts
from tcp_proxy.dataplane.primary_queue import dequeue_all, enqueue_all
from tcp_proxy.dataplane.session_state import DIALING, DONE, LINGERING, QUEUED, RELAYING, STEPS, State
from tcp_proxy.sansio.reasons import Reason, Side
from tests.dataplane.house import House, blackhole, reset

TIMEOUTS = Timeouts(connect=1.0, idle=10.0, half_closed=2.0)


def test_every_state_can_be_reached_and_can_end():
    reached, todo = set(), [DIALING]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += STEPS[state]
    assert reached == set(State) == set(STEPS)
    assert STEPS[DONE] == ()
    assert all(DONE in steps for state, steps in STEPS.items() if state is not DONE)


class Scene:
    """A session of a failover app, its client, and the target's end of it where there is one."""

    def __init__(self, house, state):
        self.house, self.server = house, None
        good = house.endpoint(house.servers[0])
        if state is DIALING:
            house.app.change_target("t0", "up", ((socket.AF_INET, blackhole(house.stack)),))
        house.app.primary_queue.wait = 30.0
        if state is not QUEUED:
            house.app.elect(1, "t0", house.loop.now)
        if state in (DIALING, QUEUED):
            self.client, self.session = house.client()
        else:
            self.client, self.server, self.session = house.pair()
        if state is LINGERING:  # the client does not acknowledge all that the target has sent before its reset
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.session.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self.server.sendall(bytes(300_000))
            house.until(lambda: self.session.down.delivered == 300_000)
            reset(self.server)
            self.server = None
            house.turn(3)
        if state is DONE:
            self.session.kill(Reason.SHUTDOWN, Side.PROXY)
        house.app.change_target("t0", "up", (good,))  # for who dials again
        assert self.session.state is state

    def client_resets(self):
        reset(self.client)

    def client_ends(self):
        self.client.shutdown(socket.SHUT_WR)

    def target_resets(self):
        if self.server is not None:
            reset(self.server)

    def target_ends(self):
        if self.server is not None:
            self.server.close()

    def kill(self):
        self.session.kill(Reason.SHUTDOWN, Side.PROXY)

    def target_is_cut_off(self):
        self.house.app.cut(Reason.DEMOTED)
        self.session.cut_off()

    def no_primary(self):
        self.house.app.elect(2, "", self.house.loop.now)
        enqueue_all(self.house.app, self.house.thread.members)

    def new_primary(self):
        self.house.app.elect(2, "t0", self.house.loop.now)
        dequeue_all(self.house.app, self.house.thread.members)

    def time_passes(self):
        self.house.pass_time(60.0)


EVENTS = {
    "client_resets": (DONE, DONE, DONE, DONE),
    "client_ends": (DIALING, DONE, RELAYING, LINGERING),
    "target_resets": (DIALING, QUEUED, DONE, LINGERING),
    "target_ends": (DIALING, QUEUED, RELAYING, LINGERING),
    "kill": (DONE, DONE, DONE, DONE),
    "target_is_cut_off": (DIALING, QUEUED, DONE, LINGERING),
    "no_primary": (QUEUED, QUEUED, RELAYING, LINGERING),
    "new_primary": (DIALING, RELAYING, RELAYING, LINGERING),
    "time_passes": (QUEUED, DONE, DONE, DONE),
}
BEFORE = (DIALING, QUEUED, RELAYING, LINGERING)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, EVENTS)))
def test_every_event_in_every_state_leads_to_the_state_of_the_table(state, event):
    with House(timeouts=TIMEOUTS, balance="failover") as house:
        scene = Scene(house, state)
        getattr(scene, event)()
        house.turn(4)
        house.pass_time(0.3)  # a delivery asks again
        assert scene.session.state is (DONE if state is DONE else EVENTS[event][BEFORE.index(state)])
