"""Policies, keys, levels and zones in the running program: which server a client meets, over workers, reloads and
outages."""

import http.server
import json
import threading
from collections import Counter

import pytest

from kit.api import Api, api_config
from kit.ports import free_port
from kit.waiting import wait_until
from tests.dataplane.edge.test_hello import RECORDED
from tests.system.test_reload import Config

FAST = {"interval": 0.2, "timeout": 0.15, "fall": 1, "rise": 1}
SOURCES = [f"127.0.{net}.{host}" for net in range(1, 5) for host in range(1, 11)]


def met(program, source="", send=b""):
    """The greeting of the server."""
    client = program.connect(source=source)
    if send:
        client.send(send)
    found = client.receive(1).decode()
    client.close()
    return found


def all_met(program):
    program.uncounted = None
    return {source: met(program, source) for source in SOURCES}


def known_as(program, found):
    wait_until(lambda: all_met(program) == found, "every client has its target")


# -- a key


@pytest.mark.parametrize("balance", ["rendezvous", "maglev", "ring_hash"])
def test_a_client_keeps_its_target_over_workers_reloads_and_outages(proxy, service, balance):
    port = free_port()
    a, b, c = service(greeting=b"a"), service(greeting=b"b", port=port), service(greeting=b"c")
    program = proxy(targets=[a, b, c], balance=balance, health=FAST, top={"workers": 2})
    program.wait_log(f"target {b.address} is up")
    before = all_met(program)
    assert set(before.values()) == {"a", "b", "c"}
    assert all_met(program) == before, "whichever worker has it"
    file = Config(program)
    file.app["retries"] = 2
    file.reload()
    assert all_met(program) == before
    b.close()
    program.wait_log(f"target {b.address} is down")
    known_again = {source: name for source, name in before.items() if name != "b"}
    wait_until(lambda: "b" not in all_met(program).values(), "b is out")
    after = all_met(program)
    assert {source: after[source] for source in known_again} == known_again, "no other client has moved"
    # All with one by chance, once in 300 runs, for ports are others each time; tests/sansio/test_hashed.py has the shares.
    assert {after[source] for source in before if before[source] == "b"} <= {"a", "c"}
    service(greeting=b"b", port=port)
    known_as(program, before)


@pytest.mark.parametrize("balance", ["maglev", "ring_hash"])
def test_a_target_that_comes_by_a_reload_takes_from_all_and_moves_few_others(proxy, service, balance):
    names = [service(greeting=name) for name in (b"a", b"b", b"c", b"d")]
    program = proxy(targets=names[:3], balance=balance)
    before = all_met(program)
    file = Config(program)
    file.app["targets"] = [one.address for one in names]
    file.reload()
    after = all_met(program)
    assert "d" in after.values()
    others = [source for source in SOURCES if after[source] not in ("d", before[source])]
    assert len(others) <= 4  # of 40


def test_a_policy_is_changed_by_a_reload_and_a_key_too(proxy, service):
    program = proxy(targets=[service(greeting=b"a"), service(greeting=b"b"), service(greeting=b"c")])
    program.uncounted = None
    assert Counter(met(program, "127.0.0.9") for _ in range(9)) == {"a": 3, "b": 3, "c": 3}
    file = Config(program)
    file.app["balance"] = "maglev"
    file.reload()
    assert len({met(program, "127.0.0.9") for _ in range(9)}) == 1
    file.app["hash"] = {"key": "first_bytes", "slice": [0, 2], "table_size": 1009}
    lines = [json.loads(line)["message"] for line in file.reload()]
    assert any('hash.key: "address" -> "first_bytes"' in line for line in lines)
    by_bytes = {number: {met(program, send=b"%02d" % number) for _ in range(2)} for number in range(20)}
    assert {len(some) for some in by_bytes.values()} == {1}
    assert len(set.union(*by_bytes.values())) == 3


