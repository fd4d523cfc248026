"""One primary at a time: who it is, when it changes, and what clients see of that."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import termios

import pytest

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.ports import free_port, free_ports
from kit.servers import Service, start_service
from kit.waiting import Stopwatch, pause, wait_until
from tcp_proxy.dataplane.primary_queue import GRAIN
from tests.control.health.bench import in_own_network

TCP_CLOSE = 7  # the state of a TCP socket that was reset


def nobody():
    return f"127.0.0.1:{free_port()}"


def calm(program):
    """Its scripts have run: what it looks like from now on is what it has to come back to."""
    program.wait_log("is primary", 15)
    return program.wait_ready()


def greeted(program, greeting):
    client = program.connect()
    client.expect(greeting)
    return client


def test_the_first_in_the_list_that_answers_gets_everybody(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([nobody(), one.address, two.address])
    for _ in range(5):
        greeted(program, b"one")
    assert two.accepted == 0
    program.wait_log("trying target")
    program.wait_log(f"target {one.address} is primary")


def test_the_client_that_meets_the_loss_is_served_by_the_next_primary(failover, service):
    """At once: what it could wait for else is a minute away."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], health=[{"interval": 60}], max_backoff=60)
    old = greeted(program, b"one")
    one.stop_listening()
    greeted(program, b"two")
    old.send(b"still there").expect(b"still there")
    greeted(program, b"two")


def test_all_workers_change_over(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], top={"workers": 3})
    for _ in range(30):
        greeted(program, b"one")
    one.stop_listening()
    for _ in range(30):
        greeted(program, b"two")


def test_no_failback_by_itself(failover, service):
    port = free_port()
    two = service(greeting=b"two")
    program = failover([f"127.0.0.1:{port}", two.address])
    with Service(b"one", port=port):
        for _ in range(3):
            greeted(program, b"two")
        two.stop_listening()
        greeted(program, b"one")  # always from the first


def test_clients_wait_for_the_first_primary(failover):
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], max_backoff=0)
    clients = [program.connect() for _ in range(5)]
    for client in clients:
        client.send(b"early")
    program.wait_log("no target can be primary")
    with Service(b"one", port=port) as service:
        for client in clients:
            client.expect(b"oneearly")
        assert service.accepted >= 5
        program.close_clients()


def test_clients_wait_no_longer_than_election_wait(failover):
    program = failover([nobody()], election_wait=0.5, max_backoff=0.2)
    watch = Stopwatch()
    client = program.connect()
    client.expect_rst()
    assert watch.seconds > 0.4
    watch = Stopwatch()
    program.connect().expect_rst()
    assert watch.seconds > 0.4
    assert {record["reason"] for record in program.records(2)} == {"no_target"}


def test_the_port_is_closed_where_that_is_wanted(failover):
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], while_electing="refuse", max_backoff=0)
    with pytest.raises(ConnectionRefusedError):
        program.connect()
    service = Service(b"one", port=port)
    with service:
        program.wait_log("is primary")
        client = greeted(program, b"one")
        service.stop_listening()
        waits = program.connect()  # it notices the loss, and waits itself
        program.wait_log("no target can be primary", since=len(program.lines) - 3)
        with pytest.raises(ConnectionRefusedError):
            program.connect()
        client.send(b"x").expect(b"x")
        with Service(b"two", port=port) as again:
            waits.expect(b"two")
            greeted(program, b"two")
            program.close_clients()
            wait_until(lambda: again.active == 0, "the end of all sessions")


def test_the_same_port_through_many_elections(failover):
    """The listener is opened again, not made again: nothing to bind, nothing to abort on."""
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], while_electing="refuse", max_backoff=0)
    since = 0
    for number in range(5):
        with Service(b"%d" % number, port=port):
            program.wait_log("is primary", since=since)
            wait_until(lambda: _is_open(program.port), "the port is open")
            greeted(program, b"%d" % number).close()
            since = len(program.lines)
        with program.connect():  # it stays: that its target refuses is how the loss is noticed
            program.wait_log("no target can be primary", since=since)
    program.uncounted = None


