"""Which protocols are asked for, and which a 101 may name."""

from tcp_proxy.sansio.http1.fields import read_fields
from tcp_proxy.sansio.http1.upgrades import allowed_upgrades, is_asked_for


def test_what_is_allowed_is_asked_for():
    allowed = frozenset({b"websocket", b"tcp"})
    for value, wanted in {
        b"websocket": b"websocket", b"WebSocket": b"WebSocket", b"h2c": b"", b"h2c, websocket": b"websocket",
        b"": b"", b" , ,": b"", b"tcp,h2c,\twebsocket": b"tcp, websocket", b"websocket/13": b"", b"web socket": b"",
    }.items():  # fmt: skip
        assert allowed_upgrades(read_fields(b"Upgrade: " + value + b"\r\n"), allowed) == wanted
    assert allowed_upgrades(read_fields(b"Upgrade: tcp\r\nUpgrade: websocket\r\n"), allowed) == b"tcp, websocket"


def test_a_101_names_what_was_asked_for():
    for value, asked, wanted in (
        (b"websocket", b"websocket", True), (b"WEBSOCKET", b"tcp, websocket", True),
        (b"tcp, websocket", b"websocket, tcp", True),
        (b"h2c", b"websocket", False), (b"websocket, h2c", b"websocket", False),
        (b"", b"websocket", False), (b"websocket", b"", False),
    ):  # fmt: skip
        assert is_asked_for(read_fields(b"Upgrade: " + value + b"\r\n"), asked) is wanted
    assert not is_asked_for(read_fields(b""), b"websocket")
