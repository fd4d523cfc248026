"""Targets that are spoken to over TLS: a handshake is a part of the dial, what is wrong with it is a failed connect, and no
byte of the client is sent before it is over."""

import os
import socket
import ssl

import pytest
from dataplane.house import House, reset
from dataplane.tls import TlsPeer, authority, client_context, contexts, loaded, server_context, tls_pair

from kit.certificates import Authority
from tcp_proxy.config import tls_model
from tcp_proxy.config.model import SendProxy, Timeouts
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.target_tls import TargetTls
from tcp_proxy.dataplane.target_tls import contexts as made_contexts
from tcp_proxy.wire.views import AppView, TargetView


class TlsHouse(House):
    """Its targets speak TLS: all, or those that are named."""

    def __init__(self, name="localhost", context=None, targets=1, only=None, **keys):
        super().__init__(targets=targets, **keys)
        for target in self.app.targets.values():
            if only is None or target.name in only:
                target.tls = TargetTls(context or client_context(), ((0, name),))
                target.change("up", target.endpoints)
        self.said = b""

    def begin(self, data=b""):
        """A client that has said this, dialing."""
        client = self.stack.enter_context(socket.create_connection(self.listening.getsockname()))
        client.sendall(data)
        session = self.admit()
        self.turn(2)
        return client, session

    def accept(self, number=0):
        """The target's end, without TLS."""
        self.servers[number].settimeout(5)
        return self.stack.enter_context(self.servers[number].accept()[0])

    def serve(self, number=0, context=None):
        """The same with TLS, after the handshake."""
        peer = self.stack.enter_context(TlsPeer(self.accept(number), context or contexts()[0], True))
        os.set_blocking(peer.fileno(), False)
        self.until(peer.handshake)
        self.turn(3)
        return peer


def test_both_ways_and_both_ends():
    with TlsHouse() as house:
        client, session = house.begin(b"question")
        assert session.state.name == "DIALING"
        target = house.serve()
        assert house.receive(target, 8) == b"question"
        target.sendall(b"answer")
        assert house.receive(client, 6) == b"answer"
        client.shutdown(socket.SHUT_WR)
        assert house.receive(target) == b""
        assert target.is_ended
        target.sendall(b"late")
        target.shutdown(socket.SHUT_WR)
        assert house.receive(client) == b"late"
        record = house.record()
        assert (record["reason"], record["bytes_up"], record["bytes_down"], record["tried"]) == ("done", 8, 10, ())


def test_a_target_that_speaks_first_together_with_its_handshake():
    with TlsHouse(context=older()) as house:
        client, _ = house.begin()
        peer = house.stack.enter_context(TlsPeer(house.accept(), contexts()[0], True))
        os.set_blocking(peer.fileno(), False)
        house.until(peer.handshake)
        peer.sendall(b"220 ready")
        assert house.receive(client, 9) == b"220 ready"


def older():
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("other.example", "Hostname mismatch, certificate is not valid for 'other.example'."),
        ("192.0.2.1", "IP address mismatch, certificate is not valid for '192.0.2.1'."),
    ],
)
def test_a_certificate_for_another_name_is_a_failed_connect_and_the_next_is_tried(name, error):
    with TlsHouse(name, targets=2, only=["t0"]) as house:
        client, _ = house.begin(b"secret")
        wrong = TlsPeer(house.accept(), contexts()[0], True)
        with wrong:
            os.set_blocking(wrong.fileno(), False)
            house.until(lambda: _fails(wrong))
        plain = house.accept(1)
        assert house.receive(plain, 6) == b"secret"
        plain.close()
        client.close()
        assert house.record()["tried"] == (("t0", f"no TLS: certificate verify failed: {error}"),)
        assert house.asked == [("web", "t0", f"no TLS: certificate verify failed: {error}")]


def _fails(peer):
    try:
        if peer.handshake():
            peer.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_one_of_an_unknown_authority_is_not_accepted_even_of_the_only_target():
    with TlsHouse() as house:
        _, session = house.begin(b"secret")
        strange = loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), Authority("strange").issue("localhost"))
        for _ in range(2):
            with TlsPeer(house.accept(), strange, True) as peer:
                os.set_blocking(peer.fileno(), False)
                house.until(lambda peer=peer: _fails(peer))
            house.pass_time(0.2)
        record = house.record()
        assert record["reason"] == "connect_failed"
        assert len(record["tried"]) == 2
        assert "unable to get local issuer certificate" in record["tried"][0][1]
        assert session.upstream is None


def test_without_verify_anybody_will_do():
    context = client_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with TlsHouse("other.example", context) as house:
        house.begin(b"hello")
        assert house.receive(house.serve(), 5) == b"hello"


def test_a_target_without_tls_gets_a_hello_and_nothing_of_the_client():
    with TlsHouse() as house:
        _, session = house.begin(b"secret")
        plain = house.accept()
        got = house.receive(plain, 1)
        assert got[:1] == b"\x16"
        assert b"secret" not in got
        plain.setblocking(True)
        plain.sendall(b"220 mail.example.org ESMTP\r\n")
        house.until(lambda: session.dial is None or session.dial.tried)
        house.pass_time(0.2)
        house.accept().close()
        tried = house.record()["tried"]
        assert tried[0] == ("t0", "no TLS: wrong version number")
        assert tried[1][1] in ("no TLS: ended in its handshake", "ECONNRESET")