def _is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_client_that_has_gone_is_never_sent_to_the_new_primary(failover):
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], max_backoff=0.3)
    program.wait_log("no target can be primary")
    gone, reset, stays = (program.connect() for _ in range(3))
    for client in (gone, reset, stays):
        client.send(b"INSERT\n")
    gone.close()
    reset.rst()
    heard = []
    with Service(port=port, answer=lambda data: heard.append(data) or b"done\n") as service:
        stays.expect(b"done\n")
        program.close_clients()
        wait_until(lambda: service.active == 0, "the end of all sessions")
    assert heard == [b"INSERT\n"]
    program.uncounted = None  # of the one that was reset in the queue the kernel may never tell
    wait_until(lambda: "client_gone" in {record["reason"] for record in program.records_now()}, "its record")


def test_a_client_that_leaves_while_it_is_parked_is_never_sent_on(failover, service):
    port = free_port()
    with Service(b"one", port=port):
        program = failover([f"127.0.0.1:{port}"], max_backoff=0.3)
        greeted(program, b"one").close()
    gone, stays = program.connect(), program.connect()
    for client in (gone, stays):
        client.send(b"INSERT\n")
    program.wait_log("no target can be primary")
    gone.close()
    heard = []
    with Service(port=port, answer=lambda data: heard.append(data) or b"done\n"):
        stays.expect(b"done\n")
        program.close_clients()
    assert heard == [b"INSERT\n"]


def test_a_client_that_leaves_before_the_loss_is_certain_is_not_kept(failover):
    """It parks while there is still a primary, and ends its direction then."""
    port = free_port()
    with Service(b"one", port=port):
        program = failover([f"127.0.0.1:{port}"], while_electing="refuse")
        greeted(program, b"one").close()
    client = program.connect()
    client.fin().expect_rst()
    assert program.records(2)[1]["reason"] == "client_gone"


def test_a_half_closed_client_is_served_while_there_is_a_primary(failover, service):
    one = service(greeting=b"one")
    program = failover([one.address])
    greeted(program, b"one")
    pause(0.05)
    for _ in range(20):
        client = program.connect()
        client.send(b"question").fin()
        assert client.read_to_end() == b"onequestion"


@pytest.mark.parametrize(("on_demotion", "ends"), [("keep", False), ("close", True)])
def test_sessions_on_the_old_primary(failover, service, on_demotion, ends):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], on_demotion=on_demotion)
    client = greeted(program, b"one")
    one.stop_listening()
    greeted(program, b"two")
    if ends:
        client.expect_rst()
        assert program.record()["reason"] == "demoted"
    else:
        client.send(b"x").expect(b"x")


def test_no_byte_reaches_the_old_primary_after_the_first_check_for_a_new_one(failover, target, service, script, tmp_path):
    """Its clients do not read, and have sent more than it has taken. The check waits until the test has looked."""
    one, two, gate = target(), service(greeting=b"two"), tmp_path / "gate"
    os.mkfifo(gate)
    check = script(f'test "$1" = {one.address} && exit 0; read -r word < {gate}')
    program = failover([one.address, two.address], check=check, on_demotion="close", top={"api": api_config()})
    program.wait_log("is primary")
    one.accept().close()  # the election's own connect
    client = socket.create_connection(("127.0.0.1", program.port))
    program.uncounted += 1
    old = one.accept()
    for sock in (client, old.sock):
        sock.setblocking(False)
    sent = clog(client, old.sock)
    Api.of(program).post(f"/api/v1/apps/app/targets/{two.address}/promote", status=202)
    with open(gate, "w") as asked:  # opened when the check runs
        held = unread(old.sock)
        assert held < sent
        assert is_reset(old.sock), "before the check"
        asked.write("go\n")
    greeted(program, b"two")
    assert unread(old.sock) == held
    client.close()


