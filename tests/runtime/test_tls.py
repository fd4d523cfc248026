"""Contexts from values: real handshakes in memory, and openssl s_client."""

import dataclasses
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys

import pytest

from kit.certificates import Authority, pem_of
from kit.programs import need
from tcp_proxy.config.tls_model import Certificate, PemFile, TargetTls, Tls
from tcp_proxy.runtime.tls import TlsServer, _ticket_key, client_context, fault

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root():
    return Authority("root")


def value(issued, *names, algorithm="EC secp256r1"):
    return Certificate("f", "", "", issued.chain, pem_of(issued.key), names, algorithm=algorithm)


@pytest.fixture(scope="module")
def certificates(root):
    """By name, for a.org, *.a.org and b.org."""
    return {name: value(root.below().issue(name), name) for name in ("a.org", "*.a.org", "b.org")}


@pytest.fixture(scope="module")
def tls(certificates):
    return Tls(tuple(certificates.values()))


class Pair:
    """A client and a server that hear each other."""

    def __init__(self, server, client, name):
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(down, up, server_hostname=name)
        self.server = server.context.wrap_bio(up, down, server_side=True)

    def shake(self):
        """Raises what the client says, or else the server."""
        errors = {}
        for _ in range(5):
            for end in (self.client, self.server):
                try:
                    if end not in errors:
                        end.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    errors[end] = error
        for error in (errors.get(self.client), errors.get(self.server)):
            if error is not None:
                raise error
        self.server.write(b"hello")
        assert self.client.read(5) == b"hello"
        return self

    def name(self):
        """Of the certificate that the client was shown."""
        return self.client.getpeercert()["subjectAltName"][0][1]


def trusting(root, **more):
    return client_context(TargetTls(ca=PemFile("ca", root.pem), **more))


@pytest.mark.parametrize(
    ("asked", "shown"), [("a.org", "a.org"), ("x.a.org", "*.a.org"), ("b.org", "b.org"), ("B.ORG", "b.org")]
)
def test_the_certificate_is_chosen_by_name(root, tls, asked, shown):
    assert Pair(TlsServer(tls), trusting(root), asked).shake().name() == shown


@pytest.mark.parametrize("asked", ["c.org", "y.x.a.org", None])
def test_a_name_that_none_has_gets_the_first_or_is_refused(root, tls, asked):
    client = client_context(TargetTls(verify=False))
    assert Pair(TlsServer(tls), client, asked).shake().server.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        Pair(TlsServer(dataclasses.replace(tls, strict_sni=True)), client, asked).shake()


def test_one_certificate_may_be_strict_too(certificates):
    server = TlsServer(Tls((certificates["a.org"],), strict_sni=True))
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        Pair(server, client_context(TargetTls(verify=False)), "b.org").shake()


def test_two_kinds_of_keys_for_one_name_are_one_context(root, certificates):
    rsa = value(root.issue("a.org", key="2048"), "a.org", algorithm="RSA 2048")
    server = TlsServer(Tls((certificates["a.org"], rsa, certificates["b.org"])))
    assert len(server.contexts) == 2
    client = trusting(root)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    for ciphers, is_rsa in (("ECDHE-RSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-AES256-GCM-SHA384", False)):
        client.set_ciphers(ciphers)
        found = Pair(server, client, "a.org").shake().client.getpeercert(True)
        assert (found == ssl.PEM_cert_to_DER_cert(rsa.chain)) == is_rsa


def test_no_version_below_the_least(root, tls):
    client = trusting(root)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Pair(TlsServer(tls), client, "a.org").shake().client.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        Pair(TlsServer(dataclasses.replace(tls, min_version="1.3")), client, "a.org").shake()


def test_every_cipher_has_forward_secrecy_and_aead(tls):
    for cipher in TlsServer(tls).context.get_ciphers():
        assert cipher["aead"], cipher
        assert cipher["kea"] in ("kx-any", "kx-ecdhe"), cipher


