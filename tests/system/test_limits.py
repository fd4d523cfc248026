"""limits of an app in the running program, with several workers: how many sessions it has, and what becomes of the rest."""

import os
import select
import signal

import pytest

from kit.api import Api, api_config, path_of
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config


def pairs(program, server, count):
    """Sessions that have exchanged a byte."""
    made = []
    for _ in range(count):
        client = program.connect().send(b"x")
        made.append((client, server.accept().expect(b"x")))
    return made


def close(pair):
    for end in pair:
        end.close()


def test_an_app_has_so_many_sessions_and_the_next_client_is_reset(proxy, target):
    server = target()
    program = proxy(targets=[server], limits={"sessions": 3}, top={"workers": 2})
    held = pairs(program, server, 3)
    for _ in range(2):
        program.connect().expect_rst()
    records = program.records(2)
    assert {(record["reason"], record["ended_by"], record["target"]) for record in records} == {("limit", "proxy", "")}
    assert {record["error"] for record in records} == {"the app is at its limits.sessions"}
    close(held.pop())
    program.records(3)
    held += pairs(program, server, 1)
    program.connect().expect_rst()


def test_a_storm_over_two_workers_gets_exactly_the_places_that_there_are(proxy, target):
    """Whoever comes, wherever he is accepted: never one more, and never one less."""
    server = target()
    program = proxy(targets=[server], limits={"sessions": 20}, top={"workers": 2})
    for round_ in range(3):
        clients = [program.connect() for _ in range(60)]
        inside = [server.accept() for _ in range(20)]
        for end in inside:
            end.send(b"welcome")
        outcomes = [client.read_first() for client in clients]
        assert sorted(outcomes) == [b""] * 40 + [b"welcome"] * 20
        for end in (*inside, *clients):
            end.close()
        program.records(60 * (round_ + 1))
    assert not server.has_client(0)


def test_the_places_of_a_worker_that_dies_come_back(proxy, target):
    server = target()
    program = proxy(targets=[server], limits={"sessions": 2})
    program.uncounted = None  # who is with a worker that is killed has no record
    for _ in range(3):
        held = pairs(program, server, 2)
        program.connect().expect_rst()
        (worker,) = program.workers()
        os.kill(worker, signal.SIGKILL)
        for client, end in held:
            assert client.read_to_end() == end.read_to_end() == b""
        wait_until(lambda gone=worker: program.workers() not in ([], [gone]), "another worker")


def wait_counted(program, count):
    """Until every worker has heard of the limit, and counts its sessions."""
    seen = lambda: Api.of(program).get("/api/v1/limits").json["apps"]  # noqa: E731
    wait_until(lambda: sum(app["sessions"] for app in seen()) == count, "all are counted")


def test_a_reload_sets_the_limit_for_those_who_are_there_and_takes_it_away(proxy, target):
    server = target()
    program = proxy(targets=[server], top={"workers": 2, "api": api_config()})
    file = Config(program)
    held = pairs(program, server, 3)
    file.app["limits"] = {"sessions": 2}
    assert any("limits.sessions: 0 -> 2" in line for line in file.reload())
    wait_counted(program, 3)
    program.connect().expect_rst()
    close(held.pop())
    program.records(2)
    program.connect().expect_rst()
    close(held.pop())
    program.records(4)
    held += pairs(program, server, 1)
    program.connect().expect_rst()
    file.app["limits"] = {"sessions": 4}
    file.reload()
    held += pairs(program, server, 2)
    program.connect().expect_rst()
    del file.app["limits"]
    file.reload()
    held += pairs(program, server, 3)
    assert len(held) == 7


def test_after_a_limit_below_the_sessions_there_are_nobody_comes_in_before_there_is_room(proxy, target):
    """Whichever worker has those that are too many, and whichever has those that end."""
    server = target()
    program = proxy(targets=[server], top={"workers": 2, "api": api_config()})
    file = Config(program)
    ended = 0
    for _ in range(3):
        held = pairs(program, server, 6)
        file.app["limits"] = {"sessions": 2}
        file.reload()
        wait_counted(program, 6)
        for left in (5, 4, 3, 2):
            close(held.pop(0))
            program.connect().expect_rst()
            ended += 2
            program.records(ended)
            assert len(held) == left
        for pair in held:
            close(pair)
        ended += 2
        program.records(ended)
        wait_until(lambda: is_served(program, server), "room")
        del file.app["limits"]
        file.reload()
        ended = len(program.records_now())