def test_a_worker_that_is_killed_leaves_nothing_on_its_way_to_the_old_primary(failover, target):
    """The kernel would go on to send what the worker had given to it."""
    one = target()
    program = failover([one.address], on_demotion="close")
    program.wait_log("is primary")
    one.accept().close()  # the election's own connect
    client = socket.create_connection(("127.0.0.1", program.port))
    program.uncounted = None
    old = one.accept()
    client.setblocking(False)
    sent = clog(client)  # were there anything unread from the target, the kernel would reset it anyway
    (worker,) = program.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: is_reset(old.sock), "the reset")
    assert unread(old.sock) < sent
    client.close()
    program.baseline.clear()


def test_all_that_a_client_sent_before_it_ended_reaches_the_primary(failover, target):
    """The primary has ended first, and reads late: the proxy's end of the session must not throw anything away."""
    one = target()
    program = failover([one.address], on_demotion="close")
    program.wait_log("is primary")
    one.accept().close()
    client, old = program.connect(), one.accept()
    old.fin()
    client.expect_fin()
    client.send(bytes(1_500_000)).fin()
    assert program.record()["reason"] == "done"
    assert len(old.read_to_end()) == 1_500_000


def clog(*socks):
    """Both send until nothing moves any more; how much the first one has sent."""
    sent, quiet = 0, Stopwatch()
    while quiet.seconds < 0.5:
        for sock in socks:
            with contextlib.suppress(BlockingIOError):
                taken = sock.send(bytes(1 << 16))
                sent += taken if sock is socks[0] else 0
                quiet = Stopwatch()
    return sent


def unread(sock):
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)), "little")


