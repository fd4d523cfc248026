"""The PROXY protocol with real programs: who sends us headers, who takes ours, and health checks both ways."""

import contextlib
import functools
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import urllib.request

import pytest

from kit.peer import connect
from kit.ports import free_port
from kit.programs import Program, dovecot, haproxy, mariadb, need, run, varnish
from kit.waiting import wait_until
from tests.kit.proxy_headers import VECTORS

V1 = VECTORS["v1-tcp4"][0][0]
FROM_HERE = {"from": ["127.0.0.0/8"]}
FAST = {"interval": 0.5, "timeout": 0.5, "rise": 3}
GET = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
WAYS = [1, 2, {"version": 2, "tlvs": ["unique_id", "crc32c"]}]

NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log info;
{modules}
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr:$proxy_protocol_port"; }}
    }}
}}
stream {{ {stream} }}
"""
MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
HAPROXY = """
defaults
    mode http
    timeout client 20s
    timeout server 20s
    timeout connect 5s
frontend in
    bind 127.0.0.1:{port} accept-proxy
    http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port]"
"""
APACHE = """
ServerRoot "{folder}"
ServerName a
Listen 127.0.0.1:{port}
User nobody
Group nogroup
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule remoteip_module {modules}/mod_remoteip.so
LoadModule include_module {modules}/mod_include.so
PidFile httpd.pid
DefaultRuntimeDir .
ErrorLog httpd.log
LogLevel info
RemoteIPProxyProtocol On
DocumentRoot "{folder}/pages"
<Directory "{folder}/pages">
    Require all granted
    Options +Includes
    ForceType text/html
    SetOutputFilter INCLUDES
</Directory>
"""
APACHE_MODULES = "/usr/lib/apache2/modules"
VARNISH = """
vcl 4.1;
import std;
backend default none;
sub vcl_recv { return (synth(200)); }
sub vcl_synth { set resp.body = "" + client.ip + ":" + std.port(client.ip); return (deliver); }
"""


def nginx(folder, stream=""):
    """Its log has a word for each header that it does not understand."""
    home = folder / f"nginx-{free_port()}"
    home.mkdir()
    port, config = free_port(), home / "nginx.conf"
    modules = f"load_module {MODULE};"
    config.write_text(NGINX.format(folder=home, port=port, modules=modules, stream=stream))
    flags = ["-p", home, "-e", home / "error.log", "-g", "", "-c", config]
    return Program([need("nginx"), *flags], port, home, is_ready=lambda: listens(port))


def listens(port):
    """Whether somebody does, without connecting: that would be a client without a header."""
    with open("/proc/net/tcp") as table:
        return any(f"0100007F:{port:04X} 00000000:0000 0A" in line for line in table)


def log_of(server):
    return "".join(path.read_text(errors="replace") for path in server.folder.glob("*log*"))


def told(client):
    """What an HTTP server has answered, without its head."""
    return client.read_to_end().partition(b"\r\n\r\n")[2].decode()


# -- receivers


@pytest.fixture(params=["nginx", "haproxy", "varnish"])
def receiver(request, tmp_path):
    """An HTTP server that wants headers, and answers with the client's address."""
    makers = {"nginx": lambda: nginx(tmp_path), "haproxy": lambda: haproxy(tmp_path, HAPROXY)}
    with running(makers.get(request.param, lambda: varnish(tmp_path, VARNISH))()) as server:
        yield server


@contextlib.contextmanager
def running(server):
    try:
        yield server.wait_listening()
    finally:
        server.close()


@pytest.mark.parametrize("mode", ["tcp", "http"])
@pytest.mark.parametrize("way", WAYS, ids=["v1", "v2", "v2-tlvs"])
def test_a_receiver_learns_the_clients_address(proxy, receiver, way, mode):
    target = {"address": receiver.address, "send_proxy": way}
    program = proxy(targets=[target], mode=mode, accept_proxy={**FROM_HERE, "required": False})
    program.uncounted = None
    assert told(program.connect().send(V1 + GET)) == "192.0.2.7:1111"
    client = program.connect().send(GET)
    assert told(client) == client.address
    slow = program.connect().send(V1)
    slow.wait_acknowledged()
    slow.send(GET[:9])
    slow.wait_acknowledged()
    assert told(slow.send(GET[9:])) == "192.0.2.7:1111"


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("check", [{"type": "tcp"}, {"type": "http"}], ids=["tcp", "http"])
def test_a_receiver_that_is_checked_is_up_and_has_nothing_to_complain_of(proxy, receiver, version, check):
    target = {"address": receiver.address, "send_proxy": version}
    program = proxy(targets=[target], health=[{**FAST, **check}])
    program.wait_log("target .* is up")
    client = program.connect().send(GET)
    assert told(client) == client.address
    assert not re.search("broken header|PROXY|proxy protocol", log_of(receiver))