def test_a_target_that_is_silent_in_its_handshake_has_the_time_of_a_connect():
    with TlsHouse(timeouts=Timeouts(connect=3.0), targets=2) as house:
        client, _ = house.begin(b"hello")
        house.accept()
        house.pass_time(3.2)
        peer = house.serve(1)
        assert house.receive(peer, 5) == b"hello"
        reset(client)
        assert house.record()["tried"] == (("t0", "ETIMEDOUT"),)


def test_a_client_that_goes_meanwhile_takes_its_connection_along():
    with TlsHouse() as house:
        client, _ = house.begin()
        target = house.accept()
        reset(client)
        assert house.record()["reason"] == "client_gone"
        house.turn(2)
        target.settimeout(5)
        while target.recv(1 << 16):
            pass


def test_sessions_are_taken_up_again():
    context = server_context()
    with TlsHouse() as house:
        reused = []
        for _ in range(3):
            client, _ = house.begin(b"hello")
            target = house.serve(context=context)
            reused.append(target.stream.session_reused)
            target.sendall(b"x")  # with it comes the ticket
            target.shutdown(socket.SHUT_WR)
            assert house.receive(client) == b"x"
            client.close()
            house.until(lambda: not house.thread.members)
            house.turn(2)
        assert reused == [False, True, True]


def test_a_target_that_asks_who_we_are():
    asking = server_context()
    asking.load_verify_locations(cadata=authority().pem)
    asking.verify_mode = ssl.CERT_REQUIRED
    ours = loaded(client_context(), authority().issue("proxy", client=True))
    with TlsHouse(context=ours) as house:
        house.begin(b"hello")
        target = house.serve(context=asking)
        assert house.receive(target, 5) == b"hello"
        assert target.stream.getpeercert()["subject"] == ((("commonName", "proxy"),),)


def test_a_target_that_ends_without_saying_so_is_a_reset_for_the_client():
    with TlsHouse() as house:
        client, _ = house.begin()
        target = house.serve()
        target.sendall(b"half")
        assert house.receive(client, 4) == b"half"
        target.raw.shutdown(socket.SHUT_WR)
        record = house.record()
        assert (record["reason"], record["ended_by"], record["bytes_down"]) == ("tls_truncated", "target", 4)
        client.setblocking(True)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_tls_on_both_sides_and_much_of_it_by_a_relay_thread():
    data = os.urandom(1 << 20) * 40
    with TlsHouse(relays=True) as house:
        near = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        accepted, address = house.listening.accept()
        client, ours = tls_pair(near, accepted)
        house.stack.callback(client.close)
        session = Session(1, house.thread, house.app, house.listener, ours.tls, address)
        house.sessions.append(session)
        session.start()
        house.turn(2)
        target = house.serve()
        rest, got, threads = memoryview(data), bytearray(), set()
        while len(got) < len(data):
            try:
                while rest:
                    rest = rest[client.send(rest[:65536]) :]
            except BlockingIOError:
                pass
            if client.has_unsent:
                client.flush()
            house.turn(1)
            threads.add(session.thread.loop.name)
            try:
                got += target.recv(1 << 20)
            except BlockingIOError:
                pass
        assert bytes(got) == data
        assert "relay-0" in threads
        target.sendall(b"done")
        assert house.receive(client, 4) == b"done"
        client.shutdown(socket.SHUT_WR)
        target.shutdown(socket.SHUT_WR)
        assert house.receive(target) == b""
        assert house.receive(client) == b""
        record = house.record()
        assert (record["reason"], record["bytes_up"], record["bytes_down"]) == ("done", len(data), 4)


def test_the_proxy_header_goes_before_the_handshake_and_nothing_else_in_clear():
    with TlsHouse() as house:
        house.app.targets["t0"].send_proxy = SendProxy(1)
        client, _ = house.begin(b"secret")
        target = house.accept()
        header = f"PROXY TCP4 127.0.0.1 127.0.0.1 {client.getsockname()[1]} {client.getpeername()[1]}\r\n".encode()
        house.turn(3)
        assert target.recv(len(header)) == header
        peer = house.stack.enter_context(TlsPeer(target, contexts()[0], True))
        os.set_blocking(peer.fileno(), False)
        house.until(peer.handshake)
        assert house.receive(peer, 6) == b"secret"


def view(way=0, names=((0, "a"),), slot=8):
    return TargetView("t0", slot, 1, False, False, "up", (), tls=way, server_names=names)


def test_contexts_stay_where_the_way_is_the_same():
    one, other = tls_model.TargetTls(verify=False), tls_model.TargetTls(verify=False, alpn=("http/1.1",))
    first = made_contexts([one, other], {})
    again = made_contexts([other, one], first)
    assert again[one] is first[one]
    assert list(made_contexts([other], again)) == [other]


def test_a_reload_that_changes_nothing_of_it_keeps_the_sessions_and_one_that_does_not_keeps_none():
    with House() as house:
        app, target = house.app, house.app.targets["t0"]
        slot = target.slot

        def configure(ways, each):
            app.configure(AppView("web", app.slot, "round_robin", 3, Timeouts(), (each,), target_tls=ways))
            return app.targets["t0"].tls

        way = tls_model.TargetTls(verify=False)
        first = configure((way,), view(slot=slot))
        assert app.targets["t0"] is target
        assert configure((tls_model.TargetTls(), way), view(1, slot=slot)) is first
        assert configure((way,), view(names=((0, "b"),), slot=slot)) is not first
        assert configure((), view(-1, (), slot=slot)) is None