def is_reset(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE


def test_the_check_decides_and_gets_the_address_alone(failover, service, script, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    out = tmp_path / "checks"
    check = script(
        f'echo "$# $1 $TCP_PROXY_APP [$TCP_PROXY_OLD_PRIMARY]" >> {out}; echo words; test "$1" = {two.address}'
    )
    program = failover([one.address, two.address], check=check)
    greeted(program, b"two")
    assert out.read_text().splitlines() == [f"1 {one.address} app []", f"1 {two.address} app []"]
    program.wait_log(f"app app: {check}: words")
    program.wait_log(f"target {one.address} cannot be primary: check {check}: exit status 1")


def test_the_connection_that_asked_is_closed_before_the_check_runs(failover, target, script):
    """Or a check of a server with few connections would meet us there."""
    one = target()
    program = failover([one.address], check=script("exec sleep 1000"), ready=False)
    asked = one.accept()
    asked.expect_fin()
    asked.close()
    assert program.count_log("is primary") == 0
    program.uncounted = None


def test_the_check_is_asked_again_in_each_round(failover, service, script, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    out = tmp_path / "checks"
    check = script(f'echo "$1" >> {out}; test $(wc -l < {out}) -ge 6')
    program = calm(failover([one.address, two.address], check=check, max_backoff=0))
    greeted(program, b"two")
    assert out.read_text().split() == [one.address, two.address] * 3


def test_triggers_run_in_order_before_the_first_client_and_their_failures_stop_nobody(failover, service, script, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    out = tmp_path / "out"
    folder = tmp_path / "triggers.d"
    folder.mkdir()
    write = f'echo "$0 $# $1 [$TCP_PROXY_OLD_PRIMARY]" >> {out}'
    first = script(f"{write}; exit 3")
    script(f"{write}; kill -9 $$", "triggers.d/b")
    script(write, "triggers.d/a")
    script(write, "triggers.d/plain", mode=0o644)
    (folder / "link").symlink_to(first)
    (folder / "sub").mkdir()
    script(f"sleep 0.3; {write}", "triggers.d/.dot")
    program = calm(failover([one.address, two.address], triggers=[first, str(folder)]))
    greeted(program, b"one")
    names = [first, *(str(folder / name) for name in (".dot", "a", "b", "link"))]
    assert out.read_text().splitlines() == [f"{name} 1 {one.address} []" for name in names]
    program.wait_log(f"trigger {first}: exit status 3")
    program.wait_log(f"trigger {folder}/b: killed by SIGKILL")
    program.wait_log(f"triggers {folder}: plain is left out: it is not executable")
    program.wait_log(f"triggers {folder}: sub is left out: it is no regular file")
    script(write, "triggers.d/c")  # the folder is read afresh
    (folder / "b").unlink()
    out.unlink()
    one.stop_listening()
    greeted(program, b"two")
    names = [first, *(str(folder / name) for name in (".dot", "a", "c", "link"))]
    assert out.read_text().splitlines() == [f"{name} 1 {two.address} [{one.address}]" for name in names]


def test_scripts_are_told_the_epoch_which_is_higher_each_time(failover, service, script, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    out = tmp_path / "out"
    write = f'echo "$TCP_PROXY_EPOCH" >> {out}'
    program = calm(failover([one.address, two.address], check=script(write, "check"), triggers=[script(write, "trigger")]))
    greeted(program, b"one")
    one.stop_listening()
    greeted(program, b"two")
    first, second, third, last = map(int, out.read_text().split())
    assert first == second < third == last


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("exec sleep 1000", "timed out after 0.3 s"),
        ("(sleep 1000) & (sleep 1000) & exit 1", "exit status 1"),
        ("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", "exit status 1"),
        ("exec >&- 2>&-; exit 1", "exit status 1"),
        ("rm -f $0; exit 1", "exit status 1"),
        ("trap '' TERM; while :; do sleep 1; done", "timed out after 0.3 s"),
    ],
)
def test_scripts_that_misbehave(failover, service, script, body, says):
    """As a check and as a trigger: the election goes on, and nothing is left."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    check = script(f'test "$1" = {two.address} && exit 0; {body}')
    trigger = script(body)
    timeout = 0.3 if "timed" in says else 10
    program = failover([one.address, two.address], check=check, triggers=[trigger], script_timeout=timeout)
    if "rm" in body:
        program.wait_log("cannot be primary: .* no such file")
        return
    calm(program)
    greeted(program, b"two")
    program.wait_log(f"trigger {trigger}: {says}")
    pids = {program.pid, *program.workers()}
    wait_until(lambda: _processes_of(program.pid) == pids, "no script is left")


def _processes_of(session):
    """Everything in the session that the program leads."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(name)) == session:
                    found.add(int(name))
    return found


def test_a_check_that_is_not_there_is_an_error_at_the_start(failover, tmp_path):
    program = failover([nobody()], check=str(tmp_path / "missing"), ready=False)
    assert program.wait() == 2
    assert "failover.check" in program.log
    assert "there is no such file; wanted an executable file" in program.log


def test_health_checks_find_a_loss_before_any_client_does(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], health=[{"interval": 0.1, "timeout": 0.1}])
    greeted(program, b"one")
    one.stop_listening()
    program.wait_log(f"target {two.address} is primary")
    greeted(program, b"two")


def test_one_that_the_checks_found_down_is_asked_again_in_time(failover):
    """Its last check is a minute old when it is needed."""
    one, two = free_ports(2)
    addresses = [f"127.0.0.1:{port}" for port in (one, two)]
    with Service(b"one", port=one) as first:
        program = failover(addresses, health=[{"interval": 60, "timeout": 1}])
        program.wait_log(f"target {addresses[1]} is down")
        greeted(program, b"one").close()
        with Service(b"two", port=two):
            first.stop_listening()
            greeted(program, b"two")
            program.close_clients()


def test_failback(failover, service):
    port = free_port()
    two = service(greeting=b"two")
    program = failover(
        [f"127.0.0.1:{port}", two.address], failback=True, failback_after=0.5, health=[{"interval": 0.1, "timeout": 0.1}]
    )
    greeted(program, b"two")
    watch = Stopwatch()
    with Service(b"one", port=port):
        program.wait_log(f"target 127.0.0.1:{port} is primary")
        assert watch.seconds > 0.4
        program.wait_greeting(b"one")
        program.close_clients()


def test_a_home_that_cannot_be_primary_is_tried_ever_less(failover, service, script):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    check = script(f"test $1 = {two.address}")
    program = failover(
        [one.address, two.address], failback=True, failback_after=0, check=check, health=[{"interval": 0.1, "timeout": 0.1}]
    )
    greeted(program, b"two")
    pause(3)
    assert 1 <= program.count_log("has come back") <= 3
    greeted(program, b"two")


def test_a_worker_that_does_not_let_go_is_killed(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], top={"workers": 2}, health=[{"interval": 0.2, "timeout": 0.2}])
    greeted(program, b"one")
    stopped, _ = program.workers()
    os.kill(stopped, signal.SIGSTOP)
    one.stop_listening()
    program.wait_log("does not let go of the old primary: it is killed")
    program.wait_greeting(b"two")
    program.uncounted = None  # the sessions of the one that is killed have no record
    wait_until(lambda: stopped not in program.workers() and len(program.workers()) == 2, "another worker")


def test_a_worker_that_dies_in_an_election_is_not_waited_for(failover):
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], max_backoff=0, top={"workers": 2})
    os.kill(program.workers()[0], signal.SIGKILL)
    program.wait_log("ended: SIGKILL")
    with Service(b"one", port=port):
        program.wait_greeting(b"one")
        program.close_clients()


