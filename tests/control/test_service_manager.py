"""sd_notify: what a service manager hears, that its faults are not ours, and nothing without one."""

import contextlib
import os
import socket
import threading

import pytest

from kit.waiting import PATIENCE
from tcp_proxy.control import service_manager
from tcp_proxy.control.service_manager import MOST_WAITING, SEND_AGAIN, ServiceManager


@pytest.fixture
def manager(tmp_path):
    """Its socket, as systemd has one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def tell(bench, tmp_path, manager):
    """tell(): one of ours, which knows of the manager; with more of an environment."""
    with contextlib.ExitStack() as stack:

        def made(**more):
            environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "PATH": "/bin", **more}
            one = ServiceManager(bench.loop, environment)
            assert environment == {"PATH": "/bin"}, "scripts would have it"
            stack.callback(one.close)
            return one

        yield made


def heard(manager):
    messages = []
    with contextlib.suppress(BlockingIOError):
        while True:
            messages.append(manager.recv(4096).decode().split("\n"))
    return messages


def test_it_hears_of_each_step(bench, tell, manager):
    one = tell()
    one.start()
    one.ready("2 apps")
    bench.turn(3.5)
    one.reloading()
    one.ready("SIGHUP: done")
    one.stopping("no new clients", 12.5)
    assert heard(manager) == [
        ["READY=1", "STATUS=2 apps"],
        ["RELOADING=1", f"MONOTONIC_USEC={int(bench.loop.now * 1e6)}"],
        ["READY=1", "STATUS=SIGHUP: done"],
        ["STOPPING=1", "STATUS=no new clients", "EXTEND_TIMEOUT_USEC=12500000"],
    ]


def test_a_socket_with_an_abstract_name(bench):
    name = f"tcp-proxy-notify-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.setblocking(False)
        one = ServiceManager(bench.loop, {"NOTIFY_SOCKET": "@" + name})
        one.ready("it")
        one.close()
        assert heard(manager) == [["READY=1", "STATUS=it"]]


@pytest.mark.parametrize("is_said", [False, True], ids=["anybody", "us"])
def test_the_watchdog_hears_of_us_twice_in_its_time(bench, tell, manager, is_said):
    one = tell(WATCHDOG_USEC="2000000", **({"WATCHDOG_PID": str(os.getpid())} if is_said else {}))
    bench.turn(5)
    assert heard(manager) == []
    one.start()
    for _ in range(4):
        assert heard(manager) == [["WATCHDOG=1"]]
        bench.turn(0.9)
        assert heard(manager) == []
        bench.turn(0.1)
    one.close()
    bench.turn(60)
    assert heard(manager) == [["WATCHDOG=1"]]  # the one before its end


@pytest.mark.parametrize("more", [{"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}])
def test_a_watchdog_of_somebody_else_or_none(bench, tell, manager, more):
    one = tell(**more)
    one.start()
    bench.turn(60)
    assert heard(manager) == []


def test_what_there_is_no_room_for_comes_later_and_in_order(bench, tell, manager):
    one = tell(WATCHDOG_USEC="1000000")
    one.start()
    sent = MOST_WAITING // 2
    for number in range(sent):  # more than a socket's queue, 10 by default
        one.ready(str(number))
    bench.turn(10)  # the watchdog is not told that we turn by what is older
    messages = heard(manager)
    while bench.loop.now and len(messages) < sent + 1:
        bench.turn(SEND_AGAIN)
        messages += heard(manager)
    assert messages[0] == ["WATCHDOG=1"]
    ready = [status for kind, *status in messages if kind == "READY=1"]
    assert ready == [[f"STATUS={number}"] for number in range(sent)]


def test_that_another_process_is_the_service_is_heard_by_one_that_reads_later(bench, tell, manager):
    one = tell()
    for number in range(MOST_WAITING):
        one.ready(str(number))  # until it has no room
        if one._waiting:
            break
    else:
        pytest.fail("it has room for everything")
    one.hand_over(4711, "it")
    ends = threading.Thread(target=one.close)
    ends.start()
    manager.settimeout(PATIENCE)
    while "MAINPID=4711" not in (said := manager.recv(4096).decode().split("\n")):
        pass
    ends.join(PATIENCE)
    assert said == ["MAINPID=4711", "READY=1", "STATUS=it"]
    manager.setblocking(False)
    assert heard(manager) == []


def test_one_that_never_hears_who_the_service_is_is_given_up(bench, tell, manager, monkeypatch, caplog):
    monkeypatch.setattr(service_manager, "LAST_WORD", 0.05)
    one = tell()
    for number in range(MOST_WAITING):
        one.ready(str(number))
    one.hand_over(4711, "it")
    one.close()
    assert caplog.messages == ["the service manager hears nothing of us any more: NOTIFY_SOCKET: it has no room"]
    caplog.clear()


def test_one_that_never_reads_costs_bounded_memory(bench, tell):
    one = tell()
    for number in range(10_000):  # the kernel keeps some for it: with what systemd sets, hundreds
        one.ready(str(number))
    assert len(one._waiting) == MOST_WAITING


def test_one_that_is_gone_is_given_up_with_one_line(bench, tell, manager, tmp_path, caplog):
    one = tell(WATCHDOG_USEC="1000000")
    manager.close()
    one.start()
    one.ready("it")
    bench.turn(10)
    assert caplog.messages == ["the service manager hears nothing of us any more: NOTIFY_SOCKET: Connection refused"]
    caplog.clear()


def test_one_that_is_no_unix_socket(bench, caplog):
    one = ServiceManager(bench.loop, {"NOTIFY_SOCKET": "vsock:2:1234"})
    one.ready("it")
    assert caplog.messages == ["NOTIFY_SOCKET: vsock:2:1234 is no UNIX socket, so the service manager hears nothing of us"]
    caplog.clear()


def test_without_one_there_is_nothing(bench):
    one = ServiceManager(bench.loop, {"WATCHDOG_USEC": "1000000"})
    one.start()
    one.ready("it")
    one.reloading()
    one.stopping("it", 1.0)
    bench.turn(10)
    one.close()
