"""What is told of a client's TLS: in every state of its connection, and of none."""

import socket
import ssl
from contextlib import ExitStack, suppress

import pytest

from tcp_proxy.config.tls_model import PemFile, Tls
from tcp_proxy.dataplane.relay.tls_socket import TlsSocket
from tcp_proxy.dataplane.tls_told import subject, told
from tcp_proxy.runtime.tls import TlsServer
from tests.dataplane.tls import TlsPeer, authority, certificate, client_context, loaded, shake


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


def ends(stack, name="localhost", context=None, **keys):
    """(peer, ours) before their handshake."""
    near, far = socket.socketpair()
    server = TlsServer(Tls((certificate("localhost", "a.example"),), **keys))
    stack.callback(lambda: server)  # which must live as long as its connections
    peer = TlsPeer(near, context or client_context(), False, name)
    ours = TlsSocket(far, server.context, True)
    for end in (peer, ours):
        end.setblocking(False)
        stack.callback(end.close)
    return peer, ours


def test_without_tls_nothing_is_told():
    with socket.socket() as plain:
        assert told(plain) == ()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_of_a_session(stack, version):
    context = client_context()
    context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    peer, ours = ends(stack, "a.example", context)
    assert told(ours) == ()
    shake(peer, ours)
    assert told(ours) == (version, peer.stream.cipher()[0], False, "a.example", "")


def test_of_a_client_with_a_certificate(stack):
    context = client_context()
    loaded(context, authority().issue(common_name="client", client=True))
    keys = {"verify": "required", "client_ca": PemFile("", authority().pem)}
    peer, ours = ends(stack, context=context, **keys)
    shake(peer, ours)
    assert told(ours)[-1] == "CN=client"


def test_after_a_fault_all_is_known_that_was_known_but_for_the_certificate(stack):
    peer, ours = ends(stack)
    shake(peer, ours)
    before = told(ours)
    peer.raw.send(b"no record")
    with pytest.raises(OSError, match="version"):
        ours.recv(1)
    assert told(ours) == before


def test_of_a_handshake_that_fails_the_name_is_known(stack):
    peer, ours = ends(stack, "b.example", strict_sni=True)
    with suppress(BlockingIOError):
        peer.handshake()
    with pytest.raises(OSError, match=r"callback|unrecognized"):
        ours.handshake()
    assert told(ours) == ("", "", False, "b.example", "")


def test_a_subject_has_the_short_names_that_people_know():
    found = {"subject": ((("countryName", "DE"), ("organizationName", "A")), (("commonName", "c"), ("serialNumber", "1")))}
    assert subject(found) == "CN=c,serialNumber=1,C=DE,O=A"
    assert subject({}) == ""
