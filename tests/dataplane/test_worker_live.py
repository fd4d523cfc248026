"""A worker whose configuration changes while it serves: apps and targets come and go, listeners, limits, records, rows."""

import os
import socket

import pytest

from kit import procfs
from kit.waiting import wait_until
from tcp_proxy.config.log_model import AccessLogs
from tcp_proxy.config.model import Timeouts
from tcp_proxy.wire import counters
from tcp_proxy.wire.messages import (
    Configure,
    Configured,
    Drain,
    Drained,
    Grow,
    HandOver,
    Limits,
    Listen,
    Records,
    Unlisten,
    Unlistened,
)
from tcp_proxy.wire.views import AppView, TargetView
from tests.dataplane.test_worker import FIRST_TARGET, ROWS, SLOT, Driver, listens


@pytest.fixture
def driver():
    with Driver(targets=2) as driver:
        driver.last = driver.slots(2) - counters.APP_SLOTS
        yield driver


def app(driver, *targets, name="web", timeouts=None, balance="round_robin"):
    return AppView(name, driver.last, balance, 3, timeouts or Timeouts(), targets)


def configure(driver, *apps, removed=()):
    generation = len(driver.of(Configured)) + 1
    driver.say(Configure(generation, 1, 5.0, apps, removed))
    assert driver.of(Configured)[-1] == Configured(generation)


def whole_session(driver, target):
    client, server = driver.session(target)
    client.fin()
    server.expect_fin().fin()


def semaphore(limit):
    return os.eventfd(limit, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)


def test_targets_come_and_go_and_sessions_stay(driver):
    configure(driver, app(driver, driver.view(0)))
    first = driver.session(target=0)
    configure(driver, app(driver, driver.view(1)))
    second = driver.session(target=1)
    driver.session(target=1)
    for client, server in (first, second):
        client.send(b"more")
        server.expect(b"more").send(b"yes")
        client.expect(b"yes")
    first[0].fin()
    first[1].expect_fin().fin()
    (record,) = driver.records(1)
    assert (record.target, record.reason, record.bytes_up) == ("t0", "done", 9)
    assert driver.total(FIRST_TARGET + counters.ACTIVE) == 0
    assert driver.total(FIRST_TARGET + counters.BYTES_UP) == 9


def test_a_new_app_gets_a_listener_of_another_one(driver):
    client, server = driver.session(target=0)
    configure(driver, app(driver, driver.view(0)), app(driver, driver.view(1), name="new"))
    driver.say(HandOver((7,), (SLOT,), ("new",)))
    driver.session(target=1)
    configure(driver, removed=("web",))
    driver.session(target=1)
    client.send(b"still")
    server.expect(b"still").fin()
    client.fin()
    assert driver.records(1)[0].app == "web"


def test_a_listener_that_is_closed_before_it_is_another_apps_is_none(driver):
    """A worker that leaves: what it says of its end and the next reload cross each other. Its sessions go on."""
    client, server = driver.session(target=0)
    driver.say(Unlisten((7,), 0.0))
    driver.until(lambda: driver.of(Unlistened))
    configure(driver, app(driver, driver.view(0)), app(driver, driver.view(1), name="new"))
    driver.say(HandOver((7,), (SLOT,), ("new",)))
    configure(driver, app(driver, driver.view(0)), removed=("new",))
    client.send(b"still")
    server.expect(b"still").fin()
    client.expect_fin().fin()
    assert driver.records(1)[0].reason == "done"


def test_one_of_two_listeners_closes_and_the_other_goes_on(driver):
    other = socket.create_server(("127.0.0.1", 0))
    driver.say(Listen((8,), (SLOT,), ("web",), ("other",), 1), [other.fileno()])
    before = procfs.kinds(driver.pid)["socket"]
    for number in range(3):
        driver.say(Unlisten((8,), 0.0))
        driver.until(lambda number=number: len(driver.of(Unlistened)) == number + 1)
        assert driver.of(Unlistened)[-1] == Unlistened((8,))
        wait_until(lambda: listens(driver) == 1, "one listener")
        configure(driver, app(driver, driver.view(0)))
        driver.session(target=0)
        driver.say(Listen((8,), (SLOT,), ("web",), ("other",), 1), [other.fileno()])
    assert procfs.kinds(driver.pid)["socket"] == before + 2 * 3
    other.close()


