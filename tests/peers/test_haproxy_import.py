"""One haproxy.cfg, run by HAProxy and, imported, by us: the same clients come to the same servers."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys

import pytest

from kit.ports import free_port
from kit.programs import Program, need
from kit.proxy import Proxy
from kit.waiting import wait_until

pytestmark = pytest.mark.slow

WEB = """
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend web
    bind 127.0.0.1:{port}
    acl is_api path_beg /api/
    acl of_b hdr(host) -i b.example
    use_backend api if is_api
    use_backend b if of_b or {{ hdr_end(host) .b.example }}
    default_backend main
backend main
    balance roundrobin
    server down 127.0.0.1:{closed} check inter 200ms
    server up 127.0.0.1:{main} check inter 200ms
    server spare 127.0.0.1:{b} check backup
backend api
    server api 127.0.0.1:{api}
backend b
    server b 127.0.0.1:{b}
"""
ASKED = [
    ("/", "main.example"), ("/apix", "main.example"), ("/api/x", "main.example"), ("/api/", "other.example"),
    ("/", "b.example"), ("/x", "B.example"), ("/", "x.b.example"), ("/", "xb.example"),
]  # fmt: skip
DB = """
listen db
    bind 127.0.0.1:{port}
    mode tcp
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    balance leastconn
    option tcp-check
    tcp-check send hello\\r\\n
    tcp-check expect string hello
    server one 127.0.0.1:{one} check inter 200ms
    server spare 127.0.0.1:{spare} check inter 200ms backup
"""


@pytest.fixture
def both(tmp_path, servers):
    """both(text, **ports): the ports of HAProxy and of us, who have imported the same text."""

    def start(text, **ports):
        port, ours = free_port(), free_port()
        config = tmp_path / "haproxy.cfg"
        config.write_text(text.format(port=ours, **ports))
        argv = [sys.executable, "-m", "tcp_proxy", "--import", str(config)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        assert "left out" not in done.stderr, done.stderr
        (tmp_path / "ours").mkdir()
        program = Proxy(json.loads(done.stdout), tmp_path / "ours")
        servers.callback(program.kill)
        config.write_text(text.format(port=port, **ports))
        haproxy = Program([need("haproxy"), "-db", "-f", config], port, tmp_path)
        servers.callback(haproxy.close)
        haproxy.wait_listening()
        program.wait_ready()
        return port, ours

    return start


def named(name):
    """What a server of that name answers to a request."""
    return lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name)


def who(port, path, host):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_requests_come_to_the_same_servers(both, service):
    main, api, b = (service(answer=named(name)) for name in (b"main", b"api", b"b"))
    theirs, ours = both(WEB, main=main.port, api=api.port, b=b.port, closed=free_port())
    for port in theirs, ours:  # the check has found the dead one
        wait_until(lambda port=port: all(who(port, "/", "x")[1] == "main" for _ in range(3)), "one that serves alone")
    found = {port: [who(port, *asked) for asked in ASKED] for port in (theirs, ours)}
    assert found[ours] == found[theirs]
    assert [name for _, name in found[ours]] == ["main", "main", "api", "api", "b", "b", "b", "main"]


def test_a_backup_takes_over(both, service):
    one, spare = (service(answer=lambda data, name=name: name + b" " + data) for name in (b"one", b"spare"))
    theirs, ours = both(DB, one=one.port, spare=spare.port)

    def met(port):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"hello")
            return client.recv(100)
        return b""

    for port in theirs, ours:
        wait_until(lambda port=port: met(port) == b"one hello", "the first")
    one.stop_listening()
    for port in theirs, ours:
        wait_until(lambda port=port: met(port) == b"spare hello", "the backup")