def is_served(program, server):
    """Whether the next client is; it leaves, and its record is waited for."""
    before = len(program.records_now())
    client = program.connect()
    served = server.has_client(0.2)
    if served:
        server.accept().close()
    client.close()
    wait_until(lambda: len(program.records_now()) > before, "its record")
    return served


def test_an_app_that_leaves_and_comes_back_counts_anew(proxy, target):
    """Sessions of the app as it was go on, and count for nothing in the app as it is."""
    server, other = target(), target()
    ports = [free_port(), free_port()]
    app = {"name": "app", "ports": ports[:1], "health": [], "targets": [server.address], "limits": {"sessions": 2}}
    stays = {"name": "stays", "ports": ports[1:], "health": [], "targets": [other.address]}
    program = proxy({"apps": [app, stays]})
    file = Config(program)
    old = pairs(program, server, 2)
    file.config["apps"] = [stays]
    file.reload()
    file.config["apps"] = [app, stays]
    file.reload()
    new = pairs(program, server, 2)
    program.connect().expect_rst()
    for pair in old:
        close(pair)
    program.records(3)
    program.connect().expect_rst()
    close(new.pop())
    program.records(5)
    pairs(program, server, 1)


def test_in_mode_http_connections_are_counted_whether_they_ask_or_not(http, target):
    server = target()
    program = http(server, limits={"sessions": 2, "body": 100}, top={"workers": 2})
    ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    silent = program.connect()
    talks = program.connect().send(ask)
    end = server.accept()
    end.receive(4)
    end.send(answer)
    assert b"200 OK" in talks.read_first()
    program.connect().expect_rst()
    talks.close()
    wait_until(lambda: reset_or_served(program), "a place")
    silent.close()


def test_in_mode_http_a_first_limit_counts_the_connections_there_are(http, target):
    server = target()
    program = http(server, top={"workers": 2, "api": api_config()})
    held = [program.connect().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
    ends = [server.accept() for _ in held]
    for end in ends:
        end.expect(b"GET ")
    file = Config(program)
    file.app["limits"] = {"sessions": 3}
    file.reload()
    wait_counted(program, 3)
    program.connect().expect_rst()
    del file.app["limits"]
    file.reload()
    for end in (*held, *ends):
        end.close()


def reset_or_served(program):
    """Whether a client of mode http has a place: it is not reset at once."""
    client = program.connect().send(b"GET / HTTP/1.1\r\n")
    client.send(b"Broken\r\n\r\n")
    said = client.read_first()
    client.close()
    return said.startswith(b"HTTP/1.1 400")


def test_what_is_used_of_the_limits_is_in_the_api(proxy, target):
    server = target()
    program = proxy(targets=[server], limits={"sessions": 5}, top={"workers": 2, "api": (where := api_config())})
    pairs(program, server, 2)
    answer = Api(int(where["listen"].rpartition(":")[2])).get("/api/v1/limits").json
    assert answer["apps"] == [{"app": "app", "limit": 5, "sessions": 2}]


@pytest.mark.parametrize("most", [1, 40])
def test_two_proxies_that_lead_to_each_other_end_by_their_limits(proxy, most):
    """Neither can know: each sees a client, and a target by a name. A circle is as long as the smaller limit allows."""
    ports = [free_port(), free_port()]
    programs = [
        proxy(targets=[f"localhost:{ports[1 - which]}"], ports=[ports[which]], limits={"sessions": most}, bind="*")
        for which in range(2)
    ]
    for program in programs:
        program.uncounted = None
    for _ in range(2):
        client = programs[0].connect()
        client.read_to_end()
        assert client.ended == "rst"
    for program in programs:
        wait_until(lambda program=program: program.sockets() == 0, "the end of the circle")
        assert program.stop() == 0
    records = [program.records_now() for program in programs]
    assert max(map(len, records)) <= 2 * 2 * (most + 1), "two clients, and a lone target is tried once more"
    reasons = {record["reason"] for each in records for record in each}
    assert "limit" in reasons
    assert reasons <= {"limit", "target_reset", "client_gone", "client_reset", "connect_failed"}


# -- the queue


def waiting(program):
    """How many clients wait for a place, by the API."""
    return Api(api_port(program)).get("/api/v1/statistics").json["apps"]["app"]["queue"]["current"]


def api_port(program):
    return int(program.config["api"]["listen"].rpartition(":")[2])


@pytest.fixture
def queue(proxy, target):
    """queue(limits, …): the program with two workers and an app with one target, and that target."""

    def start(limits, most=0, workers=2, **app):
        server = target()
        targets = [{"address": server.address, "max_connections": most}]
        top = {"workers": workers, "api": api_config(), "access_log": None if app.get("mode") == "http" else "access.log"}
        program = proxy(targets=targets, limits=limits, top=top, **app)
        return program, server

    return start


@pytest.mark.parametrize(("limits", "most"), [({"sessions": 2, "queue": 50}, 0), ({"queue": 50}, 2)])
def test_clients_wait_and_are_served_in_the_order_in_which_they_came(queue, limits, most):
    """Over two workers: nobody is overtaken by more clients than there are workers."""
    program, server = queue(limits, most)
    held = pairs(program, server, 2)
    clients = []
    for number in range(20):
        clients.append(program.connect().send(b"%02d" % number))
        wait_until(lambda number=number: waiting(program) == number + 1, "it waits")
    served = []
    while held:
        close(held.pop(0))
        if len(served) < 20:
            end = server.accept()
            number = int(end.receive(2))
            served.append(number)
            held.append((clients[number], end))
    for place, number in enumerate(served):
        assert sum(other > number for other in served[:place]) <= 2, served
    assert sorted(served) == list(range(20))
    assert {record["reason"] for record in program.records(22)} <= {"done", "client_gone", "client_reset", "target_reset"}


@pytest.mark.parametrize(("limits", "most"), [({"sessions": 1, "queue": 9}, 0), ({"queue": 9}, 1)])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_who_leaves_the_queue_is_never_sent(queue, limits, most, how):
    program, server = queue(limits, most)
    (held,) = pairs(program, server, 1)
    gone = program.connect().send(b"never")
    stays = program.connect().send(b"stays")
    wait_until(lambda: waiting(program) == 2, "both wait")
    getattr(gone, how)()
    wait_until(lambda: waiting(program) == 1, "one waits")
    record = program.record()
    assert (record["reason"], record["ended_by"], record["target"]) == ("client_gone", "client", "")
    close(held)
    server.accept().expect(b"stays")
    stays.close()


@pytest.mark.parametrize(("limits", "most"), [({"sessions": 1, "queue": 9}, 0), ({"queue": 9}, 1)])
def test_who_has_waited_too_long_is_reset(queue, limits, most):
    program, server = queue({**limits, "queue_timeout": 0.3}, most)
    pairs(program, server, 1)
    program.connect().expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["target"]) == ("queue_timeout", "proxy", "")
    assert record["seconds"] >= 0.3
    assert waiting(program) == 0