def test_an_end_without_notice_is_an_error(root, tls):
    pair = Pair(TlsServer(tls), trusting(root), "a.org").shake()
    assert not pair.server.context.options & ssl.OP_IGNORE_UNEXPECTED_EOF
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(root).wrap_bio(incoming, outgoing, server_hostname="a.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write_eof()
    with pytest.raises(ssl.SSLError, match="UNEXPECTED_EOF"):  # SSLEOFError only since Python 3.11.3
        client.do_handshake()


def test_alpn(root, tls):
    server = TlsServer(dataclasses.replace(tls, alpn=("http/1.1", "x")))
    for offered, chosen in ((("x", "http/1.1"), "http/1.1"), (("x",), "x"), (("h2",), None), ((), None)):
        pair = Pair(server, trusting(root, alpn=offered), "b.org").shake()
        assert pair.server.selected_alpn_protocol() == pair.client.selected_alpn_protocol() == chosen


def test_a_target_is_who_it_is_said_to_be(root, tls):
    with pytest.raises(ssl.SSLCertVerificationError) as refusal:
        Pair(TlsServer(tls), trusting(root), "c.org").shake()
    assert fault(refusal.value).startswith("certificate verify failed: Hostname mismatch")
    with pytest.raises(ssl.SSLCertVerificationError) as refusal:
        Pair(TlsServer(tls), trusting(Authority("other")), "a.org").shake()
    assert fault(refusal.value) == "certificate verify failed: unable to get local issuer certificate"
    with pytest.raises(ssl.SSLCertVerificationError):
        Pair(TlsServer(tls), client_context(TargetTls()), "a.org").shake()
    assert Pair(TlsServer(tls), client_context(TargetTls(verify=False)), "c.org").shake()


# -- certificates of clients


@pytest.fixture(scope="module")
def asking(tls, root):
    return dataclasses.replace(tls, verify="required", client_ca=PemFile("ca", root.pem))


def test_a_client_shows_its_certificate(root, asking):
    mine = value(root.issue("me", client=True))
    pair = Pair(TlsServer(asking), trusting(root, certificate=mine), "b.org").shake()
    assert pair.server.getpeercert()["subject"][0][0] == ("commonName", "me")


@pytest.mark.parametrize("asked", ["a.org", "b.org"])
def test_a_client_without_one_or_with_a_wrong_one_is_refused(root, asking, asked):
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Pair(TlsServer(asking), trusting(root), asked).shake()
    wrong = value(Authority("other").issue("me", client=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        Pair(TlsServer(asking), trusting(root, certificate=wrong), asked).shake()
    optional = TlsServer(dataclasses.replace(asking, verify="optional"))
    assert Pair(optional, trusting(root), asked).shake().server.getpeercert() is None
    with pytest.raises(ssl.SSLCertVerificationError):
        Pair(optional, trusting(root, certificate=wrong), asked).shake()


def test_a_client_is_told_who_may_sign_its_certificate(asking):
    server = TlsServer(dataclasses.replace(asking, verify="optional"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        argv = ("s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-servername", "a.org")
        client = subprocess.Popen([need("openssl"), *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        sock, _ = listener.accept()
        with server.context.wrap_socket(sock, server_side=True) as tls:
            assert tls.recv(1) == b""
        text, _ = client.communicate(timeout=20)
    assert "Acceptable client certificate CA names\nCN = root\n" in text


def test_a_revoked_one_is_refused(root, asking):
    good, bad = root.issue("good", client=True), root.issue("bad", client=True)
    server = TlsServer(dataclasses.replace(asking, crl=PemFile("crl", root.revoke(bad))))
    assert Pair(server, trusting(root, certificate=value(good)), "a.org").shake()
    with pytest.raises(ssl.SSLCertVerificationError) as refusal:
        Pair(server, trusting(root, certificate=value(bad)), "a.org").shake()
    assert fault(refusal.value) == "certificate verify failed: certificate revoked"


# -- session tickets

SERVER = """
import json, ssl, sys
from tcp_proxy.config.tls_model import Certificate, Tls
from tcp_proxy.runtime.tls import TlsServer

said = json.loads(sys.stdin.readline())
certificates = tuple(Certificate("f", "", "", *one, algorithm="EC x") for one in said["certificates"])
tls = Tls(certificates, **said["more"])
server = TlsServer(tls)
if said["key"]:
    assert server.set_ticket_key(bytes.fromhex(said["key"]), said["app"])
up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
end = server.context.wrap_bio(up, down, server_side=True)
for line in sys.stdin:
    up.write(bytes.fromhex(line))
    try:
        end.do_handshake()
        end.write(b"hello")
    except ssl.SSLWantReadError:
        pass
    print(down.read().hex(), end.session_reused, flush=True)
"""


class Elsewhere:
    """A server in a process of its own."""

    def __init__(self, tls, key, app="a", **more):
        argv = [sys.executable, "-c", SERVER]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        certificates = [(one.chain, one.key, one.names) for one in tls.certificates]
        self.say(json.dumps({"certificates": certificates, "key": key, "app": app, "more": more}))

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def serve(self, client, name, session=None):
        """(session, whether the server has known it)."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = client.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        reused = ""
        with self.process:
            for _ in range(5):
                try:
                    end.do_handshake()
                    if end.read(5) == b"hello":
                        return end.session, reused == "True"
                except ssl.SSLWantReadError:
                    self.say(outgoing.read().hex())
                data, reused = self.process.stdout.readline().split()
                incoming.write(bytes.fromhex(data))
            raise AssertionError("no end of the handshake")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["a.org", "b.org"])
def test_a_session_of_one_process_is_taken_up_by_another(root, tls, version, name):
    client, key = trusting(root), "17" * 64
    client.maximum_version = version
    session, was_known = Elsewhere(tls, key).serve(client, name)
    assert not was_known
    assert Elsewhere(tls, key).serve(client, name, session)[1]
    assert not Elsewhere(tls, "18" * 64).serve(client, name, session)[1]
    assert not Elsewhere(tls, "").serve(client, name, session)[1]


def test_a_session_of_another_app_is_not_taken_up(root, tls):
    """It may have asked for less: no certificate of the client, for instance."""
    client, key = trusting(root), "17" * 64
    session, _ = Elsewhere(tls, key).serve(client, "a.org")
    assert not Elsewhere(tls, key, app="b").serve(client, "a.org", session)[1]
    assert not Elsewhere(tls, key, min_version="1.3").serve(client, "a.org", session)[1]


def test_keys_of_tickets_differ_by_what_is_asked_of_a_client(tls, root):
    asked = [
        tls, dataclasses.replace(tls, verify="optional"), dataclasses.replace(tls, verify="required"),
        dataclasses.replace(tls, client_ca=PemFile("x", "A")), dataclasses.replace(tls, client_ca=PemFile("x", "B")),
        dataclasses.replace(tls, crl=PemFile("x", "A")),
    ]  # fmt: skip
    keys = {_ticket_key(bytes(64), app, one) for one in asked for app in ("a", "b")}
    assert len(keys) == 12
    assert {len(key) for key in keys} == {80}


def test_a_new_connection_of_tls_1_3_has_one_ticket(root, tls):
    pair = Pair(TlsServer(tls), trusting(root), "a.org").shake()
    assert pair.server.context.num_tickets == 1


def test_no_tickets(root, tls):
    server = TlsServer(dataclasses.replace(tls, tickets=False))
    assert server.set_ticket_key(bytes(64), "a")
    client = trusting(root)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not Pair(server, client, "a.org").shake().client.session.has_ticket
    assert not Pair(server, trusting(root), "a.org").shake().client.session.has_ticket


def test_without_tickets_no_session_is_taken_up_by_its_number(root, tls):
    """OpenSSL would remember it, once it has ended well."""
    server, client = TlsServer(dataclasses.replace(tls, tickets=False)), trusting(root)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Pair(server, client, "a.org").shake()
    with pytest.raises(ssl.SSLWantReadError):
        first.server.unwrap()
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = Pair(server, client, "a.org")
    again.client = client.wrap_bio(down, up, server_hostname="a.org", session=first.client.session)
    again.server = server.context.wrap_bio(up, down, server_side=True)
    assert not again.shake().client.session_reused


def test_ciphers_of_tls_1_3(root, tls):
    server = TlsServer(dataclasses.replace(tls, ciphersuites=("TLS_AES_128_GCM_SHA256",)))
    assert Pair(server, trusting(root), "b.org").shake().client.cipher()[0] == "TLS_AES_128_GCM_SHA256"


def test_no_descriptor_is_left(tls):
    before = os.listdir("/proc/self/fd")
    TlsServer(tls)
    assert os.listdir("/proc/self/fd") == before


def test_other_errors_are_not_of_tls():
    assert fault(ConnectionResetError()) == ""
