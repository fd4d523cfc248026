"""The smaller instruments: clogged, clock, procfs, waiting, servers, load."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from kit import procfs
from kit.clock import Clock
from kit.clogged import clog, drain, fill
from kit.exchange import exchange, move_streams
from kit.load import Load
from kit.peer import Target, connect
from kit.ports import free_port
from kit.servers import Service, start_service
from kit.waiting import Stopwatch, pause, settled, wait_until
from tcp_proxy.runtime.loop import Loop

# -- clogged


def test_a_filled_socket_takes_nothing_and_drains_to_the_last_byte():
    left, right = socket.socketpair()
    with left, right:
        count = fill(left)
        with pytest.raises(BlockingIOError):
            left.send(b"x", socket.MSG_DONTWAIT)
        assert len(drain(right)) == count
        assert left.send(b"x", socket.MSG_DONTWAIT) == 1
        assert drain(right) == b"x"
        assert drain(right) == b""


def test_a_clogged_listener_lets_every_connect_time_out():
    with Target(backlog=0) as target, clog(target), pytest.raises(TimeoutError):
        connect(target.port, seconds=0.2)


# -- exchange


@pytest.mark.parametrize("fins", [True, False])
def test_an_exchange_moves_both_directions_at_once_in_the_given_pieces(fins):
    with Target() as target, connect(target.port) as client:
        server = target.accept()
        up, down = os.urandom(3_000_001), os.urandom(2_000_000)
        assert exchange(client, up, [1, 2, 70000] * 500, server, down, [1] * 1000, fins=fins) == (up, down)
        assert (client.ended, server.ended) == (("fin", "fin") if fins else ("", ""))


def test_streams_are_compared_by_count_and_digest():
    with Target() as target, connect(target.port) as client:
        assert move_streams(client, target.accept(), 5 << 20, 3 << 20) == (5 << 20, 3 << 20)


# -- clock


def test_a_loop_runs_on_the_clock_of_the_test():
    clock, called = Clock(), []
    loop = Loop(clock=clock)
    loop.call_later(3600, called.append, "an hour later")
    loop.run_once(0)
    assert called == []
    clock.turn(3600)
    loop.run_once(0)
    assert called == ["an hour later"]
    loop.close()
    with pytest.raises(AssertionError):
        clock.turn(-1)


# -- procfs


def test_descriptors_and_socket_states_of_a_process():
    before = procfs.kinds(os.getpid())
    with Service() as service, connect(service.port):
        wait_until(lambda: service.active == 1, "the accept")
        assert procfs.kinds(os.getpid())["socket"] == before["socket"] + 5  # listener, both ends, the stop pair
        assert procfs.tcp_sockets(os.getpid()) == {"LISTEN": 1, "ESTABLISHED": 2}
        others = procfs.sockets(os.getpid())
        loose, (one, two) = socket.socket(), socket.socketpair()
        with loose, one, two:
            assert procfs.sockets(os.getpid()) - others == {"UNIX": 2, "in no table": 1}
    assert procfs.kinds(os.getpid()) == before


def test_close_wait_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as listener, connect(listener.getsockname()[1]) as client:
        sock, _ = listener.accept()
        with sock:
            client.close()
            wait_until(lambda: procfs.tcp_sockets(os.getpid())["CLOSE_WAIT"] == 1, "CLOSE_WAIT")


def test_bytes_that_wait_in_a_pipe_are_counted():
    """Of a process that has one pipe: what started the tests may have given them some, and write to them."""
    elsewhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE, **elsewhere) as child:
        os.write(child.stdin.fileno(), b"12345")
        assert procfs.waiting_in_pipes(child.pid) == 5
        child.kill()


def test_children_and_their_ends():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in procfs.children(os.getpid())
        assert procfs.child_ids(os.getpid()) == set(procfs.children(os.getpid()))
        assert procfs.is_running(child.pid)
        child.kill()
        wait_until(lambda: not procfs.is_running(child.pid), "its end")
    assert not procfs.is_running(child.pid)


def test_what_a_process_uses():
    ignore = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)"
    code = f"{ignore}; x = b'1' * (40 << 20); sum(range(3 * 10**6)); print(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert procfs.resident(child.pid) > 40 << 20
        assert procfs.cpu_seconds(child.pid) > 0
        assert procfs.threads(child.pid) == 1
        assert procfs.blocks_signal(child.pid, signal.SIGUSR1)
        assert not procfs.blocks_signal(child.pid, signal.SIGUSR2)
        child.stdin.close()


# -- waiting


def test_wait_until_returns_what_was_found_or_names_what_was_not():
    assert wait_until(lambda: [1], "a list") == [1]
    with pytest.raises(TimeoutError, match="the sun"):
        wait_until(lambda: False, "the sun", seconds=0.01)


def test_settled_means_counted_and_unchanged():
    numbers = iter([0, 1, 2, 3, 3])
    assert [settled(lambda: next(numbers), seconds=0) for _ in range(3)] == [False, False, True]


def test_a_pause_lasts():
    watch = Stopwatch()
    pause(0.02)
    assert watch.seconds >= 0.02


# -- servers and load


def test_a_service_greets_and_echoes_more_than_fits():
    with Service(greeting=b"hello") as service, connect(service.port) as client:
        client.expect(b"hello")
        sender = threading.Thread(target=client.send, args=(b"x" * (16 << 20),), name="sender")
        sender.start()
        assert client.receive(16 << 20) == b"x" * (16 << 20)
        sender.join()
        assert (service.accepted, service.active, service.most) == (1, 1, 1)
        client.fin().expect_fin()


def test_a_service_that_hangs_up_is_read_to_its_end():
    with Service(greeting=b"s1", hang_up=True) as service, connect(service.port) as client:
        client.send(b"not read")
        assert client.read_to_end() == b"s1"
        assert client.ended == "fin"


def test_load_counts_what_goes_well_and_by_whom():
    with Service(greeting=b"s1\n") as service:
        with Load(service.port, clients=3) as load:
            load.wait_sessions(30)
        assert load.failures == []
        assert load.answers == {b"s1": load.done}
        assert service.accepted == load.done


def test_load_sees_a_process_that_is_killed():
    with start_service(free_port(), "s1") as process, Load(int(process.args[2]), clients=3) as load:
        load.wait_sessions(10)
        process.kill()
        wait_until(lambda: load.failed_in("connect"), "a refused client")


def test_the_folder_in_which_a_process_counts_its_descriptors_is_none_of_them():
    before = procfs.kinds(os.getpid())
    folder = os.open(f"/proc/{os.getpid()}/fd", os.O_RDONLY)
    try:
        assert procfs.kinds(os.getpid()) == before
    finally:
        os.close(folder)
