"""How a client is left: it hears the last answer, whatever it still sends, and is not waited for longer than that."""

from tcp_proxy.config.model import Http, Limits, Timeouts
from tcp_proxy.runtime.socket_options import outstanding
from tests.dataplane.http.rig import HttpHouse

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
TIMES = Timeouts(response=60.0, next_request=20.0, request=10.0)


def test_who_goes_on_with_an_upload_that_was_refused_may_still_hear_so():
    """Many read only when all is sent; what they send meanwhile must not become a reset. But not for ever."""
    with HttpHouse(Http(limits=Limits(body=1)), timeouts=TIMES) as house:
        client, session = house.client()
        house.send(client, POST % (1 << 30))

        def send_on(data):
            house.send(client, data)
            house.until(lambda: session.timers.deadline == min(house.clock.now + 2.0, session.closing.discards_until))
            house.pass_time(1.0)

        for _ in range(20):
            send_on(bytes(1 << 20))
        assert house.receive(client, 12) == b"HTTP/1.1 413"
        assert session.state.name == "CLOSING"
        for _ in range(8):
            send_on(b"x")
        assert session.state.name == "CLOSING"
        send_on(b"x")
        house.pass_time(2.0)
        assert session.state.name == "DONE"


def test_who_is_told_and_says_nothing_more_is_left_soon():
    with HttpHouse(Http(limits=Limits(body=1)), timeouts=TIMES) as house:
        client, session = house.client()
        house.send(client, POST % (1 << 30))
        assert house.receive(client).startswith(b"HTTP/1.1 413 ")
        house.until(lambda: not outstanding(session.client))
        house.pass_time(1.0)
        assert session.state.name == "CLOSING"
        house.pass_time(1.5)
        assert session.state.name == "DONE"
