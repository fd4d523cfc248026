"""One test for each defect of the four originals that must not be copied: flopsy's and TCP-Proxy's, by their own lists."""

import json
import os
import threading

import pytest

from kit import procfs
from kit.clogged import clog, fill
from kit.exchange import exchange
from kit.load import Load
from kit.peer import connect
from kit.ports import free_port
from kit.proxy import run_to_end
from kit.servers import Service
from kit.syscalls import STILL
from kit.waiting import Deadline, Stopwatch, pause, wait_until

# -- flopsy: no connect timeout; one connect after another in the accept loop


def test_flopsy_no_connect_timeout(proxy, target):
    hole = target(backlog=0)
    with clog(hole):
        program = proxy(targets=[hole], timeouts={"connect": 0.3})
        watch = Stopwatch()
        program.connect().expect_rst()
        assert watch.seconds < 8


def test_flopsy_serial_connect_in_the_accept_loop(proxy, target, service):
    hole, echo = target(backlog=0), service()
    with clog(hole):
        program = proxy(targets=[hole, echo], timeouts={"connect": 2}, balance="round_robin")
        watch = Stopwatch()
        clients = [program.connect() for _ in range(20)]
        for client in clients:
            client.send(b"x")
        deadline = Deadline(1.0)
        served = [client for client in clients if echoed_within(client, deadline.left)]
        assert len(served) == 10, "those who were not sent into the hole are served at once"
        assert watch.seconds < 7.6
        for client in clients:
            if client not in served:
                client.expect(b"x")


def echoed_within(client, seconds):
    try:
        client.expect(b"x", seconds)
    except TimeoutError:
        return False
    return True


# -- flopsy: an end of file of either side tears down both directions