def test_a_queue_that_is_full_takes_nobody(queue):
    program, server = queue({"queue": 2}, 1)
    pairs(program, server, 1)
    inside = [program.connect() for _ in range(2)]
    wait_until(lambda: waiting(program) == 2, "both wait")
    program.connect().expect_rst()
    assert program.record()["reason"] == "limit"
    for client in inside:
        client.close()


def test_what_waits_is_seen_everywhere(queue):
    program, server = queue({"queue": 5}, 1)
    (held,) = pairs(program, server, 1)
    client = program.connect()
    wait_until(lambda: waiting(program) == 1, "it waits")
    api = Api(api_port(program))
    (session,) = [one for one in api.get("/api/v1/sessions").json["sessions"] if one["state"] == "waiting"]
    assert "waits in its app's queue" in api.get(f"/api/v1/sessions/{session['id']}/why").json["story"]
    metrics = api.get("/metrics").text
    assert 'tcp_proxy_app_queue_current{app="app"} 1.0' in metrics
    assert 'tcp_proxy_app_queue_clients_total{app="app"} 1.0' in metrics
    close(held)
    server.accept().close()
    client.close()
    wait_until(lambda: waiting(program) == 0, "nobody waits")
    seen = api.get("/api/v1/statistics").json["apps"]["app"]["queue"]
    assert (seen["current"], seen["peak"], seen["total"]) == (0, 1, 1)
    assert seen["seconds"] > 0


def test_one_who_waits_can_be_ended_by_the_operator(queue):
    program, server = queue({"queue": 5}, 1)
    pairs(program, server, 1)
    client = program.connect()
    wait_until(lambda: waiting(program) == 1, "it waits")
    api = Api(api_port(program))
    (session,) = [one for one in api.get("/api/v1/sessions").json["sessions"] if one["state"] == "waiting"]
    api.ask("DELETE", f"/api/v1/sessions/{session['id']}", status=204)
    client.expect_rst()
    assert program.record()["reason"] == "closed_by_admin"
    assert waiting(program) == 0


