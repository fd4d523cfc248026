"""Mode http between real programs: curl, wrk, hey, nginx, varnishtest, a WebSocket client and server."""

import hashlib
import json
import pathlib
import re
import subprocess

import pytest

from kit import procfs
from kit.malformed import ANSWERS, TOLERATED
from kit.origin import Origin
from kit.ports import free_port
from kit.programs import haproxy, need, nginx, run
from kit.waiting import pause, wait_until
from kit.wrk import Wrk

GIB = 1 << 30
HERE = pathlib.Path(__file__).parent


@pytest.fixture
def origin(servers):
    return lambda: servers.enter_context(Origin())


@pytest.fixture
def web(servers, tmp_path):
    """nginx, with a file of 1 MiB."""
    server = nginx(tmp_path)
    servers.callback(server.close)
    (server.folder / "html" / "file").write_bytes(bytes(range(256)) * 4096)
    return server.wait_listening()


def curl(program, path, *args, **how):
    return run("curl", "-sS", "--max-time", "60", *args, f"http://127.0.0.1:{program.port}{path}", **how)


# -- weldr's list (methods, echo, chunks), by curl


def test_every_method(http, origin):
    program = http(origin())
    for method in ("GET", "DELETE", "PATCH", "OPTIONS", "POST", "PUT", "TRACE"):
        assert curl(program, "/method", "-X", method) == f"hello {method}"
    assert "Server: hello HEAD" in curl(program, "/method", "-I")
    assert "501 Not Implemented" in curl(program, "/method", "-X", "CONNECT", "--request-target", "a:80", "-i")
    assert curl(program, "/", "-X", "OPTIONS", "--request-target", "*") == "hello OPTIONS"
    assert curl(program, "/", "--request-target", f"http://127.0.0.1:{program.port}/method") == "hello GET"


def test_bodies_up_and_down(http, origin):
    program = http(origin())
    assert curl(program, "/echo", "-d", "hello") == "hello"
    assert curl(program, "/echo", "-d", "hello", "-H", "Transfer-Encoding: chunked") == "hello"
    assert curl(program, "/chunked") == "hello world"
    assert curl(program, "/chunked", "-0") == "hello world"
    assert curl(program, "/echo", "-0", "-d", "hello") == "hello"
    assert curl(program, "/echo", "-d", "hello", "-H", "Expect: 100-continue") == "hello"


def test_what_the_target_is_told(http, origin):
    program = http(origin())
    fields = ("Connection: keep-alive, X-Hop", "X-Hop: 1", "X-Stays: 2")
    told = dict(json.loads(curl(program, "/headers", *[word for field in fields for word in ("-H", field)])))
    assert told["X-Stays"] == "2"
    assert told["Host"] == f"127.0.0.1:{program.port}"
    assert told["X-Forwarded-For"] == "127.0.0.1"
    assert told["Via"] == "1.1 tcp_proxy"
    assert not {"Connection", "X-Hop"} & told.keys()


def test_ranges_and_conditions(http, web):
    program = http(web)
    assert curl(program, "/file", "-r", "65-69") == "ABCDE"
    assert "416 " in curl(program, "/file", "-i", "-r", "9999999-")
    etag = re.search(r"ETag: (\S+)", curl(program, "/file", "-I"))[1]
    assert "304 Not Modified" in curl(program, "/file", "-i", "-H", f"If-None-Match: {etag}")
    assert "multipart/byteranges" in curl(program, "/file", "-r", "65-66,67-68", "-o", "/dev/null", "-D", "-")
    assert "404 Not Found" in curl(program, "/none", "-i")


