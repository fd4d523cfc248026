"""The running program moves live sessions: fewer workers, a worker that is emptied, sessions that are evened out. Nobody
loses a byte, and every record says where its session has lived."""

import hashlib
import http.client
import os
import signal
import socket
import threading

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.origin import Origin
from kit.peer import Target
from kit.waiting import wait_until
from tests.system.test_reload import Config

MANY = 40


@pytest.fixture
def program(proxy):
    """Two workers, one target that the test plays, an API."""
    with Target() as target:
        started = proxy(targets=[target], top={"workers": 2, "api": api_config()})
        started.target = target
        yield started
        started.close_clients()
    started.baseline.clear()  # the memory that has grown keeps a descriptor; so this is looked at here:
    family = started.family()
    wait_until(lambda: all(set(procfs.tcp_sockets(pid)) <= {"LISTEN"} for pid in family), "no session's socket is left")
    wait_until(lambda: not any(procfs.waiting_in_pipes(pid) for pid in family), "no byte is left in a pipe")


def pair(program):
    client = program.connect()
    return client, program.target.accept()


def wait_replaced(program, before):
    """One of the two workers has ended, and another is there."""
    wait_until(lambda: len(before & set(program.workers())) == 1 == len(program.workers()) - 1, "another worker", 60)


def owners(api):
    """Sessions of each worker."""
    found = [session["worker"] for session in api.get("/api/v1/sessions?limit=1000").json["sessions"]]
    return {worker: found.count(worker) for worker in set(found)}


def check(pairs):
    for number, (client, server) in enumerate(pairs):
        client.send(b"%d" % number)
        server.expect(b"%d" % number)
        server.send(b"answer %d" % number)
        client.expect(b"answer %d" % number)


def end(pairs):
    for client, server in pairs:
        client.fin()
        server.expect_fin()
        server.fin()
        client.expect_fin()


def test_fewer_workers_lose_no_session_and_end_though_their_sessions_do_not(program):
    api, file = Api.of(program), Config(program)
    pairs = [pair(program) for _ in range(MANY)]
    check(pairs)
    before = owners(api)
    assert set(before) == {0, 1}
    leaving = max(program.workers())
    file.config["workers"] = 1
    file.reload()
    wait_until(lambda: leaving not in program.workers() and len(program.workers()) == 1, "it has ended, with none left")
    check(pairs)
    assert owners(api) == {0: MANY}
    end(pairs)
    records = program.records(MANY)
    moved = [record for record in records if "processes" in record]
    assert len(moved) == before[1]
    assert {tuple(record["processes"]) for record in moved} == {(leaving, program.workers()[0])}
    assert {record["reason"] for record in records} == {"done"}


