"""Whatever is done to the management API, traffic goes on: malformed requests by the thousand, clients that hang, a process
that is killed again and again.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.load import Load
from kit.waiting import wait_until

MODULE = b"tcp_proxy.control.api.server"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
pytestmark = pytest.mark.slow


def api_pid(program):
    return next((pid for pid, line in procfs.children(program.pid).items() if MODULE in line), None)


@pytest.fixture
def program(proxy, service):
    program = proxy(targets=[service()], top={"api": api_config()})
    program.uncounted = None
    return program


def head(draw, method, path, *lines):
    host = draw.choice(["Host: localhost"] * 60 + ["Host: evil.example", "Host: a\r\nHost: b", "X: y"])
    return "\r\n".join([f"{method} {path} HTTP/1.1", host, *lines, "", ""]).encode("latin-1")


def path(draw):
    parts = ["api", "v1", "apps", "app", "targets", "%00", "%2e%2e", "..", "%ff", "a" * 500, "servers", "plan", "{app}", ""]
    query = draw.choice(["", "?", "?after=x", "?limit=-1", "?app=" + "%F0%9F" * 50, "?after=" + "9" * 400])
    return "/" + "/".join(draw.choices(parts, k=draw.randint(1, 6))) + query


def body(draw):
    whole = json.dumps({"address": "127.0.0.1:1", "weight": draw.choice([-1, 1e400, None, [], "x"]), "\0": {}}).encode()
    cut = draw.randint(0, len(whole))
    return draw.choice([
        whole, whole[:cut], b"[" * draw.randint(1, 20_000), b'{"a":' * 500, draw.randbytes(cut), b"9" * 5000, b"NaN",
        b'"\\ud800"', b"\xff\xfe{\x00}\x00", b"{}", b"[]", b"null", b'{"apps": [{}]}', b"",
    ])  # fmt: skip


def request(draw, kinds=("application/json", "application/json; charset=x")):
    """HTTP that can be read and asks for what cannot be."""
    what = draw.choice(["/api/v1/apps/app/targets", "/api/v1/plan", "/servers", "/api/v1/apps/app/targets/x", path(draw)])
    method = draw.choice(["POST", "PATCH", "PUT", "DELETE", "GET", "BREW"])
    content = body(draw)
    kind = draw.choice(kinds)
    return head(draw, method, what, f"Content-Length: {len(content)}", f"Content-Type: {kind}") + content


def garbage(draw):
    """What is no HTTP, or ends too early, or lies about its length."""
    whole = request(draw)
    return draw.choice([
        draw.randbytes(draw.randint(1, 2000)), whole[: draw.randint(1, len(whole))], b"\r\n" * 100, b"GET\r\n\r\n",
        b"\x16\x03\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000,
        request(draw, kinds=("text/plain", "\xff")),  # 415, and the connection ends
        b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /servers HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /servers HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /servers HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    ])  # fmt: skip


def statuses(sock):
    """Of all answers until the other side closes or resets."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while chunk := sock.recv(65536):
            found += chunk
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", found)]


@pytest.mark.timeout(300)
def test_ten_thousand_malformed_requests_do_not_stop_traffic(program):
    draw = random.Random(4)
    where = ("127.0.0.1", Api.of(program).where)
    before = api_pid(program), program.workers()
    stays = program.connect().send(b"x").expect(b"x")
    answers = []
    with Load(program.port, clients=2) as load:
        for _ in range(250):
            with socket.create_connection(where, timeout=60) as sock:
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"".join(request(draw) for _ in range(20)) + LAST)
                answers += statuses(sock)
        for _ in range(250):
            socks = [socket.create_connection(where, timeout=60) for _ in range(20)]
            for sock in socks:
                with sock, contextlib.suppress(ConnectionError):
                    sock.sendall(garbage(draw))
        load.wait_sessions(10)
        Api.of(program).get("/api/v1/status", seconds=60)
    assert load.failures == []
    assert set(answers) <= {200, 201, 204, 400, 404, 405, 409, 415, 421, 422}, set(answers)
    assert len(answers) > 2000, "most of the kept connections were kept"
    assert (api_pid(program), program.workers()) == before
    stays.send(b"y").expect(b"y")


def test_clients_that_hang_do_not_keep_others_out(program):
    """More of them than the API serves at once: the further ones are told so, and all of them are gone at some time."""
    where = ("127.0.0.1", Api.of(program).where)
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(socket.create_connection(where)).sendall(b"POST /servers HTTP/1.1\r\nHost: x")
        assert Api.of(program).get("/api/v1/status").json["state"] == "serving"
        program.connect().send(b"x").expect(b"x")


def test_the_process_is_killed_again_and_again_and_traffic_goes_on(program):
    with Load(program.port, clients=4) as load:
        for _ in range(3):
            os.kill(old := api_pid(program), signal.SIGKILL)
            wait_until(lambda old=old: api_pid(program) not in (None, old), "another process")
            Api.of(program).get("/api/v1/status")
            load.wait_sessions(20)
    assert load.failures == []


NONSENSE = [
    json.dumps({f"k{number}": 1 for number in range(20_000)}).encode(),
    json.dumps({"name": "x", "address": "127.0.0.1:1", "health": [{"type": "nope", "bad": 1}] * 8000}).encode(),
    json.dumps({"name": "y", "address": "127.0.0.1:1", "health": [{"type": "tcp"}] * 10_000}).encode(),
    json.dumps("x" * 250_000).encode(),
    b'{"name": "z", "address": ' + b"[" * 500 + b"]" * 500 + b"}",
]


@pytest.mark.parametrize("body", NONSENSE, ids=["keys", "bad checks", "good checks", "text", "deep"])
def test_a_target_that_is_long_and_wrong_is_one_clear_answer(program, body):
    """As much as a body may be."""
    api = Api.of(program)
    assert len(body) < 256 * 1024
    reply = api.ask("POST", "/api/v1/apps/app/targets", body, status=422)
    assert len(reply.detail) < 2000
    assert len(reply.json.get("errors", ())) <= 1000
    assert len(api.get("/api/v1/apps/app/targets").json) == 1