def test_a_gibibyte_each_way_in_flat_memory(http, origin, web, tmp_path):
    """Up to a server that reads and adds it up, down from a file; nothing of it stays in the worker."""
    with (web.folder / "html" / "big").open("wb") as file:
        file.truncate(GIB)
    digest = hashlib.sha256()
    for _ in range(GIB >> 20):
        digest.update(bytes(1 << 20))
    routes = [{"path": "/count", "targets": ["up"]}, {"targets": ["down"]}]
    program = http({"name": "up", "address": origin().address}, {"name": "down", "address": web.address}, routes=routes)
    (worker,) = program.workers()
    before = procfs.resident(worker)
    big = web.folder / "html" / "big"
    assert curl(program, "/count", "-T", big) == f"{GIB} {digest.hexdigest()}"
    assert curl(program, "/big", "-o", "/dev/null", "-w", "%{size_download} %{http_code}") == f"{GIB} 200"
    assert procfs.resident(worker) - before < 16 << 20


def test_an_upload_that_is_answered_at_once(http, web):
    """nginx answers before it has read the body."""
    (web.folder / "body").write_bytes(bytes(64 << 20))
    program = http(web)
    assert curl(program, "/upload", "-T", web.folder / "body") == f"got {64 << 20}\n"


def test_an_upload_in_chunks(http, origin, tmp_path):
    data = bytes(range(256)) * 40_000
    (tmp_path / "body").write_bytes(data)
    program = http(origin())
    with (tmp_path / "body").open("rb") as file:
        argv = [need("curl"), "-sS", "-T", "-", f"http://127.0.0.1:{program.port}/count"]
        said = subprocess.run(argv, stdin=file, capture_output=True, text=True, timeout=30, check=True).stdout
    assert said == f"{len(data)} {hashlib.sha256(data).hexdigest()}"


# -- load


def test_load_without_one_error(http, web, tmp_path):
    program = http(web, upstream_connections=16)
    with Wrk(program.port, tmp_path), Wrk(program.port, tmp_path, kept=False):
        said = run("hey", "-n", 2000, "-c", 50, f"http://127.0.0.1:{program.port}/hello")
        assert re.search(r"\[200\]\s+2000 responses", said), said
        assert "Error distribution" not in said
        pipeline = tmp_path / "pipeline.lua"
        pipeline.write_text(
            "init = function(args) local r = {} for i = 1, 16 do r[i] = wrk.format(nil, '/hello') end"
            " req = table.concat(r) end request = function() return req end"
        )
        said = run("wrk", "-t1", "-c8", "-d1", "-s", pipeline, f"http://127.0.0.1:{program.port}/")
        assert "Non-2xx" not in said
        assert "Socket errors" not in said
        assert float(re.search(r"Requests/sec: +([\d.]+)", said)[1]) > 100


def test_one_of_two_targets_dies_under_load(http, origin, servers, tmp_path):
    """weldr's wish #76: every request is answered well. wrk asks with GET only, which may be asked again."""
    (tmp_path / "other").mkdir()
    one, other = (servers.enter_context(_closing(nginx(folder))) for folder in (tmp_path, tmp_path / "other"))
    program = http(one.wait_listening(), other.wait_listening())
    with Wrk(program.port, tmp_path), Wrk(program.port, tmp_path, kept=False):
        wait_until(lambda: "Host" not in curl(program, "/hello"), "it runs")
        other.process.kill()
        other.process.wait()
        for _ in range(20):
            assert curl(program, "/hello") == "hello from nginx\n"


def test_slow_clients_do_not_slow_the_others(http, web):
    """1,000 that say a byte now and then: each byte costs less than a request, so 2,000 of them a second take 5 % of a
    processor that serves 40,000 requests."""
    program = http(web, timeouts={"request": 60})
    (worker,) = program.workers()
    slow = [program.connect().send(b"GET / HTTP/1.1\r\nX: ") for _ in range(1000)]
    wait_until(lambda: procfs.kinds(worker)["socket"] > 1000, "all are connected")
    before, said_bytes = procfs.cpu_seconds(worker), 0
    while said_bytes < 6 * len(slow):
        for client in slow:
            said_bytes += client.sock.send(b"a")
        pause(0.5)
    by_bytes = procfs.cpu_seconds(worker) - before
    said = run("wrk", "-t1", "-c16", "-d1", f"http://127.0.0.1:{program.port}/hello")
    by_requests = procfs.cpu_seconds(worker) - before - by_bytes
    requests = int(re.search(r"(\d+) requests in", said)[1])
    assert "Socket errors" not in said
    program.clients.clear()
    for client in slow:
        client.close()
    assert by_bytes / said_bytes < by_requests / requests, (by_bytes, by_requests, requests)