def test_a_limit_comes_while_sessions_are_there_and_goes_again(driver):
    first = driver.session(target=0)
    configure(driver, app(driver, driver.view(0, limited=True)))
    before = procfs.kinds(driver.pid)["anon_inode"]
    for _ in range(3):
        tokens = semaphore(2)
        driver.say(Limits((FIRST_TARGET,), 1), [tokens])
        os.close(tokens)
    second = driver.session(target=0)
    driver.connect().expect_rst()
    assert procfs.kinds(driver.pid)["anon_inode"] == before + 1, "each takes the place of the one before"
    configure(driver, app(driver, driver.view(0)))
    wait_until(lambda: procfs.kinds(driver.pid)["anon_inode"] == before, "the semaphore is closed")
    third = driver.session(target=0)
    for client, server in (first, second, third):
        client.fin()
        server.expect_fin().fin()
    assert [record.reason for record in driver.records(4)] == ["limit", "done", "done", "done"]


def test_a_limit_that_comes_after_it_was_lifted_again_is_nothing(driver):
    """Messages are obeyed in order, but a semaphore counts only when every thread knows of the limit."""
    before = procfs.kinds(driver.pid)["anon_inode"]
    tokens = semaphore(1)
    driver.channel.send(Configure(1, 1, 5.0, (app(driver, driver.view(0, limited=True)),), ()))
    driver.channel.send(Limits((FIRST_TARGET,), 1), [tokens])
    configure(driver, app(driver, driver.view(0)))
    os.close(tokens)
    for _ in range(3):
        driver.session(target=0)
    wait_until(lambda: procfs.kinds(driver.pid)["anon_inode"] == before, "no semaphore is left")


def test_shorter_timeouts_hold_for_sessions_there_are(driver):
    client, server = driver.session(target=0)
    configure(driver, app(driver, driver.view(0), timeouts=Timeouts(idle=0.2)))
    client.expect_rst()
    server.expect_rst()
    assert driver.records(1)[0].reason == "idle_timeout"


def test_records_stop_and_go_on_in_another_pipe(driver):
    whole_session(driver, 0)
    assert driver.records(1)
    driver.say(Records(0))
    wait_until(lambda: os.read(driver.records_fd, 1) == b"", "the end of the pipe")
    before = procfs.kinds(driver.pid)
    whole_session(driver, 1)
    driver.until(lambda: driver.total(counters.SESSIONS) == 0)
    os.close(driver.records_fd)
    driver.records_fd, write_fd = os.pipe()
    driver.say(Records(1, AccessLogs(format="json")), [write_fd])
    os.close(write_fd)
    whole_session(driver, 0)
    (record,) = driver.records(1)
    assert record.id == "inc-3"
    assert procfs.kinds(driver.pid)["pipe"] == before["pipe"] + 1


def test_the_counters_memory_grows(driver):
    os.ftruncate(driver.memory_fd, (ROWS + 3) * driver.memory.slots * 8)
    driver.say(Grow(ROWS + 3, 1), [driver.memory_fd])
    driver.memory.add_rows(driver.memory_fd, ROWS + 3)
    driver.memory.rows[ROWS][counters.ACCEPTING] = 1
    driver.session(target=0)
    assert driver.total(counters.ACCEPTED) == 1


def test_a_worker_that_leaves_takes_its_time_until_told_otherwise(driver):
    client, server = driver.session(target=0)
    driver.say(Unlisten((7,), 0.0))
    driver.wait(Unlistened)
    driver.say(Drain(-1.0))
    client.send(b"on")
    server.expect(b"on")
    driver.say(Drain(0.05))
    assert driver.wait(Drained) == Drained(1)
    assert driver.wait_end() == 0
    client.expect_rst()


def test_a_view_of_another_target_in_its_place_is_another_target(driver):
    """Names may be the same: slots say who is who."""
    client, server = driver.session(target=0)
    other = TargetView("t0", FIRST_TARGET + counters.TARGET_SLOTS, 1, False, False, "up", (driver.endpoint(1),))
    configure(driver, app(driver, other))
    driver.session(target=1)
    assert driver.total(FIRST_TARGET + counters.ACTIVE) == 1
    client.fin()
    server.expect_fin().fin()
    driver.until(lambda: driver.total(FIRST_TARGET + counters.ACTIVE) == 0)
