"""Certificates of a running program, seen by clients: renewed under load, tried with openssl, refused in one line."""

import json
import signal
import socket
import ssl
import threading

import pytest

from kit import programs
from kit.certificates import Authority
from kit.ports import free_port
from kit.proxy import run_to_end

RENEWED = r"app app: the certificate in \S+/server\.pem is renewed"


@pytest.fixture(scope="module")
def root():
    return Authority()


@pytest.fixture
def said(root, tmp_path):
    return root.issue("a.org").write(tmp_path)


@pytest.fixture
def start(proxy, service, said):
    """start(**tls): a program of two workers that speaks TLS with the clients of an echo."""

    def started(**tls):
        echo = f"127.0.0.1:{service().port}"
        app = {"name": "app", "ports": [free_port()], "targets": [echo], "health": []}
        program = proxy({"apps": [{**app, "tls": {"certificates": [said], **tls}}], "workers": 2})
        program.uncounted = None
        return program

    return started


def trusting(root, version=ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cadata=root.pem)
    context.maximum_version = version
    return context


class Visit:
    """Says something over TLS and hears it again."""

    def __init__(self, program, context, session=None):
        with socket.socket() as sock:
            sock.settimeout(20)
            sock.connect(("127.0.0.1", program.port))
            with context.wrap_socket(sock, server_hostname="a.org", session=session) as tls:
                tls.sendall(b"hello")
                assert tls.recv(5) == b"hello"
                self.session, self.was_known, self.shown = tls.session, tls.session_reused, tls.getpeercert(True)


def der(issued):
    return ssl.PEM_cert_to_DER_cert(issued.pem)


class Visitors:
    """Threads that come again and again, until the block ends; `shown` is the certificates that they saw."""

    def __init__(self, program, root, count=4):
        self.program, self.root, self.shown, self.errors, self.visits = program, root, set(), [], 0
        self.is_over = threading.Event()
        self.seen = threading.Condition()
        self.threads = [threading.Thread(target=self.come, name=f"visitor-{n}") for n in range(count)]

    def come(self):
        context = trusting(self.root)
        while not self.is_over.is_set():
            try:
                shown = Visit(self.program, context).shown
            except (OSError, AssertionError) as error:
                self.errors.append(error)
                return
            with self.seen:
                self.visits += 1
                self.shown.add(shown)
                self.seen.notify_all()

    def wait_for(self, issued):
        with self.seen:
            assert self.seen.wait_for(lambda: der(issued) in self.shown or self.errors, 30), "nobody was shown it"

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def test_a_renewal_under_load_fails_no_handshake(root, start, tmp_path):
    program = start()
    with Visitors(program, root) as visitors:
        for _ in range(3):
            renewed = root.issue("a.org")
            since = len(program.lines)
            renewed.write(tmp_path)
            program.wait_log(RENEWED, since=since)
            visitors.wait_for(renewed)
    assert visitors.errors == []
    assert len(visitors.shown) == 4
    assert visitors.visits > 20


def test_a_connection_outlives_the_certificate_it_began_with(root, start, tmp_path):
    program = start()
    sock = socket.create_connection(("127.0.0.1", program.port), 20)
    with trusting(root).wrap_socket(sock, server_hostname="a.org") as tls:
        renewed = root.issue("a.org")
        renewed.write(tmp_path)
        program.wait_log(RENEWED)
        tls.sendall(b"hello")
        assert tls.recv(5) == b"hello"
        assert tls.getpeercert(True) != der(renewed)
    assert Visit(program, trusting(root)).shown == der(renewed)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_taken_up_by_every_worker_and_after_a_reload_and_a_renewal(root, start, tmp_path, version):
    program, context = start(), trusting(root, version)
    session = Visit(program, context).session
    known = [Visit(program, context, session).was_known for _ in range(12)]
    assert all(known), "with a key for each worker about half of them would be"
    path = next(program.folder.glob("config-*.json"))
    program.config["apps"][0]["retries"] = 7
    path.write_text(json.dumps(program.config))
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: done")
    root.issue("a.org").write(tmp_path)
    program.wait_log(RENEWED)
    assert all(Visit(program, context, session).was_known for _ in range(6))


def test_without_tickets_nothing_is_taken_up(root, start):
    program, context = start(tickets=False), trusting(root, ssl.TLSVersion.TLSv1_2)
    session = Visit(program, context).session
    assert not any(Visit(program, context, session).was_known for _ in range(4))


# -- openssl s_client, as who audits a server does it