@pytest.fixture
def apache():
    """Apache httpd with mod_remoteip, which gives its pages the client's address, and the connection's port."""
    with tempfile.TemporaryDirectory() as name:  # its children run as another user
        os.chmod(name, 0o755)
        home, port = pathlib.Path(name), free_port()
        (home / "pages").mkdir()
        (home / "pages" / "page").write_text('<!--#echo var="REMOTE_ADDR" -->')
        config = home / "httpd.conf"
        config.write_text(APACHE.format(folder=home, port=port, modules=APACHE_MODULES))
        argv = [need("apache2"), "-f", config, "-DFOREGROUND"]
        with running(Program(argv, port, home, is_ready=lambda: listens(port))) as server:
            yield server


PAGE = b"GET /page HTTP/1.0\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("mode", ["tcp", "http"])
@pytest.mark.parametrize("way", WAYS, ids=["v1", "v2", "v2-tlvs"])
def test_apache_learns_the_clients_address(proxy, apache, way, mode):
    target = {"address": apache.address, "send_proxy": way}
    program = proxy(targets=[target], mode=mode, accept_proxy={**FROM_HERE, "required": False})
    program.uncounted = None
    assert told(program.connect().send(V1 + PAGE)) == "192.0.2.7"
    assert told(program.connect(source="127.0.0.9").send(PAGE)) == "127.0.0.9"


@pytest.mark.parametrize(("version", "kind"), [(1, "tcp"), (1, "http"), (2, "tcp"), (2, "http")])
def test_apache_that_is_checked_is_up_and_has_nothing_to_complain_of(proxy, apache, version, kind):
    check = {**FAST, "type": kind, **({"path": "/page"} if kind == "http" else {})}
    program = proxy(targets=[{"address": apache.address, "send_proxy": version}], health=[check])
    program.wait_log("target .* is up")
    assert "RemoteIPProxyProtocol:" not in log_of(apache).replace("RemoteIPProxyProtocol: enabled", "")


@pytest.mark.parametrize("version", [1, 2])
def test_nginx_stream_is_told_too(proxy, tmp_path, version):
    port = free_port()
    stream = f'server {{ listen 127.0.0.1:{port} proxy_protocol; return "$proxy_protocol_addr:$proxy_protocol_port"; }}'
    with running(nginx(tmp_path, stream)) as server:
        program = proxy(targets=[{"address": f"127.0.0.1:{port}", "send_proxy": version}], health=[FAST])
        program.wait_log("target .* is up")
        client = program.connect()
        assert client.read_to_end().decode() == client.address, "without a word of the client's"
        assert "broken header" not in log_of(server)


@pytest.mark.parametrize("version", [1, 2])
def test_dovecot_logs_the_clients_address(proxy, tmp_path, version):
    with running(dovecot(tmp_path)) as server:
        check = {**FAST, "type": "exchange", "expect": "* OK"}
        target = {"address": server.address, "send_proxy": version}
        program = proxy(targets=[target], health=[check], accept_proxy=FROM_HERE)
        program.uncounted = None
        program.wait_log("target .* is up")
        client = program.connect().send(V1)
        client.receive_line()
        client.send(b"a LOGOUT\r\n").read_to_end()
        wait_until(lambda: "rip=192.0.2.7, lip=192.0.2.8" in log_of(server), lambda: log_of(server))
        assert "haproxy" not in log_of(server).lower(), "it complains of headers that it does not understand"


