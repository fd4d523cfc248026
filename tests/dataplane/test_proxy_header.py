"""The PROXY header that a target gets: of whom, with what, in one segment with the first bytes; who does not take it."""

import errno
import socket

import pytest

from tcp_proxy.config.model import SendProxy
from tcp_proxy.dataplane import dial as dial_module
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.proxy_header import header_of
from tcp_proxy.sansio import proxyproto
from tcp_proxy.sansio.address import Restored
from tcp_proxy.sansio.proxyproto import ALPN, AUTHORITY, CRC32C, HOPS, HOPS_OURS, SSL, UNIQUE_ID, read
from tests.dataplane.edge.gate import Gate
from tests.dataplane.house import House, reset
from tests.kit.proxy_headers import CLIENT, SERVER, VECTORS

V1, V2 = (VECTORS[name][0][0] for name in ("v1-tcp4", "v2-tcp4"))
DATA_SEGMENTS = slice(152, 156)  # tcpi_data_segs_in of struct tcp_info


def segments(sock):
    """How many with data have come."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)[DATA_SEGMENTS], "little")


def sending(version=1, tlvs=(), **how):
    house = House(**how)
    for target in house.app.targets.values():
        target.send_proxy = SendProxy(version, tlvs)
    return house


def all_that_came(house, server, size=1):
    """Of a target's connection, as far as it has come by now."""
    server.settimeout(5)
    house.turn(3)
    return server.recv(65536) if size else b""


