"""Words of a dialogue in HTTP between scripted ends: a request, an answer and what becomes of it, heads."""

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello"
OK_PASSED = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\nVia: 1.1 tcp_proxy\r\n\r\nhello"  # by the program


def head(peer):
    """Up to and with the empty line."""
    lines = b""
    while not lines.endswith(b"\r\n\r\n"):
        lines += peer.receive_line()
    return lines


def status(peer):
    """That of the answer whose head comes next."""
    return int(head(peer).split(b" ")[1])


def whole_status(peer):
    """The same, and its body, which says its length, is read."""
    found = head(peer)
    peer.receive(int(found.split(b"Content-Length: ")[1].split(b"\r")[0]))
    return int(found.split(b" ")[1])


def closing(peer, code):
    """An answer of the program's own, then the end."""
    text = peer.read_to_end()
    assert text.startswith(b"HTTP/1.1 %d " % code), text
    assert b"\r\nConnection: close\r\n" in text
    assert peer.ended == "fin"
    return text