def test_rebalance_evens_out_and_why_says_where_a_session_has_lived(program):
    api, ctl, file = Api.of(program), Ctl.of(program), Config(program)
    file.config["workers"] = 1
    file.reload()
    wait_until(lambda: len(program.workers()) == 1, "one worker")
    pairs = [pair(program) for _ in range(MANY)]
    file.config["workers"] = 2
    file.reload()
    wait_until(lambda: len(program.workers()) == 2, "two workers")
    program.wait_log("worker 1 .* serves", since=len(program.lines) - 20)
    assert owners(api) == {0: MANY}
    said = ctl("rebalance").text
    assert f"worker 0 gave {MANY // 2} sessions to worker 1" in said
    assert owners(api) == {0: MANY // 2, 1: MANY // 2}
    assert "no worker has more sessions than the others" in ctl("rebalance").text
    check(pairs)
    session = next(one for one in api.get("/api/v1/sessions").json["sessions"] if one["worker"] == 1)
    story = api.get(f"/api/v1/sessions/{session['id']}/why").json
    first, second = session["processes"]
    assert {first, second} == set(program.workers())
    assert f"it has lived in the processes {first} and {second}" in story["story"]
    api.ask("DELETE", f"/api/v1/sessions/{session['id']}", status=204)
    ended = api.get(f"/api/v1/sessions/{session['id']}/why").json
    assert (ended["state"], ended["session"]["processes"]) == ("ended", [first, second])
    pages, after = [], ""
    while after is not None:
        page = api.get(f"/api/v1/sessions?limit=7&after={after}").json
        pages += [one["id"] for one in page["sessions"]]
        after = page["next"]
    assert len(pages) == len(set(pages)) == MANY - 1


def test_a_worker_is_emptied_and_replaced(program):
    api, ctl = Api.of(program), Ctl.of(program)
    pairs = [pair(program) for _ in range(MANY)]
    before = program.workers()
    assert "they move to the others, and another takes its place" in ctl("rebalance", "--empty", "0").text
    wait_until(lambda: len(set(before) - set(program.workers())) == 1 and len(program.workers()) == 2, "it is replaced")
    check(pairs)
    assert sum(owners(api).values()) == MANY
    assert "there is no worker 7" in ctl("rebalance", "--empty", "7", status=1).errors
    end(pairs)
    assert len(program.records(MANY)) == MANY


def test_streams_both_ways_are_whole_while_workers_are_emptied_again_and_again(program):
    """In the copy path and in splice: what is bulk is in a relay thread most of the time."""
    ctl = Ctl.of(program)
    pairs = [pair(program) for _ in range(2)]
    over = threading.Event()
    sent, got = {}, {}

    def send(name, peer):
        data, digest = os.urandom(1 << 20), hashlib.sha256()
        while not over.is_set():
            peer.sock.sendall(data)
            digest.update(data)
            data = data[77:] + data[:77]
        peer.sock.shutdown(socket.SHUT_WR)
        sent[name] = digest.hexdigest()

    def receive(name, peer):
        digest = hashlib.sha256()
        while piece := peer.sock.recv(1 << 18):
            digest.update(piece)
        got[name] = digest.hexdigest()

    threads = []
    for number, (client, server) in enumerate(pairs):
        for name, one, other in (("up", client, server), ("down", server, client)):
            one.sock.settimeout(120)
            for call, peer in ((send, one), (receive, other)):
                threads.append(threading.Thread(target=call, args=((name, number), peer), name=f"{name}-{number}"))
    for thread in threads:
        thread.start()
    try:
        for times in range(6):
            before = set(program.workers())
            ctl("rebalance", "--empty", str(times % 2))
            wait_replaced(program, before)
    finally:
        over.set()
    for thread in threads:
        thread.join()
    assert got == sent
    assert len(got) == 4
    program.uncounted = None


@pytest.mark.parametrize("who", ["giver", "taker"])
def test_a_worker_that_is_killed_on_the_way_takes_its_own_sessions_with_it_and_no_others(program, who):
    api, file = Api.of(program), Config(program)
    pairs = [pair(program) for _ in range(MANY)]
    before = owners(api)
    numbers = [worker["pid"] for worker in sorted(api.get("/api/v1/workers").json, key=lambda one: one["index"])]
    victim = numbers[0 if who == "taker" else 1]
    os.kill(victim, signal.SIGSTOP)  # whatever it is told meanwhile is under way
    file.config["workers"] = 1
    file.write()
    program.signal(signal.SIGHUP)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(program.workers()) == 1 and victim not in program.workers(), "the other one, or another")
    wait_until(lambda: sum(owners(api).values()) == before[0 if who == "giver" else 1], "those of the other one go on")
    program.uncounted = None
    for client, server in pairs:
        client.close()
        server.close()


# -- mode http


@pytest.fixture
def web(proxy):
    with Origin() as origin:
        started = proxy(targets=[origin.address], mode="http", top={"workers": 2, "api": api_config()})
        started.origin = origin
        yield started
        started.origin.go.set()
    started.baseline.clear()  # as above
    started.uncounted = None


def test_clients_between_two_requests_go_on_in_another_worker(web):
    api = Api.of(web)
    clients = [http.client.HTTPConnection("127.0.0.1", web.port, timeout=20) for _ in range(20)]

    def ask_all():
        for client in clients:
            client.request("GET", "/method")
            assert client.getresponse().read() == b"hello GET"

    ask_all()
    socks = [client.sock for client in clients]
    before = set(web.workers())
    for number in (0, 1):
        api.post(f"/api/v1/workers/{number}/empty", status=202)
        ask_all()
    wait_until(lambda: len(web.workers()) == 2 and not before & set(web.workers()), "both are replaced")
    ask_all()
    assert [client.sock for client in clients] == socks, "no connection was closed"
    for client in clients:
        client.close()


def test_a_request_under_way_moves_with_its_client_and_its_number_goes_on(web):
    api = Api.of(web)
    client = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    client.request("GET", "/method")
    assert client.getresponse().read() == b"hello GET"
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    sock = client.sock
    client.request("GET", "/slow")
    wait_until(lambda: api.get("/api/v1/sessions").json["sessions"][0]["state"] == "exchanging", "it is under way")
    before = set(web.workers())
    api.post(f"/api/v1/workers/{session['worker']}/empty", status=202)
    web.origin.go.set()
    assert client.getresponse().read() == b"slow"
    wait_replaced(web, before)
    client.request("GET", "/method")
    assert client.getresponse().read() == b"hello GET"
    assert client.sock is sock
    (after,) = api.get("/api/v1/sessions").json["sessions"]
    assert after["id"] == session["id"]
    assert after["processes"] is not None
    (told,) = api.get(f"/api/v1/requests/{session['id']}-3/why").json["requests"]
    assert (told["id"], told["session"], told["path"]) == (f"{session['id']}-3", session["id"], "/method")
    client.close()
