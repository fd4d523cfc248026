"""The health thread of an app on real targets and the real clock: every kind of target, many at once, and the end."""

import contextlib
import itertools
import logging
import select
import socket
import threading
import time

import pytest

from kit.clogged import clog
from kit.ports import free_port
from kit.waiting import PATIENCE, Deadline, Stopwatch, wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.control.health.ping import permission_error
from tcp_proxy.control.health.runner import HealthRunner
from tcp_proxy.control.targets.resolver import endpoints
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.verdict import State
from tests.control.health.bench import Hand, Running, at, no_descriptors, sockets


def test_targets_may_be_set_before_the_start(service):
    with Running(Check(), a=at(service())) as running:
        assert running.next().state is State.UP


def test_an_asked_for_probe_finds_a_dead_target(free_port, service):
    echo = service()
    with Running(Check(interval=3600.0), a=at(echo)) as running:
        running.until("a", State.UP)
        echo.close()
        running.runner.probe_now("a")
        assert "ECONNREFUSED" in running.until("a", State.DOWN).evidence


def test_too_few_descriptors_for_real(bench, target, caplog):
    server = target()
    hand = Hand(bench, Check(interval=10.0))
    with no_descriptors(), caplog.at_level(logging.WARNING):
        hand.set_targets(a=at(server))
        bench.turn(10.0)
        bench.turn(10.0)
    assert hand.take() == []
    assert [record.message for record in caplog.records] == [
        "app shop: target a cannot be checked: tcp: too many open files (EMFILE)"
    ]
    bench.turn(10.0)
    bench.until(lambda: hand.findings)
    assert hand.take() == [("a", "up")]
    hand.runner.stop()


def test_all_kinds_of_targets(service, tmp_path, free_port):
    """IPv6 ones too: the original failed on them."""
    one, six = service(), service(host="::1")
    service(path=tmp_path / "s")
    with Running(
        Check(),
        one=at(one),
        six=at(six),
        local=endpoints(Address(path=str(tmp_path / "s")), ()),
        dead=endpoints(Address("::1", free_port()), ()),
    ) as running:
        found = {finding.target: finding for finding in (running.next() for _ in range(4))}
    assert {name: finding.state.value for name, finding in found.items()} == {
        "one": "up", "six": "up", "local": "up", "dead": "down",
    }  # fmt: skip
    assert found["six"].evidence == f"tcp [::1]:{six.port}: accepted (first result)"


@pytest.mark.skipif(permission_error() is not None, reason="this user may not send ICMP")
def test_ping_and_tcp_together(service):
    echo = service()
    with Running(Check(type="ping"), Check(), a=at(echo), b=endpoints(Address("::1", free_port()), ())) as running:
        assert running.until("b", State.DOWN).changed
        running.runner.set_targets({"a": at(echo)})
    with Running(Check(type="ping"), a=at(echo), b=endpoints(Address("::1", 9), ())) as running:
        texts = sorted(running.next().evidence.split(" in ")[0] for _ in range(2))
    assert texts == ["ping 127.0.0.1: answered", "ping ::1: answered"]
    wait_until(lambda: echo.active == 0, "the end of the probe's connection")


def test_one_of_two_addresses_is_enough(service, free_port):
    echo = service()
    dead = endpoints(Address("127.0.0.1", free_port()), ())
    with Running(Check(), a=dead + at(echo), b=dead + endpoints(Address("::1", dead[0][1][1]), ())) as running:
        found = {finding.target: finding for finding in (running.next() for _ in range(2))}
    assert found["a"].state is State.UP
    assert found["b"].state is State.DOWN
    assert "and 1 more address failed" in found["b"].evidence


def test_forty_silent_targets_cost_one_timeout(target):
    hole = target(backlog=0)
    with clog(hole):
        deadline = Deadline()
        targets = {f"t{n}": at(hole) for n in range(40)}
        with Running(Check(timeout=2.0, interval=30.0), **targets) as running:
            found = [running.next() for _ in range(40)]
        assert not deadline.is_over, "one after another they would take 80 s"
        assert {finding.target for finding in found} == set(targets)
        assert {finding.state for finding in found} == {State.DOWN}


def test_only_odd_servers_are_checked():
    """HAProxy: 1be_40srv_odd_health_checks."""
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(40):
            servers.append(sock := stack.enter_context(socket.socket()))
            sock.bind(("127.0.0.1", 0))
            sock.listen()
        where = {f"s{n}": ((socket.AF_INET, sock.getsockname()),) for n, sock in enumerate(servers)}
        odd = {name: endpoint for n, (name, endpoint) in enumerate(where.items()) if n % 2}
        with Running(Check(interval=0.2, timeout=0.2), **odd) as running:
            found = [running.next() for _ in range(20)]
        assert {(finding.target, finding.state) for finding in found} == {(name, State.UP) for name in odd}
        ready, _, _ = select.select(servers, [], [], 0)
        assert ready == servers[1::2]