def test_the_name_in_a_client_hello_is_a_key(proxy, service):
    program = proxy(
        targets=[service(greeting=b"a"), service(greeting=b"b"), service(greeting=b"c")], balance="ring_hash",
        hash={"key": "sni"}, top={"workers": 2},
    )  # fmt: skip
    program.uncounted = None
    found = {met(program, source, hello) for source in SOURCES[:5] for hello in RECORDED.values()}
    assert len(found) == 1, "all ask for the same name"
    assert len({met(program, source, b"no TLS") for source in SOURCES}) == 3, "who asks for none goes by its address"


class Named(http.server.ThreadingHTTPServer):
    """Answers with its name; as late as it is told."""

    daemon_threads = False

    def __init__(self, name, delay=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 2
            disable_nagle_algorithm = True

            def do_GET(self):
                if delay is not None:
                    delay.wait(0.03)  # a server that takes its time
                self.send_response(200)
                self.send_header("Content-Length", str(len(name)))
                self.end_headers()
                self.wfile.write(name)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name=f"named-{self.address}")
        self._thread.start()

    def close(self):
        self.shutdown()
        self._thread.join()
        self.server_close()

    __exit__ = lambda self, *_: self.close()  # noqa: E731

    def handle_error(self, *_):
        """A client that leaves is no error of the test."""


@pytest.fixture
def named(servers):
    return lambda *names, **more: [servers.enter_context(Named(name, **more)) for name in names]


def asked(client, *lines, path="/"):
    client.send(b"\r\n".join([b"GET %b HTTP/1.1" % path.encode(), b"Host: a", *lines, b"", b""]))
    text = b""
    while not text.endswith(b"\r\n\r\n"):
        text += client.receive_line()
    assert text.startswith(b"HTTP/1.1 200"), text
    return client.receive(1).decode()


@pytest.mark.parametrize("balance", ["rendezvous", "maglev", "ring_hash"])
def test_a_header_is_a_key_of_each_request(http, named, balance):
    """HAProxy's `balance hdr(X-User)`: whoever asks, from wherever, on whichever connection."""
    program = http(*named(b"a", b"b", b"c"), balance=balance, hash={"key": "header", "name": "X-User"}, top={"workers": 2})
    one, other = program.connect(source="127.0.0.2"), program.connect(source="127.0.0.3")
    by_user = {}
    for user in range(30):
        for client in (one, other, one):
            by_user.setdefault(user, set()).add(asked(client, b"X-User: %d" % user))
    assert {len(some) for some in by_user.values()} == {1}
    assert len(set.union(*by_user.values())) == 3
    assert len({asked(one) for _ in range(5)}) == 1, "a request without it goes by its client's address"


def test_a_cookie_and_a_path_are_keys(http, named):
    servers = named(b"a", b"b", b"c")
    program = http(*servers, balance="maglev", hash={"key": "cookie", "name": "session"})
    client = program.connect()
    found = {number: {asked(client, b"Cookie: x=%d; session=%d" % (n, number)) for n in range(3)} for number in range(20)}
    assert {len(some) for some in found.values()} == {1}
    assert len(set.union(*found.values())) == 3
    program = http(*servers, balance="maglev", hash={"key": "path"})
    client = program.connect()
    found = {number: {asked(client, path=f"/{number}?{n}") for n in range(3)} for number in range(20)}
    assert {len(some) for some in found.values()} == {1}, "HAProxy's `balance uri`: the query does not count"
    assert len(set.union(*found.values())) == 3


def test_routes_share_out_by_the_same_key(http, named):
    a, b, c, d = named(b"a", b"b", b"c", b"d")
    targets = [{"name": name, "address": one.address} for name, one in zip("abcd", (a, b, c, d), strict=True)]
    routes = [{"path": "/x", "targets": ["a", "b"]}, {"targets": ["c", "d"]}]
    program = http(*targets, routes=routes, balance="maglev", hash={"key": "header", "name": "U"})
    client = program.connect()
    for path, names in (("/x", {"a", "b"}), ("/y", {"c", "d"})):
        found = {n: {asked(client, b"U: %d" % n, path=path) for _ in range(2)} for n in range(20)}
        assert {len(some) for some in found.values()} == {1}
        assert set.union(*found.values()) == names


