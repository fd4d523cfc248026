"""The queues of a worker's apps: made where one is wanted, kept while somebody waits, told to whoever gives places back."""

import dataclasses
import os

from tcp_proxy.config.model import SessionLimits
from tcp_proxy.dataplane.place_queues import PlaceQueues
from tcp_proxy.wire.views import AppView
from tests.dataplane.house import House


class Rig:
    def __init__(self, house):
        self.house, self.app = house, house.app
        self.queues = PlaceQueues(house.loop, os.eventfd(0, os.EFD_NONBLOCK), house.memory.rows, house.row)
        self.view = AppView("web", house.app.slot, "round_robin", 3, house.app.timeouts, ())

    def configure(self, **limits):
        self.queues.configure(self.app, dataclasses.replace(self.view, limits=SessionLimits(**limits)))

    def close(self):
        self.queues._bell.close()


def test_an_app_has_a_queue_where_one_is_wanted():
    with House() as house:
        rig = Rig(house)
        rig.configure(sessions=5)
        assert house.app.queue is None
        rig.configure(queue=5)
        first = house.app.queue
        assert house.app.targets["t0"].queue is first
        rig.configure(queue=7, queue_timeout=1)
        assert house.app.queue is first
        rig.configure()
        assert house.app.queue is house.app.targets["t0"].queue is None
        rig.close()


def test_one_that_is_off_is_kept_while_somebody_waits():
    with House(limits=(1,)) as house:
        rig = Rig(house)
        target = house.app.targets["t0"]
        target.adopt(os.eventfd(1, os.EFD_SEMAPHORE | os.EFD_NONBLOCK), house.memory.rows[1:])
        rig.configure(queue=5)
        client, server, session = house.pair()
        _, waits = house.client()
        rig.configure()
        assert len(house.app.queue) == 1
        assert waits.dial.queue is house.app.queue
        client.close()
        server.close()
        house.until(lambda: waits.state.name == "RELAYING")
        rig.configure()
        assert house.app.queue is None
        target.lift()
        rig.close()
        del session