def test_down_and_up_again(service):
    port = free_port()
    with Running(Check(interval=0.05, timeout=0.05, rise=2, fall=2), a=((socket.AF_INET, ("127.0.0.1", port)),)) as running:
        assert running.next().state is State.DOWN
        for _ in range(2):
            echo = service(port=port)
            assert running.next().evidence == f"tcp 127.0.0.1:{port}: accepted (rise 2/2)"
            echo.close()
            assert running.next().evidence == f"tcp 127.0.0.1:{port}: connection refused (ECONNREFUSED) (fall 2/2)"


# -- many


class Thousand:
    """One listener that answers on a thousand addresses of 127/8: as many targets. `targets` is where they are."""

    def __init__(self, count):
        self.listener = socket.socket()
        self.listener.bind(("0.0.0.0", 0))
        self.listener.listen(4096)
        port = self.listener.getsockname()[1]
        self.targets = {
            f"t{n}": ((socket.AF_INET, (f"127.1.{n // 250}.{n % 250 + 1}", port)),) for n in range(count)
        }  # fmt: skip
        self.thread = threading.Thread(target=self.serve, name="thousand")
        self.thread.start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                self.listener.accept()[0].close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


def results(running, name, result):
    return running.runner._counts._counts.get(("shop", name), {}).get(("tcp", result), 0)  # as cheap as can be: it is polled


@pytest.mark.slow
def test_a_thousand_targets_are_probed_every_second(servers):
    """What that costs stands in docs/performance.md; run with -s, this test says it."""
    thousand = Thousand(1000)
    servers.callback(thousand.close)
    with Running(Check(interval=1.0, timeout=1.0), **thousand.targets) as running:
        wait_until(lambda: all(results(running, name, "success") for name in thousand.targets), "the first round", 30)
        spent, watch = cpu_of("health-shop"), Stopwatch()
        start = sum(results(running, name, "success") for name in thousand.targets)
        wait_until(lambda: results(running, "t0", "success") >= 6, "five more rounds", 40)
        counts = [results(running, name, "success") for name in thousand.targets]
        spent, seconds = cpu_of("health-shop") - spent, watch.seconds
    assert min(counts) >= 4, "nobody is left behind"
    assert max(counts) <= 9
    assert not any(results(running, name, "failure") for name in thousand.targets)
    print(f"{(sum(counts) - start) / seconds:.0f} probes a second, {100 * spent / seconds:.1f} % of a CPU")  # noqa: T201


def cpu_of(name):
    """Seconds of CPU of one of our threads."""
    (thread,) = [thread for thread in threading.enumerate() if thread.name == name]
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


@pytest.mark.slow
def test_999_keep_their_schedule_beside_a_black_hole(servers, target):
    thousand, hole = Thousand(999), target(backlog=0)
    servers.callback(thousand.close)
    servers.enter_context(clog(hole))
    with Running(Check(interval=1.0, timeout=1.0), hole=at(hole), **thousand.targets) as running:
        assert "no answer in 1 s" in running.until("hole", State.DOWN).evidence
        wait_until(lambda: results(running, "hole", "failure") >= 4, "four rounds of the hole", 40)
        counts = [results(running, name, "success") for name in thousand.targets]
    assert min(counts) >= 3
    assert not any(results(running, name, "failure") for name in thousand.targets)


# -- the end


def test_the_thread_has_the_apps_name_and_ends_with_stop(target):
    hole = target(backlog=0)
    with clog(hole):
        before = sockets()
        with Running(Check(), app="web", a=at(hole)) as running:
            assert "health-web" in {thread.name for thread in threading.enumerate()}
            wait_until(lambda: sockets() == before + 1, "the probe under way")
        assert "health-web" not in {thread.name for thread in threading.enumerate()}
        assert sockets() == before
        running.runner.stop()
        running.runner.set_targets({"a": at(hole)})
        running.runner.probe_now("a")
        assert running.findings.empty()


def test_a_runner_that_was_never_started_releases_everything(bench, target):
    hole = target(backlog=0)
    with clog(hole):
        before = sockets()
        hand = Hand(bench, Check())
        hand.set_targets(a=at(hole))
        assert sockets() == before + 1
        hand.runner.stop()
        hand.runner.stop()
        assert sockets() == before
    HealthRunner("idle", (Check(),), print).stop()


def test_orders_from_many_threads_until_the_end(service):
    """Nothing is lost, nothing raises, nothing is left, whoever asks for what while it stops."""
    echo = service()
    running = Running(Check(interval=0.02, timeout=PATIENCE))
    pausing, going_on, finished = threading.Barrier(4), threading.Barrier(4), threading.Event()

    def bother(name):
        for turn in itertools.count():
            running.runner.set_targets({name: at(echo), f"{name}-{turn % 3}": at(echo)})
            running.runner.probe_now(name)
            if turn == 300:
                pausing.wait(PATIENCE)
                going_on.wait(PATIENCE)
            if finished.wait(0.001):
                return

    threads = [threading.Thread(target=bother, args=(f"t{n}",), name=f"bother-{n}") for n in range(3)]
    try:
        with running:
            for thread in threads:
                thread.start()
            pausing.wait(PATIENCE)
            running.runner.set_targets({"last": tuple(at(echo))})
            running.until("last", State.UP)  # no order was lost, whatever was asked for before
            going_on.wait(PATIENCE)
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    while not running.findings.empty():
        assert running.next().state is State.UP