# -- least_time


def test_the_faster_server_has_more_requests(http, named):
    """Its latency is a tenth, so it may have ten times as many at once."""
    (fast,) = named(b"f")
    (slow,) = named(b"s", delay=threading.Event())
    program = http(fast, slow, balance="least_time")
    client = program.connect()
    found = Counter(asked(client) for _ in range(60))
    assert found["f"] > 5 * found["s"]
    assert found["s"], "it is asked once, to know how long it takes"


# -- levels


def test_levels_and_zones_are_used_in_their_order(proxy, service):
    """Envoy's priority levels; a level's targets in our zone first, then the others of it."""
    names = {name: service(greeting=name.encode()) for name in "abcde"}
    places = {"a": (0, "z"), "b": (0, "other"), "c": (1, "z"), "d": (2, "other")}
    targets = [{"address": names[n].address, "priority": level, "zone": zone} for n, (level, zone) in places.items()]
    targets.append({"address": names["e"].address, "backup": True, "zone": "z"})
    program = proxy(targets=targets, health=FAST, top={"zone": "z", "workers": 2, "api": api_config()})
    program.uncounted = None
    for name in "abcde":
        wait_until(lambda name=name: {met(program) for _ in range(4)} == {name}, f"{name} has everybody")
        names[name].close()
        program.wait_log(f"target {names[name].address} is down")
    shown = Api.of(program).get("/api/v1/apps/app/targets").json
    assert [(one["priority"], one["zone"]) for one in shown] == [*places.values(), (0, "z")]


def test_a_level_that_is_up_in_part_shares_its_load(proxy, service):
    """Envoy: with half of a level up and a factor of 1.4, seven tenths stay there."""
    a, b, c = service(greeting=b"a"), service(), service(greeting=b"c")
    targets = [a.address, b.address, {"address": c.address, "priority": 1}]
    program = proxy(targets=targets, health=FAST, overprovisioning=140)
    program.uncounted = None
    program.wait_log(f"target {b.address} is up")
    b.close()
    program.wait_log(f"target {b.address} is down")
    wait_until(lambda: "c" in {met(program) for _ in range(20)}, "the next level helps")
    found = Counter(met(program) for _ in range(300))
    assert 160 <= found["a"] <= 250, "210 is what is to be expected"
    file = Config(program)
    file.app["overprovisioning"] = 0
    file.reload()
    assert {met(program) for _ in range(20)} == {"a"}


def test_a_zone_is_changed_by_a_reload(proxy, service):
    targets = [{"address": service(greeting=name.encode()).address, "zone": name} for name in "xy"]
    program = proxy(targets=targets, top={"zone": "x"})
    program.uncounted = None
    assert {met(program) for _ in range(4)} == {"x"}
    file = Config(program)
    file.config["zone"] = "y"
    file.reload()
    assert {met(program) for _ in range(4)} == {"y"}


def test_panic_is_of_the_level_that_serves(proxy, service):
    a, b, c = (service(greeting=name) for name in (b"a", b"b", b"c"))
    targets = [a.address, *({"address": one.address, "priority": 1} for one in (b, c))]
    program = proxy(targets=targets, health=FAST, panic=100)
    program.uncounted = None
    program.wait_log(f"target {c.address} is up")
    a.close()
    program.wait_log(f"target {a.address} is down")
    wait_until(lambda: {met(program) for _ in range(4)} == {"b", "c"}, "the next level serves, and does not panic")
    c.close()
    program.wait_log("panic: 1 of 2 targets of priority 1 are up, fewer than 100 %")
