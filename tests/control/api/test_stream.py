"""The event stream: what was missed first, then each event as it happens, once."""

import asyncio
import contextlib
import http.client
import itertools
import json

import pytest

from kit.api import Api, api_config
from tcp_proxy.control.api.link import Link
from tcp_proxy.control.api.stream import Ended, respond


class Stream:
    """A reader of server-sent events."""

    def __init__(self, port, path="/api/v1/events/stream", headers=()):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self._connection.request("GET", path, headers=dict(headers))
        self.response = self._connection.getresponse()
        assert self.response.status == 200
        assert self.response.headers["content-type"].startswith("text/event-stream")
        assert self._part() == ["retry: 1000"]

    def __iter__(self):
        while lines := self._part():
            fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
            if fields:
                event = json.loads(fields["data"])
                number = event.get("number")
                assert (number and str(number), event["kind"]) == (fields.get("id"), fields["event"])
                yield event

    def _part(self):
        lines = []
        while line := self.response.readline().decode().rstrip("\n"):
            lines.append(line)
        return lines

    def close(self):
        self._connection.close()
        self.response.close()


@pytest.fixture
def program(proxy, service):
    health = {"type": "tcp", "interval": 0.1}
    return proxy(targets=[service()], health=health, top={"api": api_config()})


def test_a_change_of_state_is_delivered(program, servers):
    program.wait_log("is up")
    with contextlib.closing(Stream(Api.of(program).where)) as stream:
        servers.close()
        event = next(iter(stream))
        assert event["kind"] == "target"
        assert (event["data"]["state"], event["data"]["was"]) == ("down", "up")
        assert "refused" in event["data"]["why"]


def test_what_was_missed_comes_first(program, servers):
    servers.close()
    program.wait_log("is down")
    port = Api.of(program).where
    events = Api.of(program).get("/api/v1/events").json
    for path, headers in (("?after=0", ()), ("", {"Last-Event-ID": "0"})):
        with contextlib.closing(Stream(port, f"/api/v1/events/stream{path}", headers)) as stream:
            assert list(itertools.islice(stream, len(events))) == events


class Deaf(Link):
    """Nothing has happened, and nothing happens."""

    def __init__(self):
        super().__init__(print, print)

    async def ask(self, operation, /, **_arguments):
        return [] if operation == "events" else {"seen": {}, "sessions": [], "left_out": 0}


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_who_leaves_before_the_first_byte_is_followed_no_more(spec):
    async def run():
        link = Deaf()
        ended = Ended(link)
        response = await respond(link, 0, ended)
        assert link._followers == ended._followers != set()

        async def gone():
            return {"type": "http.disconnect"}

        async def fails(_message):
            raise OSError("gone")

        with contextlib.suppress(Exception):
            await response({"type": "http", "asgi": {"spec_version": spec}}, gone, fails)
        assert link._followers == ended._followers == set()

    asyncio.run(run())


def test_the_head_of_the_stream_is_an_answer(program):
    """The connection can be used again, and nobody follows."""
    connection = http.client.HTTPConnection("127.0.0.1", Api.of(program).where, timeout=20)
    for path, method in (("/api/v1/events/stream?sessions=true", "HEAD"), ("/healthz", "GET"), ("/healthz", "HEAD")):
        connection.request(method, path)
        reply = connection.getresponse()
        assert reply.status == 200
        assert reply.read() == (b"ok\n" if method == "GET" else b"")
    connection.close()


def test_sessions_that_end_are_told_on_request(program):
    program.wait_log("is up")
    port = Api.of(program).where
    program.connect().send(b"x").expect(b"x").close()
    program.records(1)
    with (
        contextlib.closing(Stream(port, "/api/v1/events/stream?sessions=true")) as stream,
        contextlib.closing(Stream(port, "/api/v1/events/stream?sessions=true")) as other,
    ):
        clients = [program.connect().send(b"abc").expect(b"abc") for _ in range(3)]
        for client in clients:
            client.close()
        for reader in (stream, other):
            sessions = (event["data"] for event in reader if event["kind"] == "session")
            told = list(itertools.islice(sessions, 3))
            assert {one["client"] for one in told} == {client.address for client in clients}, "nothing from before"
            assert {(one["app"], one["reason"], one["bytes_up"]) for one in told} == {("app", "done", 3)}