@pytest.mark.parametrize("version", [1, 2])
def test_mariadb_knows_its_users_by_the_clients_address(proxy, tmp_path, version):
    with running(mariadb(tmp_path, "--proxy-protocol-networks=127.0.0.1")) as server:
        root = ["--no-defaults", f"--socket={server.socket}", "-u", "root"]
        run("mariadb", *root, "-e", "CREATE USER probe@'127.0.0.9'; CREATE USER check_me@'127.0.0.1'")
        health = [{**FAST, "type": "exchange", "preset": "mysql", "user": "check_me"}]
        program = proxy(targets=[{"address": server.address, "send_proxy": version}], health=health)
        program.uncounted = None
        program.wait_log("target .* is up")
        with ComingFrom("127.0.0.9", program.port) as port:
            asked = ["--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "probe", "-N", "-e", "SELECT USER()"]
            assert run("mariadb", *asked).strip() == "probe@127.0.0.9"


class ComingFrom:
    """A port from which clients go on to another one, with this address."""

    def __init__(self, address, port):
        self.port = free_port()
        listen = f"TCP-LISTEN:{self.port},bind=127.0.0.1,reuseaddr,fork"
        self.process = subprocess.Popen([need("socat"), listen, f"TCP:127.0.0.1:{port},bind={address}"])

    def __enter__(self):
        wait_until(lambda: listens(self.port), "socat listens")
        return self.port

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


# -- senders

SENDER = """
defaults
    mode tcp
    timeout client 20s
    timeout server 20s
    timeout connect 5s
frontend stats
    mode http
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
frontend in
    bind 127.0.0.1:{{port}}
    default_backend out
backend out
    server one 127.0.0.1:{ours} {how}
"""
HOWS = ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy-v2-ssl-cn"]


@pytest.mark.parametrize("how", HOWS)
def test_haproxy_says_who_its_clients_are(proxy, service, tmp_path, how):
    program = proxy(targets=[service(greeting=b"hi")], accept_proxy=FROM_HERE)
    program.uncounted = None
    text = SENDER.format(ours=program.port, stats=free_port(), how=how)
    with running(haproxy(tmp_path, text)) as sender, connect(sender.port, source="127.0.0.9") as client:
        client.send(b"hello").expect(b"hi")
        mine = client.address
    record = next(iter(wait_for_records(program, mine)))
    assert record["peer"].startswith("127.0.0.1:")
    assert record["bytes_up"] == 5


def wait_for_records(program, client):
    found = []

    def there():
        found[:] = [record for record in program.records_now() if record["client"] == client]
        return found

    wait_until(there, lambda: f"a record of {client}: {program.records_now()}")
    return found


@pytest.mark.parametrize("how", ["send-proxy-v2", "send-proxy-v2-ssl"])
def test_a_check_of_haproxys_is_no_session_and_finds_us_up(proxy, service, tmp_path, how):
    program = proxy(targets=[service(greeting=b"hi")], accept_proxy=FROM_HERE)
    program.uncounted = None
    stats = free_port()
    text = SENDER.format(ours=program.port, stats=stats, how=f"{how} check inter 50ms")
    with running(haproxy(tmp_path, text)) as sender:
        wait_until(lambda: status_of(stats) == ("UP", "L4OK"), lambda: f"{status_of(stats)}")
        with connect(sender.port) as client:
            client.send(b"hello").expect(b"hi")
            mine = client.address
        wait_for_records(program, mine)
        assert status_of(stats) == ("UP", "L4OK")
    assert all(record["peer"] for record in program.records_now()), "a check's own address is its peer's"


@pytest.mark.parametrize("how", ["send-proxy-v2", "send-proxy"])
def test_a_check_of_haproxys_that_asks_is_answered(http, service, tmp_path, how):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    program = http(service(answer=lambda _data: answer), accept_proxy=FROM_HERE)
    program.uncounted = None
    stats = free_port()
    how = f"{how} check inter 50ms\n    option httpchk GET /\n    http-check send hdr Host a"
    with running(haproxy(tmp_path, SENDER.format(ours=program.port, stats=stats, how=how))):
        wait_until(lambda: status_of(stats) == ("UP", "L7OK"), lambda: f"{status_of(stats)}")


def status_of(port):
    """What HAProxy thinks of its server, and why."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/;csv", timeout=20) as answer:
        head, *rows = answer.read().decode().removeprefix("# ").splitlines()
    row = dict(zip(head.split(","), next(row for row in rows if row.startswith("out,one")).split(","), strict=False))
    return row["status"], row["check_status"].strip("* ")


def test_nginx_stream_says_who_its_clients_are(proxy, service, tmp_path):
    program = proxy(targets=[service(greeting=b"hi")], accept_proxy=FROM_HERE)
    program.uncounted = None
    port = free_port()
    stream = f"server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{program.port}; proxy_protocol on; }}"
    with running(nginx(tmp_path, stream)), connect(port, source="127.0.0.9") as client:
        client.send(b"hello").expect(b"hi")
        mine = client.address
    (record,) = wait_for_records(program, mine)
    assert record["bytes_up"] == 5


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_curl_sends_its_header_in_a_segment_of_its_own(proxy, service, mode):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    program = proxy(targets=[service(answer=lambda _data: answer)], accept_proxy=FROM_HERE, mode=mode)
    program.uncounted = None
    assert run("curl", "-sS", "--haproxy-protocol", f"http://127.0.0.1:{program.port}/") == "ok"
    record = program.records(1)[0]
    assert record["client"] == record["peer"], "it names its own two ends"


def test_a_client_of_haproxys_unix_socket_comes_without_an_address(proxy, service, tmp_path):
    """In version 2 as LOCAL, though it goes on as any client."""
    program = proxy(targets=[service(greeting=b"hi")], accept_proxy=FROM_HERE)
    program.uncounted = None
    for how in ("send-proxy", "send-proxy-v2"):
        text = SENDER.format(ours=program.port, stats=free_port(), how=how)
        folder = tmp_path / how
        folder.mkdir()
        path = str(folder / "s")
        text = text.replace("    default_backend out", f"    bind {path}\n    default_backend out")
        with running(haproxy(folder, text)), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            # HAProxy gives its socket its name before it listens there.
            ask = functools.partial(client.connect_ex, path)
            wait_until(lambda ask=ask: ask() == 0, "HAProxy listens at its UNIX socket")
            client.sendall(b"hello")
            assert client.recv(2) == b"hi"

    def served():  # others asked whether HAProxy listens; it may have seen them go before it connected
        return [record["peer"] for record in program.records_now() if record["bytes_up"]]

    wait_until(lambda: len(served()) == 2, lambda: f"two records: {program.records_now()}")
    assert served() == ["", ""], "their own address is HAProxy's"