def test_a_worker_that_dies_leaves_places_and_nobody_waits_for_nothing(queue):
    """Those it had inside, and those who waited there."""
    program, server = queue({"sessions": 4, "queue": 50})
    program.uncounted = None
    for _ in range(2):
        inside = pairs(program, server, 4)
        clients = []
        for number in range(12):
            clients.append(program.connect().send(b"%02d" % number))
            wait_until(lambda number=number: waiting(program) == number + 1, "it waits")
        victim = program.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda gone=victim: gone not in program.workers() and len(program.workers()) == 2, "another worker")
        for client, end in inside:
            client.close()
            end.close()
        stay = [number for number, client in enumerate(clients) if not select.select([client.sock], [], [], 0)[0]]
        served = []
        for _ in stay:
            end = server.accept()
            served.append(int(end.receive(2)))
            close((clients[served[-1]], end))
        assert served == stay, "who waits with the other worker is served, in turn"
        assert not server.has_client(0)
        for client in clients:
            client.close()
        wait_until(lambda: waiting(program) == 0, "nobody waits")
        fresh = pairs(program, server, 4)
        extra = program.connect()
        wait_until(lambda: waiting(program) == 1, "the fifth waits")
        extra.close()
        for pair in fresh:
            close(pair)
        wait_until(lambda: waiting(program) == 0, "nobody waits")


def test_a_higher_limit_and_no_limit_let_those_in_who_wait(queue):
    program, server = queue({"sessions": 1, "queue": 9})
    file = Config(program)
    held = pairs(program, server, 1)
    clients = [program.connect().send(b"w") for _ in range(4)]
    wait_until(lambda: waiting(program) == 4, "all wait")
    file.app["limits"] = {"sessions": 3, "queue": 9}
    file.reload()
    held += [(None, server.accept().expect(b"w")) for _ in range(2)]
    wait_until(lambda: waiting(program) == 2, "two wait")
    del file.app["limits"]
    file.reload()
    for _ in range(2):
        server.accept().expect(b"w").close()
    for client, end in held:
        end.close()
        if client is not None:
            client.close()
    for client in clients:
        client.close()
    file.app["limits"] = {"sessions": 1, "queue": 9}  # the descriptors are compared with those of the start
    file.reload()


def test_those_who_wait_are_told_when_no_target_is_left(queue):
    program, server = queue({"queue": 5}, 1)
    pairs(program, server, 1)
    client = program.connect()
    wait_until(lambda: waiting(program) == 1, "it waits")
    api = Api(api_port(program))
    api.ask("PATCH", path_of("app", server.address), {"admin": "drain"}, status=200)
    client.expect_rst()
    assert program.record()["reason"] == "no_target"


ASK = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_in_mode_http_requests_wait_and_use_the_connection_that_is_kept(queue):
    program, server = queue({"queue": 9}, 1, workers=1, mode="http")
    program.uncounted = None
    clients = [program.connect().send(ASK % 0)]
    end = server.accept()
    for number in range(1, 4):
        clients.append(program.connect().send(ASK % number))
        wait_until(lambda number=number: waiting(program) == number, "it waits")
    for number in range(4):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += end.receive(1)
        assert head.startswith(b"GET /%d " % number)
        end.send(OK)
        assert clients[number].read_first().startswith(b"HTTP/1.1 200 OK\r\n")
    assert not server.has_client(0)


@pytest.mark.parametrize(("limits", "most"), [({"sessions": 1, "queue": 9}, 0), ({"queue": 9}, 1)])
def test_in_mode_http_who_waits_too_long_is_told_when_to_come_again(queue, limits, most):
    program, server = queue({**limits, "queue_timeout": 0.3}, most, mode="http")
    program.uncounted = None
    program.connect().send(ASK % 0)
    server.accept().receive(5)
    client = program.connect().send(ASK % 1)
    said = client.read_first()
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: " in said
    assert waiting(program) == 0


def test_in_mode_http_a_client_that_leaves_asks_nobody(queue):
    program, server = queue({"queue": 9}, 1, mode="http")
    program.uncounted = None
    first = program.connect().send(ASK % 0)
    end = server.accept()
    end.receive(5)
    gone = program.connect().send(ASK % 1)
    wait_until(lambda: waiting(program) == 1, "it waits")
    gone.close()
    wait_until(lambda: waiting(program) == 0, "it has left")
    end.send(OK)
    first.read_first()
    assert not server.has_client(0.3)


def test_without_a_queue_everything_is_as_it_was(queue):
    program, server = queue({"sessions": 5}, 1)
    pairs(program, server, 1)
    program.connect().expect_rst()
    assert program.record()["reason"] == "limit"
    assert "queue" not in Api(api_port(program)).get("/api/v1/statistics").json["apps"]["app"]