def test_a_half_closed_client_that_waited_for_a_worker_is_served(failover, service):
    """It was there after the primary; only the worker is new."""
    one = service(greeting=b"one")
    program = failover([one.address])
    program.wait_log("is primary")
    (worker,) = program.workers()
    pause(2 * GRAIN)  # who came that shortly after the election counts as one from before it
    os.kill(worker, signal.SIGSTOP)
    client = program.connect()
    client.send(b"question").fin()
    os.kill(worker, signal.SIGKILL)
    assert client.read_to_end() == b"onequestion"


def test_a_half_closed_client_that_came_after_the_primary_is_served_by_a_worker_that_hears_of_it_later(failover):
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], max_backoff=0)
    program.wait_log("no target can be primary")
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    with Service(b"one", port=port):
        program.wait_log("is primary")
        pause(2 * GRAIN)
        client = program.connect()
        client.send(b"question").fin()
        os.kill(worker, signal.SIGCONT)
        assert client.read_to_end() == b"onequestion"


def test_sigterm_ends_it_in_the_middle_of_an_election(failover, script):
    check = script("trap '' TERM; sleep 1000 & wait; sleep 1000")
    with Service(b"one") as service:
        program = failover([service.address], check=check, ready=False)
        program.wait_log("ready:")
        client = program.connect()
        program.wait_log("trying target")
        watch = Stopwatch()
        program.uncounted = None
        client.close()
        assert program.stop() == 0
        assert watch.seconds < 8
    wait_until(lambda: not _processes_of(program.pid), "the end of the check, too")


def test_a_reload_takes_the_primary_away(failover, service, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address])
    greeted(program, b"one")
    (path,) = program.folder.glob("config-*.json")
    config = json.loads(path.read_text())
    config["apps"][0]["targets"] = [two.address]
    path.write_text(json.dumps(config))
    program.signal(signal.SIGHUP)
    program.wait_log(f"target {two.address} is primary")
    program.wait_greeting(b"two")
    config["apps"][0].update(balance="round_robin", failover={}, targets=[one.address])
    path.write_text(json.dumps(config))
    program.signal(signal.SIGHUP)
    program.wait_log("done, .* change", since=len(program.lines) - 2)
    program.wait_greeting(b"one")
    config["apps"][0].update(balance="failover", targets=[two.address, one.address])
    path.write_text(json.dumps(config))
    program.signal(signal.SIGHUP)
    program.wait_greeting(b"two")