@pytest.mark.parametrize("first", [b"", b"hello"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("is_near", [True, False])
def test_the_header_is_one_segment_with_the_first_bytes(version, first, is_near):
    """Also where the handshake is waited for, as with a target of another machine."""
    with sending(version) as house:
        house.app.targets["t0"].is_near = is_near
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        client.sendall(first)
        house.admit()
        house.turn(3)
        server = house.stack.enter_context(house.servers[0].accept()[0])
        data = all_that_came(house, server)
        header = read(data)
        assert (header.version, header.source, header.destination) == (version, client.getsockname(), client.getpeername())
        assert data[header.size :] == first
        assert segments(server) == 1
        client.sendall(b"more")
        assert all_that_came(house, server) == b"more"
        server.sendall(b"answer")
        assert house.receive(client, 6) == b"answer"
        server.close()


def test_a_client_that_came_by_a_proxy_is_passed_on_as_its_header_says():
    with Gate() as gate:
        gate.house.app.targets["t0"].send_proxy = SendProxy(2)
        gate.connect(V1 + b"hello")
        assert gate.house.receive(gate.target(), len(V2) + 5) == V2 + b"hello"


def test_what_it_says_beside_addresses_is_passed_on_where_it_is_asked_for():
    tlvs = [(ALPN, b"h2"), (AUTHORITY, b"a.example"), (SSL, b"\1\0\0\0\0"), (0xEA, b"\1vpce"), (UNIQUE_ID, b"theirs")]
    for wanted, passed in (((), []), (("alpn", "unique_id"), [ALPN, UNIQUE_ID]), (("authority", "ssl"), [AUTHORITY, SSL])):
        with Gate() as gate:
            gate.house.app.targets["t0"].send_proxy = SendProxy(2, wanted)
            gate.connect(proxyproto.build(2, CLIENT, SERVER, tlvs) + b"x")
            header = read(gate.target().recv(4096))
            assert [kind for kind, _ in header.tlvs] == passed
            known = dict(header.tlvs)
            assert all(known[kind] == dict(tlvs)[kind] for kind in passed if kind != UNIQUE_ID)
            assert known.get(UNIQUE_ID, b"test-1") == b"test-1", "the session's own id"


def test_a_checksum_is_right_and_a_client_without_tls_has_nothing_to_say_of_it():
    with sending(2, ("crc32c", "ssl", "authority", "alpn")) as house:
        client, server, _ = house.pair()
        header = read(all_that_came(house, server))
        assert [kind for kind, _ in header.tlvs] == [CRC32C]
        assert header.source == client.getsockname()
        server.close()


def test_an_ipv4_client_of_a_dual_stack_listener_is_one():
    client = Known(("::ffff:192.0.2.7", 1111, 0, 0), ("::ffff:192.0.2.8", 2222, 0, 0))
    assert header_of(client, SendProxy(1)) == V1
    assert header_of(client, SendProxy(2)) == V2


class Known:
    """A client, as far as a header tells of it."""

    number, thread = 1, None

    def __init__(self, address, name):
        self.address, self._name = address, name
        self.client = self

    def getsockname(self):
        return self._name


def test_the_restored_address_needs_no_socket():
    client = Known(Restored(*CLIENT, ("127.0.0.1", 1), SERVER), None)
    assert header_of(client, SendProxy(1)) == V1


# -- targets that do not take it


def test_a_header_that_is_not_taken_whole_is_a_failed_target_and_the_next_one_gets_a_whole_one(monkeypatch):
    with sending(1, targets=2) as house:
        real, calls = dial_module.header_of, []

        def first_too_long(*about):
            calls.append(1)
            return real(*about) if len(calls) > 1 else bytes(64 << 20)

        monkeypatch.setattr(dial_module, "header_of", first_too_long)
        client, _ = house.client()
        house.turn(3)
        failed = {target.name for target in house.app.targets.values() if not target.active}
        (served,) = [n for n in range(2) if f"t{n}" not in failed]
        server = house.stack.enter_context(house.servers[served].accept()[0])
        assert read(all_that_came(house, server)).source == client.getsockname()
        reset(client)
        assert house.record()["tried"] == ((next(iter(failed)), errno.errorcode[errno.EMSGSIZE]),)


@pytest.mark.parametrize("is_near", [True, False])
def test_a_target_that_refuses_is_tried_elsewhere_and_nothing_of_the_client_is_lost(is_near):
    with sending(2, targets=2) as house:
        for target in house.app.targets.values():
            target.is_near = is_near
        house.servers[0].close()
        for _ in range(2):
            client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
            client.sendall(b"hello")
            house.admit()
            house.turn(4)
            server = house.stack.enter_context(house.servers[1].accept()[0])
            data = all_that_came(house, server)
            header = read(data)
            assert (header.source, data[header.size :]) == (client.getsockname(), b"hello")


def test_a_unix_target_has_one_too():
    with sending(1, family="unix") as house:
        client, session = house.client()
        server = house.stack.enter_context(house.servers[0].accept()[0])
        assert read(all_that_came(house, server)).source == client.getsockname()
        server.close()
        del session


def test_a_target_that_was_given_up_meanwhile_gets_no_header():
    """It was connecting, and is ended from above before it is connected."""
    with sending(1) as house:
        target: LiveTarget = house.app.targets["t0"]
        target.is_near = False
        client = house.stack.enter_context(socket.create_connection(house.listening.getsockname()))
        house.admit()
        target.cut += 1
        house.turn(3)
        house.servers[0].settimeout(0)
        with pytest.raises(BlockingIOError):  # its handshake waited for the first bytes, and there were none
            house.servers[0].accept()
        with pytest.raises(ConnectionResetError):
            house.receive(client)


def test_hops_are_counted_where_they_are_wanted():
    for before, after in (((), 1), ([(HOPS, HOPS_OURS + b"\x04")], 5), ([(HOPS, b"somebody else\x04")], 1)):
        with Gate() as gate:
            gate.house.app.targets["t0"].send_proxy = SendProxy(2, ("hops",))
            gate.connect(proxyproto.build(2, CLIENT, SERVER, before) + b"x")
            header = read(gate.target().recv(4096))
            assert header.tlvs == ((HOPS, HOPS_OURS + bytes((after,))),)
