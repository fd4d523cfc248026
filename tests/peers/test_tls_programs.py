"""TLS with real programs on either side: curl, openssl, nginx, HAProxy, psql with verify-full."""

import hashlib
import json
import os
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from kit.certificates import Authority
from kit.origin import Origin
from kit.programs import haproxy, need, nginx, postgres, run
from kit.waiting import wait_until

BEHIND = """
global
    stats timeout 10s
defaults
    mode {mode}
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen l
    bind 127.0.0.1:{{port}} {bind}
    server s {server}
"""


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def issued(authority, tmp_path):
    return authority.issue("localhost", "127.0.0.1", "*.example.org").write(tmp_path)


@pytest.fixture
def ca(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(authority.pem)
    return path


@pytest.fixture
def tcp(proxy):
    """tcp(target, …, **app): the program with one app in mode tcp, whose clients are not the test's own."""

    def start(*targets, **app):
        program = proxy(targets=list(targets), **app)
        program.uncounted = None
        return program

    return start


@pytest.fixture
def web(servers, tmp_path):
    """nginx, with a file of 20 MiB."""
    server = nginx(tmp_path)
    servers.callback(server.close)
    (server.folder / "html" / "file").write_bytes(os.urandom(20 << 20))
    return server.wait_listening()


@pytest.fixture
def behind(servers, tmp_path):
    """HAProxy that ends TLS or speaks it: behind(bind=…, server=…, mode=…)."""

    def start(bind="", server="", mode="http"):
        program = haproxy(tmp_path, BEHIND.format(mode=mode, bind=bind, server=server))
        servers.callback(program.close)
        return program.wait_listening()

    return start


def curl(program, ca, path, *args, host="localhost", **how):
    where = f"{host}:{program.port}"
    resolve = ["--resolve", f"{where}:127.0.0.1"]
    return run("curl", "-sS", "--max-time", "60", "--cacert", ca, *resolve, *args, f"https://{where}{path}", **how)


def pem(issued, tmp_path):
    """One file for HAProxy."""
    path = tmp_path / "both.pem"
    path.write_text("".join(Path(issued[part]).read_text() for part in ("chain", "key")))
    return path


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_curl_gets_a_large_file(tcp, http, web, issued, ca, tmp_path, mode):
    program = (http if mode == "http" else tcp)(web, tls={"certificates": [issued]})
    for version in ("--tlsv1.3", "--tls-max 1.2"):
        curl(program, ca, "/file", "-o", tmp_path / "got", *version.split())
        assert digest(tmp_path / "got") == digest(web.folder / "html" / "file")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_a_target_of_mode_http_is_told(http, servers, authority, issued, ca, tmp_path):
    mine = authority.issue(common_name="Ann Example, 1", client=True).write(tmp_path, "ann")
    tls = {"certificates": [issued], "client_ca": str(ca), "verify": "optional"}
    program = http(servers.enter_context(Origin()), tls=tls, client_certificate=True)
    spoof = ["-H", "X-Client-Certificate-Subject: CN=admin", "-H", "X-Forwarded-Port: 1", "-H", "x_forwarded_proto: http"]
    told = dict(json.loads(curl(program, ca, "/headers", *spoof)))
    assert told["X-Forwarded-Proto"] == "https"
    assert told["X-Forwarded-Port"] == str(program.port)
    assert told["X-Client-Certificate-Verified"] == "none"
    assert "X-Client-Certificate-Subject" not in told
    assert "x_forwarded_proto" not in told
    told = dict(json.loads(curl(program, ca, "/headers", *spoof, "--cert", mine["chain"], "--key", mine["key"])))
    assert told["X-Client-Certificate-Verified"] == "success"
    assert told["X-Client-Certificate-Subject"] == "CN=Ann Example, 1"
    assert len(told["X-Client-Certificate-Fingerprint"]) == 64


def test_kept_connections_and_bodies_up(http, servers, issued, ca):
    program = http(servers.enter_context(Origin()), tls={"certificates": [issued]})
    url = f"https://127.0.0.1:{program.port}/echo"
    again = ["--next", "-sS", "--cacert", ca, "-d", "two"]
    said = curl(program, ca, "/echo", "-d", "x" * 100_000, url, *again, host="127.0.0.1")
    assert said == "x" * 100_000 + "two"


def test_targets_with_tls(http, web, behind, issued, ca, tmp_path):
    """HAProxy ends it, for nginx."""
    server = behind(bind=f"ssl crt {pem(issued, tmp_path)} alpn http/1.1", server=web.address)
    target = {"address": f"127.0.0.1:{server.port}", "tls": {"ca": str(ca), "server_name": "www.example.org"}}
    program = http(target)
    run("curl", "-sS", "-o", tmp_path / "got", f"http://127.0.0.1:{program.port}/file")
    assert digest(tmp_path / "got") == digest(web.folder / "html" / "file")


def test_tls_on_both_sides_in_mode_tcp(tcp, web, behind, issued, ca, tmp_path):
    server = behind(bind=f"ssl crt {pem(issued, tmp_path)}", server=web.address)
    target = {"address": f"127.0.0.1:{server.port}", "tls": {"ca": str(ca)}}
    program = tcp(target, tls={"certificates": [issued]})
    curl(program, ca, "/file", "-o", tmp_path / "got")
    assert digest(tmp_path / "got") == digest(web.folder / "html" / "file")
    assert program.record()["reason"] == "done"


def test_a_target_with_another_certificate_is_no_target(http, web, behind, issued, ca, tmp_path):
    server = behind(bind=f"ssl crt {pem(issued, tmp_path)}", server=web.address)
    wrong = {"address": f"127.0.0.1:{server.port}", "tls": {"ca": str(ca), "server_name": "other.example.com"}}
    right = {"address": f"localhost:{server.port}", "tls": {"ca": str(ca)}}
    program = http(wrong, right)
    for _ in range(4):
        assert run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{program.port}/hello") == "200"


def test_haproxy_before_us(tcp, web, behind, issued, ca):
    program = tcp(web, tls={"certificates": [issued]})
    verify = f"ssl verify required ca-file {ca} verifyhost localhost sni str(localhost)"
    before = behind(server=f"127.0.0.1:{program.port} {verify}")
    for _ in range(3):
        assert run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://{before.address}/hello") == "200"


def test_openssl_gets_its_certificate_by_name_and_the_end(tcp, service, authority, tmp_path, ca):
    one, two = (authority.issue(f"{name}.example.org").write(tmp_path, name) for name in ("one", "two"))
    program = tcp(service(greeting=b"HELLO\n", hang_up=True), tls={"certificates": [one, two]})
    for name in ("one", "two"):
        flags = ["-connect", f"127.0.0.1:{program.port}", "-servername", f"{name}.example.org", "-CAfile", str(ca)]
        verified = ["-verify_return_error", "-verify_hostname", f"{name}.example.org"]
        done = subprocess.run(
            [need("openssl"), "s_client", *flags, "-quiet", *verified],
            input=b"",
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.stdout == b"HELLO\n", done.stderr


def test_sessions_are_resumed_at_any_worker(tcp, service, issued, ca, tmp_path):
    program = tcp(service(greeting=b"hi", hang_up=True), top={"workers": 2}, tls={"certificates": [issued]})
    flags = ["-connect", f"127.0.0.1:{program.port}", "-CAfile", str(ca), "-tls1_2"]
    ticket = tmp_path / "ticket"
    run("openssl", "s_client", *flags, "-sess_out", ticket)
    said = [run("openssl", "s_client", *flags, "-sess_in", ticket) for _ in range(8)]
    assert all("Reused, TLSv1.2" in each for each in said)


def test_psql_with_verify_full(tcp, servers, issued, ca, tmp_path):
    """PostgreSQL asks for TLS in a language of its own: it passes through."""
    database = postgres(tmp_path)
    servers.callback(database.close)
    database.wait_listening()
    folder = database.folder / "data"
    for name, path in (("server.crt", issued["chain"]), ("server.key", issued["key"])):
        (folder / name).write_bytes(Path(path).read_bytes())
        owner = os.stat(folder)
        os.chown(folder / name, owner.st_uid, owner.st_gid)
        os.chmod(folder / name, 0o600)
    psql = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-p"]
    run(*psql, database.port, "-c", "alter system set ssl = on", "-c", "select pg_reload_conf()")
    program = tcp(database)
    wanted = f"host=localhost hostaddr=127.0.0.1 port={program.port} user=postgres sslmode=verify-full sslrootcert={ca}"
    query = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"

    def has_tls():
        done = subprocess.run([need("psql"), wanted, "-Atc", query], capture_output=True, timeout=30, check=False, text=True)
        return done.stdout == "t|TLSv1.3\n"

    wait_until(has_tls, "no TLS")


def test_names_that_pass_through_beside_names_that_are_ended(tcp, web, behind, authority, issued, ca, tmp_path):
    """The one that passes has a certificate that the proxy does not know."""
    own = authority.issue("there.example.com").write(tmp_path, "there")
    there = behind(bind=f"ssl crt {pem(own, tmp_path)}", server=web.address)
    program = tcp(
        {"name": "here", "address": web.address},
        {"name": "there", "address": f"127.0.0.1:{there.port}"},
        tls={"certificates": [issued]},
        routes=[
            {"sni": "there.example.com", "passthrough": True, "targets": ["there"]},
            {"sni": ["*.example.org"], "targets": ["here"]},
        ],
    )
    for host in ("there.example.com", "www.example.org"):
        assert curl(program, ca, "/hello", "-o", "/dev/null", "-w", "%{http_code}", host=host) == "200"
    with socket.create_connection(("127.0.0.1", program.port)) as raw:
        context = ssl.create_default_context(cafile=str(ca))
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            context.wrap_socket(raw, server_hostname="other.example.com")
    records = {record["reason"]: record for record in program.records(3)}  # a session may end after a later one
    assert records["tls_handshake"]["error"] == "no route is for the name other.example.com"


def test_plain_http_at_a_port_with_tls(tcp, web, issued):
    program = tcp(web, tls={"certificates": [issued]})
    done = subprocess.run([need("curl"), "-sS", f"http://127.0.0.1:{program.port}/"], capture_output=True, check=False)
    assert done.returncode in (52, 56)
    assert program.record()["error"] == "no TLS: http request"