def test_a_reload_adds_ports_where_ports_are_closed(failover):
    """They open and close with the others."""
    port, *new = free_ports(3)
    program = failover([f"127.0.0.1:{port}"], while_electing="refuse", max_backoff=0)
    (path,) = program.folder.glob("config-*.json")
    config = json.loads(path.read_text())
    ports = config["apps"][0]["ports"]

    def add():
        ports.append(new.pop())
        path.write_text(json.dumps(config))
        done = program.count_log("SIGHUP: done")
        program.signal(signal.SIGHUP)
        wait_until(lambda: program.count_log("SIGHUP: done") > done, "the reload")

    add()
    assert not any(map(_is_open, ports))
    with Service(b"one", port=port):
        program.wait_log("is primary")
        add()
        for each in ports:
            program.connect(each).expect(b"one")
        program.close_clients()
    program.connect()  # it notices the loss
    wait_until(lambda: not any(map(_is_open, ports)), "all ports are closed")
    program.uncounted = None
    program.close_clients()
    program.wait_ready()  # two listeners more are what it has now


def test_two_apps_have_an_election_each(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    ports = free_ports(2)
    apps = [
        {"name": name, "ports": [port], "targets": targets, "balance": "failover", "health": []}
        for name, port, targets in zip("ab", ports, ([one.address], [two.address, one.address]), strict=True)
    ]
    program = proxy({"apps": apps})
    program.connect(ports[0]).expect(b"one")
    program.connect(ports[1]).expect(b"two")
    two.stop_listening()
    program.connect(ports[1]).expect(b"one")
    assert program.count_log("app a: .* is primary") == 1


@pytest.mark.alone
def test_a_primary_that_does_not_answer_costs_all_clients_one_time_limit(failover, target, service):
    """flopsy connects without a limit, and to one client's target after the other's."""
    silent, two = target(backlog=0), service(greeting=b"two")
    program = failover([silent.address, two.address])
    program.wait_log("is primary")
    filler = fill_queue(silent)
    watch = Stopwatch()
    clients = [program.connect() for _ in range(5)]
    for client in clients:
        client.expect(b"two")
    assert watch.seconds < 4.5  # one second for the first of them, one for the confirmation, one for the candidate
    for sock in filler:
        sock.close()


def fill_queue(target):
    """Connections until the kernel drops the SYNs of further ones."""
    filler = []
    for _ in range(20):
        sock = socket.socket()
        sock.settimeout(0.3)
        filler.append(sock)
        if sock.connect_ex((target.host, target.port)):
            break
    return filler


def test_no_backoff_is_no_hot_loop(failover):
    program = failover([nobody()], max_backoff=0, ready=False)
    program.wait_log("no target can be primary")
    before, watch = program.count_log("no target can be primary"), Stopwatch()
    wait_until(lambda: program.count_log("no target can be primary") >= before + 10, "ten rounds more")
    assert watch.seconds >= 0.9  # nine whole pauses of at least 0.1 s


def test_a_port_that_somebody_else_has_taken_is_tried_again(failover):
    """flopsy aborts."""
    port = free_port()
    program = failover([f"127.0.0.1:{port}"], while_electing="refuse", max_backoff=0)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", program.port))
        thief.listen()
        with Service(b"one", port=port):
            program.wait_log("cannot be opened: Address already in use; tried again")
            thief.close()
            wait_until(lambda: _is_open(program.port), "our port is open")
            program.uncounted = None
            greeted(program, b"one")
            program.close_clients()


def test_no_port_of_its_own_is_no_loss(failover, service):
    """EADDRNOTAVAIL is this machine's affair; flopsy fails over for it."""

    def run():
        one, two = service(greeting=b"one"), service(greeting=b"two")
        program = failover([one.address, two.address])
        for number in range(8):
            program.connect(source=f"127.0.0.{number + 9}").read_first()  # ours has four ports in all
        assert two.accepted == 0
        assert program.count_log("looked for") == 1
        program.close_clients()
        wait_until(lambda: len(program.records_now()) == 8, "all records")
        errors = [record["errno"] for record in program.records_now() if record["reason"] == "connect_failed"]
        assert len(errors) >= 4
        assert set(errors) == {"EADDRNOTAVAIL"}

    in_own_network(run, ipv4__ip_local_port_range="30000 30003")


def test_its_own_shortage_of_descriptors_is_no_loss(proxy, service):
    """EMFILE and its kin are this machine's affair: flopsy fails over for them."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    app = {
        "name": "app", "ports": [free_port()], "targets": [one.address, two.address], "balance": "failover", "health": [],
    }  # fmt: skip
    program = proxy({"apps": [app]}, descriptors=256)
    clients = []
    for _ in range(150):
        with contextlib.suppress(OSError):
            clients.append(program.connect())
    wait_until(lambda: one.active >= 20, "some sessions")
    for client in clients:
        client.close()
    greeted(program, b"one")
    assert two.accepted == 0
    assert program.count_log("is lost") == 0


def test_a_session_that_waits_is_seen_and_can_be_ended(failover):
    port = free_port()
    with Service(b"one", port=port):
        program = failover([f"127.0.0.1:{port}"], top={"api": api_config()})
        greeted(program, b"one").close()
    api = Api.of(program)
    client = program.connect()
    program.wait_log("no target can be primary")
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    assert session["state"] == "queued"
    assert "no primary" in api.get(f"/api/v1/sessions/{session['id']}/why").json["story"]
    assert api.get("/readyz", status=503)
    api.ask("DELETE", f"/api/v1/sessions/{session['id']}", status=204)
    client.expect_rst()


def test_sigterm_while_the_ports_are_closed(failover):
    program = failover([nobody()], while_electing="refuse")
    assert program.stop() == 0
    assert program.count_log("cannot be opened") == 0


def test_what_operators_see_and_do(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], top={"api": api_config()}, on_demotion="close")
    api, ctl = Api.of(program), Ctl.of(program)
    old = greeted(program, b"one")
    assert api.get("/api/v1/apps/app").json["primary"] == one.address
    assert f"{one.address}  up (primary)" in ctl("status").text
    assert "tried first" in ctl("promote", "app", two.address).text
    greeted(program, b"two")
    old.expect_rst()
    election = api.get("/api/v1/apps/app/election").json
    assert (election["primary"], election["epoch"], election["elections"]) == (two.address, 2, 2)
    metrics = api.get("/metrics").text
    assert 'tcp_proxy_elections_total{app="app"} 2.0' in metrics
    assert f'tcp_proxy_primary{{app="app",target="{two.address}"}} 1.0' in metrics
    events = [event["data"] for event in api.get("/api/v1/events").json if event["kind"] == "election"]
    assert [event["state"] for event in events] == ["electing", "serving"] * 2
    assert [event["primary"] for event in events] == ["", one.address, "", two.address]
    assert "is primary already" in api.post(f"/api/v1/apps/app/targets/{two.address}/promote", status=409).detail
    assert "no target named" in api.post("/api/v1/apps/app/targets/x/promote", status=404).detail
    assert "no app named" in api.post("/api/v1/apps/x/targets/x/promote", status=404).detail
    api.get("/api/v1/apps/x/election", status=404)


def test_a_primary_that_is_drained_is_not_primary_any_more(failover, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    program = failover([one.address, two.address], top={"api": api_config()})
    ctl = Ctl.of(program)
    greeted(program, b"one")
    ctl("drain", "app", one.address)
    program.wait_log(f"target {two.address} is primary")
    program.wait_greeting(b"two")
    assert "is draining" in ctl("promote", "app", one.address, status=1).errors


def test_rounds_of_kill_and_restart(failover):
    """A target that is killed and comes back, again and again: every client is served by the primary of its time."""
    ports = free_ports(2)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(start_service(port, f"s{port}")) for port in ports]
        program = failover([f"127.0.0.1:{port}" for port in ports], max_backoff=0)
        for _ in range(10):
            served = program.connect().receive_line()
            index = [b"s%d\n" % port for port in ports].index(served)
            running[index].kill()
            running[index].wait()
            assert program.connect().receive_line() != served
            running[index] = stack.enter_context(start_service(ports[index], f"s{ports[index]}"))
        program.close_clients()
