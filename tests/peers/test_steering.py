"""HAProxy's cases of limits, queues and hashes, and Envoy's of rates, by their names there, against the running program."""

import threading
from collections import Counter

import pytest

from kit import programs
from kit.api import Api, api_config
from kit.dialogue import GET, OK, OK_PASSED, head
from kit.peer import connect
from kit.waiting import wait_until
from tests.system.test_limits import close, pairs, waiting

SLOW = 0.001  # a second: nobody gets another token in a test


def is_reset(client):
    return client.read_first() == b""


# -- HAProxy: reg-tests/stick-table, and what its manual says of src_conn_cur and http_req_rate


def test_haproxy_src_conn_rate(http, service):
    """Three connections of a client in the time are served, the fourth is not; another client's are."""
    limits = {"sessions_per_client": 100, "rate_per_client": SLOW, "burst_per_client": 3}
    program = http(service(answer=lambda _request: OK), limits=limits)
    program.uncounted = None
    for _ in range(3):
        client = program.connect()
        client.send(GET).expect(OK_PASSED)
        client.close()
    client = program.connect().send(GET)
    assert head(client).startswith(b"HTTP/1.1 429 ")
    program.connect(source="127.0.0.9").send(GET).expect(OK_PASSED)


def test_haproxy_src_conn_rate_in_mode_tcp(proxy, service):
    program = proxy(targets=[service(greeting=b"a")], limits={"rate_per_client": SLOW, "burst_per_client": 3})
    for _ in range(3):
        program.connect().expect(b"a")
    assert is_reset(program.connect())
    program.connect(source="127.0.0.9").expect(b"a")


def test_haproxy_src_conn_cur(proxy, target):
    """So many connections of a client at once; the end of one is the place of the next."""
    server = target()
    program = proxy(targets=[server], limits={"sessions_per_client": 2})
    held = pairs(program, server, 2)
    assert is_reset(program.connect())
    close(held.pop())
    program.records(2)
    held += pairs(program, server, 1)
    assert is_reset(program.connect())


def test_haproxy_http_req_rate(http, service):
    """Requests count, whatever connections they come on, and it is the request that is refused."""
    limits = {"rate_per_client": SLOW, "burst_per_client": 4}
    program = http(service(answer=lambda _request: OK), limits=limits)
    program.uncounted = None
    one, other = program.connect(), program.connect()
    for client in (one, other, one, other):
        client.send(GET).expect(OK_PASSED)
    assert head(one.send(GET)).startswith(b"HTTP/1.1 429 ")


# -- HAProxy: reg-tests/balance


class Held:
    """An answer that waits until it is let go, from whichever server."""

    def __init__(self):
        self.asked = []
        self.free = threading.Event()

    def of(self, name):
        def answer(_request):
            self.asked.append(name)
            assert self.free.wait(20)
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + name

        return answer


@pytest.fixture
def held():
    found = Held()
    yield found
    found.free.set()


@pytest.mark.parametrize("balance", ["rendezvous", "maglev", "ring_hash"])
def test_haproxy_balance_hash_maxconn(http, service, held, balance):
    """Two requests for one path at the same time: the target that it belongs to is full with the first, so the second goes
    to the other one and does not wait."""
    targets = [{"address": service(answer=held.of(name)).address, "max_connections": 1} for name in (b"0", b"1")]
    program = http(*targets, balance=balance, hash={"key": "path"}, limits={"queue": 5})
    first, second = program.connect().send(GET), None
    wait_until(lambda: len(held.asked) == 1, "the first is with its target")
    second = program.connect().send(GET)
    wait_until(lambda: len(held.asked) == 2, "the second is with the other one")
    assert set(held.asked) == {b"0", b"1"}
    held.free.set()
    for client in (first, second):
        assert head(client).startswith(b"HTTP/1.1 200 ")
    del held.asked[1:]
    again = program.connect().send(GET)
    assert head(again).startswith(b"HTTP/1.1 200 ")
    assert held.asked[0] == held.asked[1], "with nobody there it goes where it belongs"