def s_client(program, *arguments, status=0):
    return programs.run(
        "openssl", "s_client", "-connect", f"127.0.0.1:{program.port}", "-servername", "a.org", *arguments, status=status
    )


def test_what_is_spoken(start):
    program = start()
    for arguments, spoken in (
        (("-tls1_3",), "TLSv1.3"),
        (("-tls1_2",), "TLSv1.2"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "ECDHE-ECDSA-AES128-GCM-SHA256"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ):
        text = s_client(program, *arguments)
        assert spoken in text
        assert "Secure Renegotiation IS supported" in text or spoken == "TLSv1.3"
        assert "Compression: NONE" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE+SHA1:ECDHE+SHA256:ECDHE+SHA384:@SECLEVEL=0"),  # CBC, all of them
        ("-tls1_2", "-cipher", "kRSA:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "kDHE:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE+CCM:ECDHE+AESCCM8:@SECLEVEL=0"),
    ],
)
def test_what_is_not_spoken(start, arguments):
    """No TLS below 1.2, no CBC, nothing without forward secrecy or without a certificate."""
    program = start()
    if "ECDHE+SHA1" in arguments[-1]:
        listed = programs.run("openssl", "ciphers", "-tls1_2", "-s", arguments[-1]).strip().split(":")
        arguments = (*arguments[:2], ":".join(name for name in listed if "GCM" not in name and "POLY" not in name))
    assert "Cipher is (NONE)" in s_client(program, *arguments, status=1)


# -- errors, each in one line


@pytest.fixture
def check(tmp_path):
    """check(app, …): (exit status, lines of stdout and stderr) of --check, with apps that need not say everything."""

    def checked(tls, *more):
        app = {"name": "app", "ports": [free_port()], "targets": ["127.0.0.1:1"], "tls": tls}
        (tmp_path / "config.json").write_text(json.dumps({"apps": [app]}))
        done = run_to_end("--check", "config.json", *more, cwd=tmp_path)
        return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()

    return checked


def test_check_reads_the_certificates(check, root, said, tmp_path):
    assert check({"certificates": [said]})[0] == 0
    (tmp_path / "server.key").write_text("nothing")
    status, _, errors = check({"certificates": [said]})
    assert (status, len(errors)) == (2, 1)
    assert errors[0].startswith("config.json:1:")
    assert f'$.apps[0].tls.certificates[0].key: "{tmp_path}/server.key": there is no private key in it' in errors[0]
    short = root.issue("a.org", key="1024").write(tmp_path)
    status, _, errors = check({"certificates": [short]})
    assert (status, errors) == (
        2, [f"config.json: $.apps[0].tls.certificates[0]: {tmp_path}/server.pem: OpenSSL says: ee key too small"],
    )  # fmt: skip


def test_an_expired_certificate_is_a_warning(check, root, start, said, tmp_path):
    root.issue("a.org", before=9, days=-1).write(tmp_path)
    status, _, errors = check({"certificates": [said]})
    assert status == 0
    assert [line.partition(", at ")[0] for line in errors] == [
        f"config.json: app app: the certificate in {tmp_path}/server.pem has expired"
    ]
    program = start()
    program.wait_log(r"app app: the certificate in \S+/server\.pem has expired, at ")
    assert program.count_log("has expired") == 1


def test_a_list_that_is_over_is_a_warning(check, root, said, start, tmp_path):
    (tmp_path / "ca.pem").write_text(root.pem)
    crl = tmp_path / "crl.pem"
    crl.write_text(root.revoke(days=-2))
    keys = {"client_ca": str(tmp_path / "ca.pem"), "verify": "optional", "crl": str(crl)}
    status, _, errors = check({"certificates": [said], **keys})
    text = f"app app: the list of revoked certificates in {crl} is over its time since "
    assert status == 0
    assert [line.partition("since ")[0] + "since " for line in errors] == [f"config.json: {text}"]
    program = start(**keys)
    program.wait_log(text)


def test_a_start_with_a_wrong_password_is_2_and_one_line(root, tmp_path):
    wrong = root.issue("a.org").write(tmp_path, password="open sesame")
    (tmp_path / "server.password").write_text("wrong")
    app = {"name": "app", "ports": [free_port()], "targets": ["127.0.0.1:1"], "tls": {"certificates": [wrong]}}
    (tmp_path / "config.json").write_text(json.dumps({"apps": [app]}))
    done = run_to_end("config.json", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(f'.password_file: "{tmp_path}/server.password": the password is wrong, or the key is damaged')
