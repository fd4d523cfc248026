"""Every message of the table of malformed ones, raw, through the program: what the client hears, what the target sees."""

import re

from kit.dialogue import OK, OK_PASSED
from kit.malformed import ANSWERS, CHUNK_FAULTS, CHUNKED, EXTENSIONS, REQUESTS, TOLERATED, TOLERATED_CHUNKS
from kit.waiting import wait_until

OK_LINE = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def answers(text):
    """The statuses of all answers in a stream of our own and of OK."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", text)]


def test_no_malformed_request_reaches_a_target(http, service):
    """Each comes behind a good one, on the same connection: that one is answered, the bad one refused, and that is all."""
    seen = []
    origin = service(answer=lambda data: seen.append(data) or OK * data.count(b"\r\n\r\n"))
    program = http(origin)
    wrong = {}
    rows = [row for row in REQUESTS if not row[0].startswith("chunks: ")]
    for name, text, status in rows:
        client = program.connect().send(GET)
        client.expect(OK_PASSED)
        client.send(text + GET)
        if "without end" in name or "only" in name:
            client.fin()
        found = answers(client.read_to_end())
        if found != [status] or client.ended != "fin":
            wrong[name] = (found, client.ended)
        client.close()
    assert wrong == {}
    assert len(rows) >= 150
    assert b"".join(seen).count(b"HTTP/1.1\r\n") == len(rows)
    assert all(data.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nVia: ") for data in seen)


def test_a_body_with_a_fault_is_never_whole_at_a_target(http, target):
    server = target()
    program = http(server)
    for name, body in CHUNK_FAULTS.items():
        client = program.connect().send(CHUNKED)
        upstream = server.accept()
        while upstream.receive_line() != b"\r\n":
            pass
        client.send(body + GET)
        assert answers(client.read_to_end()) == [400], name
        got = upstream.read_to_end()
        assert not got.endswith(b"0\r\n\r\n"), name
        assert b"GET" not in got, name
        assert upstream.ended == "rst", name
        client.close()


def test_no_malformed_answer_reaches_a_client(http, service):
    """The number in the path says which one the target gives; each is followed by one that nobody may get."""
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    def answer(data):
        number = int(data.split(b" ")[1][1:])
        return ANSWERS[number][1] + poison if number < len(ANSWERS) else OK

    origin = service(answer=answer)
    program = http(origin)
    client, wrong = program.connect(), {}
    for number, (name, _) in enumerate(ANSWERS):
        for path in (number, 999):
            client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.receive_line()
            body = client.receive(int(re.search(rb"Content-Length: (\d+)", head)[1]))
            if answers(head) != [502 if path == number else 200] or b"poison" in body:
                wrong[name, path] = head + body
    assert wrong == {}
    client.close()
    wait_until(lambda: origin.active <= 1, "no connection with a fault is kept")


def test_what_has_one_meaning_is_taken_from_targets(http, service):
    """And goes on in its proper form, each with an end that the client can see."""
    chunked = OK_LINE + b"Transfer-Encoding: chunked\r\n"
    said = [(name, text + b"hello", passed, b"hello") for name, text, passed in TOLERATED]
    said += [(name, chunked + b"\r\n" + text, chunked, passed) for name, text, passed in TOLERATED_CHUNKS]
    said += [
        (
            extension,
            chunked + b"\r\n5%b\r\nhello\r\n0%b\r\n\r\n" % (extension, extension),
            chunked,
            b"5\r\nhello\r\n0\r\n\r\n",
        )
        for extension in EXTENSIONS
    ]
    program = http(service(answer=lambda data: said[int(data.split(b" ")[1][1:])][1]))
    client = program.connect()
    for number, (name, _, passed, body) in enumerate(said):
        client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.receive_line()
        assert head.startswith(passed + b"Via: 1.1 tcp_proxy\r\nDate: "), name
        assert client.receive(len(body)) == body, name
    client.close()


def test_no_extension_of_a_client_reaches_a_target(http, target):
    server = target()
    client, upstream = http(server).connect(), None
    for extension in EXTENSIONS:
        client.send(CHUNKED + b"5%b\r\nhello\r\n0%b\r\n\r\n" % (extension, extension))
        upstream = upstream or server.accept()
        while upstream.receive_line() != b"\r\n":
            pass
        upstream.expect(b"5\r\nhello\r\n0\r\n\r\n").send(OK)
        client.expect(OK_PASSED)


def test_smuggling_by_what_two_readers_see(http, service):
    """The classics: whatever the first reader hides in a body must not come out as a request at the target."""
    seen = []
    origin = service(answer=lambda data: seen.append(data) or OK)
    program = http(origin)
    hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    for head in (
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
        b"Transfer-Encoding: ,chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\nContent-Length: 0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        b"Connection: Content-Length\r\nContent-Length: %d, 0\r\n\r\n" % len(hidden),
    ):
        client = program.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + hidden)
        assert answers(client.read_to_end()) == [400]
        client.close()
    assert seen == []
    client = program.connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(hidden) + hidden
    )
    wait_until(lambda: b"".join(seen).endswith(hidden), "it is a body, with its length")
    assert b"Content-Length: %d\r\n" % len(hidden) in b"".join(seen)
    client.close()
    client = program.connect().send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    wait_until(lambda: b"".join(seen).endswith(chunk), "it is a body, in its chunk")
    client.close()
