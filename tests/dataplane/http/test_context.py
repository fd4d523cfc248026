"""What the clients of a worker share: the end for all of them, and room when descriptors are short."""

from kit.dialogue import OK, OK_PASSED
from tcp_proxy.config.model import Timeouts
from tests.dataplane.http.rig import GET, HttpHouse


def kept(house):
    """A client that has been answered, and the target's end of the connection that is kept."""
    client, session = house.client()
    server = house.ask(client, GET)
    server.sendall(OK)
    assert house.receive(client, len(OK_PASSED)) == OK_PASSED
    return client, session, server


def test_a_request_that_came_before_the_end_is_answered_though_nobody_was_told_of_it():
    with HttpHouse() as house:
        client, session, server = kept(house)
        client.setblocking(True)
        client.sendall(GET)
        house.http.drain()
        house.read_head(server)
        house.send(server, OK)
        assert b"\r\nConnection: close\r\n" in house.read_head(client)
        assert house.receive(client) == b"hello"
        client.close()
        house.until(lambda: session.state.name == "DONE")


def test_the_end_does_not_wait_for_who_has_asked_for_nothing():
    with HttpHouse() as house:
        client, session, _ = kept(house)
        fresh, other = house.client()
        house.http.drain()
        for sock in (client, fresh):
            assert house.receive(sock) == b""
            sock.close()
        house.until(lambda: {session.state.name, other.state.name} == {"DONE"})


def test_who_waits_the_longest_makes_room():
    with HttpHouse(timeouts=Timeouts(next_request=100.0, request=100.0)) as house:
        first, session, upstream = kept(house)
        clients = [first]
        for _ in range(40):
            house.pass_time(0.2)
            clients.append(house.client()[0])
            clients[-1].sendall(GET)
            house.turn(2)
            house.read_head(upstream)
            house.send(upstream, OK)
            house.receive(clients[-1], len(OK_PASSED))
        fresh, new = house.client()
        busy, _ = house.client()
        house.send(busy, GET)
        house.read_head(upstream)
        assert session.is_idle
        house.http.make_room()
        house.send(upstream, OK)
        assert house.receive(busy, len(OK_PASSED)) == OK_PASSED
        for client in clients[:32]:
            assert house.receive(client) == b""
        house.pass_time(1.5)
        house.http.make_room()
        assert house.receive(upstream) == b""
        for client in clients[32:]:
            assert house.receive(client) == b""
        assert new.state.name == "READING"  # it has had no time to ask
        fresh.close()