def test_flopsy_eof_tears_down_both_ways(proxy, target):
    """nc -N: request and FIN got no reply."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"request").fin()
    server.expect(b"request").expect_fin().send(b"reply").fin()
    client.expect(b"reply").expect_fin()


# -- flopsy: one slow reader took a whole core, and stopped new clients


@pytest.mark.slow
def test_flopsy_busy_spin_on_a_slow_reader(proxy, target, service):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    exchange(client, b"x" * (2 << 20), [], server, b"x" * (2 << 20), [], fins=False)  # on the splice path
    while count := fill(server.sock):
        server.sent += count
        pause(0.05)
    with program.syscalls() as during:
        pause(1.5)
    assert during.total < STILL, during.calls
    other, other_server = program.connect(), server_side.accept()
    other.send(b"in time?")
    other_server.expect(b"in time?")


# -- flopsy: a short write lost bytes in mid-stream


@pytest.mark.slow
@pytest.mark.parametrize("path", ["copy", "splice"])
def test_flopsy_short_write_loses_bytes(proxy, target, path):
    """A reader with a tiny window makes nearly every write a short one."""
    server_side = target(receive_buffer=2048)
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    size = (8 << 20) if path == "splice" else 300_000
    data = bytes(range(251)) * (size // 251)
    sender = threading.Thread(target=lambda: client.send(data, 40).fin(), name="sender")
    sender.start()
    assert server.read_to_end(seconds=40) == data
    sender.join()


# -- flopsy: a back-off of 0 was a hot loop; an abort on a failed bind; a transient local error was a failover


def test_flopsy_hot_loop_when_everything_is_down(proxy):
    program = proxy(targets=[f"127.0.0.1:{free_port()}"], health={"interval": 0.1, "timeout": 0.1})
    program.wait_log("is down")
    with program.syscalls() as during:
        pause(1.0)
    assert during.total < STILL, during.calls
    assert len(program.lines) < 50, "one line for a change, not for a probe"


def test_flopsy_abort_on_a_port_in_use(proxy, service, tmp_path):
    holder = service()
    config = {"apps": [{"name": "a", "ports": [holder.port], "targets": ["127.0.0.1:9"]}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_flopsy_a_local_error_is_a_verdict_on_the_target(proxy, service):
    """Out of descriptors: clients wait, and the target stays up."""
    echo = service()
    program = proxy(targets=[echo], health={"interval": 0.2, "timeout": 0.2}, descriptors=200)
    program.wait_log("is up")
    clients = [program.connect() for _ in range(120)]
    program.wait_log("accepting pauses")
    pause(0.6)
    assert program.count_log("is down") == 0
    for client in clients:
        client.send(b"x").fin()
    for client in clients:
        assert client.read_to_end() == b"x"


# -- TCP-Proxy


def test_tcp_proxy_1_bind_failure_kills_the_process_later(tmp_path):
    """It must be one clear error at start, for each of several apps."""
    with Service() as holder:
        apps = [
            {"name": name, "ports": [port], "targets": ["127.0.0.1:9"]}
            for name, port in (("good", free_port()), ("bad", holder.port))
        ]
        (tmp_path / "config.json").write_text(json.dumps({"Apps": apps}))
        done = run_to_end(cwd=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{holder.port}" in done.stderr
    assert "bad" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ports": [70000]}, ["70000", "ports"]),  # 2: it listened on a random port, on all interfaces
        ({"ports": []}, ["ports"]),
        ({"targets": ["127.0.0.1:"]}, ["targets"]),
        ({"name": ""}, ["name"]),
    ],
)
def test_tcp_proxy_2_3_what_cannot_work_is_refused_at_start(tmp_path, change, words):
    app = {"name": "a", "ports": [free_port()], "targets": ["127.0.0.1:9"], **change}
    (tmp_path / "config.json").write_text(json.dumps({"apps": [app]}))
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words)


def test_tcp_proxy_3_without_targets_the_first_client_was_a_division_by_zero(proxy):
    program = proxy(targets=[])
    program.connect().expect_rst()
    assert program.record()["reason"] == "no_target"


@pytest.mark.parametrize("text", ['{"Apps": [', '{"Apps": [{]}', "{'Apps': []}"])
def test_tcp_proxy_4_malformed_configuration_continues(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.slow
def test_tcp_proxy_5_a_finished_connection_leaks_its_handler(proxy, service):
    program = proxy(targets=[service()])
    program.uncounted = None
    with Load(program.port, clients=4) as load:
        load.wait_sessions(50)
        threads = [procfs.threads(pid) for pid in program.family()]
        load.wait_sessions(500)
    assert [procfs.threads(pid) for pid in program.family()] == threads
    wait_until(lambda: program.sockets() == 0, "every descriptor back")


def test_tcp_proxy_6_a_duplicate_name_replaces_the_earlier_app(tmp_path):
    apps = [{"name": "same", "ports": [free_port()], "targets": ["127.0.0.1:9"]} for _ in range(2)]
    (tmp_path / "config.json").write_text(json.dumps({"apps": apps}))
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 2
    assert "same" in done.stderr


def test_tcp_proxy_7_only_loopback_only_ipv4_and_deaf_to_sigterm(proxy, target):
    server_side = target(host="::1")
    program = proxy(targets=[server_side], bind=["127.0.0.3", "::1"])
    for host in ("127.0.0.3", "::1"):
        client, server = program.connect(host=host), server_side.accept()
        client.send(b"x").fin()
        server.expect(b"x").expect_fin().fin()
        client.expect_fin()
    program.workers()
    assert program.stop() == 0


def test_tcp_proxy_8_shutdown_does_not_wait_for_connections(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    stopper = threading.Thread(target=program.stop, name="stopper")
    stopper.start()
    client.send(b"long request").fin()
    server.expect(b"long request").expect_fin()
    client.expect_silence(0.3)
    server.send(b"answer").fin()
    client.expect(b"answer").expect_fin()
    stopper.join()
    assert program.wait() == 0


def test_tcp_proxy_9_accept_errors_loop_without_delay(proxy, service):
    """With no descriptor left for a client it waits; it does not ask the kernel again and again."""
    program = proxy(targets=[service()], descriptors=150)
    held = [program.connect() for _ in range(60)]
    program.wait_log("accepting pauses")
    program.wait_still()  # for a whole second: a loop never is; once for each session its sockets are looked at, in another
    for client in held:
        client.send(b"x").fin()
    for client in held:
        assert client.read_to_end() == b"x"


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_tcp_proxy_10_closing_while_the_other_direction_still_holds_data(proxy, target, size):
    """The target ends first; what the client is still sending arrives all the same."""
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(10):
        client, server = program.connect(), server_side.accept()
        server.send(b"done").fin()
        client.expect(b"done").expect_fin()
        sender = threading.Thread(target=lambda peer=client: peer.send(b"x" * size).fin(), name="sender")
        sender.start()
        assert len(server.read_to_end()) == size
        sender.join()


def test_tcp_proxy_the_originals_own_file_runs_unchanged(proxy, service):
    """Its keys are written Apps, Name, Ports, Targets."""
    echo, port = service(), free_port()
    program = proxy(
        {"Apps": [{"Name": "five-thousand", "Ports": [port], "Targets": [echo.address]}], "access_log": None}
    )
    program.connect(port).send(b"x").expect(b"x")


def test_tcp_proxy_a_dead_target_eats_its_share_of_clients_before_the_first_check(proxy, service):
    program = proxy(targets=[service(), f"127.0.0.1:{free_port()}"], health={"interval": 60})
    program.uncounted = None
    for _ in range(6):
        program.connect().send(b"x").expect(b"x")


def test_tcp_proxy_20_s_of_silence_end_a_session(proxy, target):
    """Our limit is `idle`, an hour by default; two quiet seconds are nothing."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"x")
    server.expect(b"x").expect_silence(2.0)
    server.send(b"late")
    client.expect(b"late")


# -- weldr, where it concerns this part: workers that know nothing after a restart


def test_weldr_a_restarted_worker_starts_with_an_empty_pool(proxy, service):
    port = free_port()
    check = {"interval": 0.2, "timeout": 0.2}
    echo = service(greeting=b"up")
    program = proxy(targets=[f"127.0.0.1:{port}", echo], health=check)
    program.wait_log(f"127.0.0.1:{port} is down")
    program.wait_greeting(b"up")
    os.kill(program.workers()[0], 9)
    for _ in range(4):
        with connect(program.port) as client:
            client.expect(b"up")
    program.close_clients()
    program.uncounted = None
    wait_until(lambda: len(program.records_now()) >= 4, "the records of the new worker")
    later = program.records_now()[-4:]
    assert all(record["tried"] == [] for record in later), "the new worker was told what is down"
    program.baseline.clear()