def test_haproxy_balance_hash_maxqueue(http, service, held):
    """All are full: who comes waits, as many as the queue has places for, and the next one is told at once."""
    targets = [{"address": service(answer=held.of(name)).address, "max_connections": 1} for name in (b"0", b"1")]
    program = http(*targets, balance="maglev", hash={"key": "path"}, limits={"queue": 1}, top={"api": api_config()})
    clients = [program.connect().send(GET) for _ in range(2)]
    wait_until(lambda: len(held.asked) == 2, "both are full")
    clients.append(program.connect().send(GET))
    wait_until(lambda: waiting(program) == 1, "one waits")
    assert head(program.connect().send(GET)).startswith(b"HTTP/1.1 503 ")
    held.free.set()
    for client in clients:
        assert head(client).startswith(b"HTTP/1.1 200 ")


HAPROXY_BOUNDED = """defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen app
    bind 127.0.0.1:{port}
    balance source
    hash-type consistent
    hash-balance-factor 150
"""


def shares_of(make_client, servers):
    """Sessions of each, the least first, of 12 that one client holds, begun one after another."""
    clients = []
    for _ in range(12):
        clients.append(make_client())
        assert clients[-1].receive(1) == b"a"
    shares = sorted(server.active for server in servers)
    for client in clients:
        client.close()
    return shares


@pytest.mark.parametrize("balance", ["source_hash", "maglev", "ring_hash"])
def test_haproxy_hash_balance_factor(proxy, service, balance):
    """Half as many more as the mean, and the next one has the rest, as in the real HAProxy below."""
    servers = [service(greeting=b"a") for _ in range(3)]
    program = proxy(targets=servers, balance=balance, hash={"balance_factor": 150}, top={"workers": 2})
    program.uncounted = None
    assert shares_of(program.connect, servers) == [0, 6, 6]


def test_haproxy_hash_balance_factor_of_requests(http, service):
    """In mode http requests count, over both workers: here the answers that are not over yet."""
    part = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    targets = [service(answer=lambda _request, name=name: part + name) for name in (b"0", b"1", b"2")]
    program = http(*targets, balance="ring_hash", hash={"key": "path", "balance_factor": 150}, top={"workers": 2})
    program.uncounted = None
    clients, names = [], []
    for _ in range(12):
        clients.append(program.connect().send(GET))
        assert head(clients[-1]).startswith(b"HTTP/1.1 200 ")
        names.append(clients[-1].receive(1))
    assert sorted(Counter(names).values()) == [6, 6]
    for client in clients:
        client.close()


def test_haproxy_hash_balance_factor_in_haproxy(service, tmp_path):
    servers = [service(greeting=b"a") for _ in range(3)]
    lines = "".join(f"    server s{number} {server.address}\n" for number, server in enumerate(servers))
    other = programs.haproxy(tmp_path, HAPROXY_BOUNDED + lines).wait_listening()
    try:
        assert shares_of(lambda: connect(other.port), servers) == [0, 6, 6]
    finally:
        other.close()


# -- HAProxy: `set server … weight`


def test_haproxy_set_server_weight(proxy, service):
    """Twice the weight is twice the share, at once and in turns."""
    servers = [service(greeting=b"a"), service(greeting=b"b")]
    program = proxy(targets=servers, balance="round_robin", top={"api": api_config()})

    def shares(count):
        return sorted(program.connect().receive(1) for _ in range(count))

    assert shares(6).count(b"a") == 3
    name = Api.of(program).get("/api/v1/apps/app/targets").json[0]["name"]
    Api.of(program).ask("PATCH", f"/api/v1/apps/app/targets/{name}", {"weight": 2}, status=200)
    wait_until(lambda: shares(6).count(b"a") == 4, "the worker has heard of it")
    assert shares(12).count(b"a") == 8


# -- Envoy: the network filter of local rate limits


def test_envoy_local_rate_limit_on_new_connection(proxy, service):
    """With a token the connection goes on, without one it is closed before a target is asked, and counted."""
    program = proxy(targets=[service(greeting=b"a")], limits={"rate": SLOW, "burst": 1}, top={"api": api_config()})
    program.connect().expect(b"a")
    assert is_reset(program.connect())
    assert Api.of(program).get("/api/v1/statistics").json["apps"]["app"]["limits"]["refused"]["rate"] == 1