# -- WebSocket: Debian's own Python and library, on both ends

SERVER = """
import asyncio, sys, websockets
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None):
        print("ready", flush=True)
        await asyncio.Future()
asyncio.run(main())
"""
CLIENT = """
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], max_size=None) as ws:
        for size in (0, 1, 125, 126, 65536, 5_000_000):
            await ws.send(b"x" * size)
            assert await ws.recv() == b"x" * size
        await ws.send("text")
        assert await ws.recv() == "text"
        await (await ws.ping())
    print("all came back")
asyncio.run(main())
"""


def test_a_websocket(http, servers):
    python = need("/usr/bin/python3")
    if subprocess.run([python, "-c", "import websockets"], capture_output=True, check=False).returncode:
        need("the Debian package python3-websockets")
    port = free_port()
    server = subprocess.Popen([python, "-c", SERVER, str(port)], stdout=subprocess.PIPE, text=True)
    servers.callback(server.stdout.close)
    servers.callback(server.wait)
    servers.callback(server.kill)
    assert server.stdout.readline() == "ready\n"
    program = http(f"127.0.0.1:{port}")
    assert run(python, "-c", CLIENT, f"ws://127.0.0.1:{program.port}/chat") == "all came back\n"


# -- varnishtest: an independent client and server, that look at every field


@pytest.mark.parametrize("script", sorted((HERE / "vtc").glob("*.vtc")), ids=lambda path: path.stem)
def test_varnishtest(http, script, tmp_path):
    target = free_port()
    program = http(f"127.0.0.1:{target}")
    macros = [f"-Dtarget=127.0.0.1:{target}", f"-Dproxy=127.0.0.1:{program.port}"]
    run("varnishtest", "-t", 20, *macros, script, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/sbin"})


HAPROXY = """defaults
  mode http
  timeout connect 20s
  timeout client 20s
  timeout server 20s
frontend f
  bind 127.0.0.1:{{port}}
  default_backend b
backend b
  server s {server}
"""


def test_what_is_taken_from_targets_haproxy_takes_too(http, service, servers, tmp_path):
    """Body for body the same, and what is 502 here for its length is 502 there."""
    strict = {"two lengths", "a negative length", "a length that is none", "a huge length", "an empty length"}
    said = [text + b"hello" for _, text, _ in TOLERATED] + [text for name, text in ANSWERS if name in strict]
    origin = service(answer=lambda data: said[int(data.split(b" ")[1][1:])])
    haproxy_ = haproxy(tmp_path, HAPROXY.format(server=origin.address))
    servers.callback(haproxy_.close)
    haproxy_.wait_listening()
    program, found = http(origin), {}
    for number in range(len(said)):
        both = [curl(server, f"/{number}", "-o", tmp_path / "body", "-w", "%{http_code}") for server in (program, haproxy_)]
        found[number] = (*both, (tmp_path / "body").read_bytes() if number < len(TOLERATED) else b"")
    assert {number for number, (ours, theirs, _) in found.items() if ours != theirs} == set()
    assert {body for number, (_, _, body) in found.items() if number < len(TOLERATED)} == {b"hello"}
    assert [ours for number, (ours, _, _) in found.items() if number >= len(TOLERATED)] == ["502"] * len(strict)


class _closing:
    def __init__(self, server):
        self.server = server

    def __enter__(self):
        return self.server

    def __exit__(self, *_):
        self.server.close()
