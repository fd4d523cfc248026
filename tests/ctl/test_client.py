"""The client of the API: where it looks for it, what it makes of answers, streams."""

import pytest

from kit.api import Api
from tcp_proxy.ctl.client import BadAddress, Client, Refused, Unreachable


def client_of(program):
    return Client(program.config["api"]["listen"])


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("http://127.0.0.1:8687", ("", "127.0.0.1", 8687)),
        ("http://[::1]:80/", ("", "::1", 80)),
        ("[::1]:80", ("", "::1", 80)),
        ("localhost:1", ("", "localhost", 1)),
        ("unix:/run/x y.sock", ("/run/x y.sock", "", 0)),
    ],
)
def test_addresses(address, place):
    client = Client(address)
    assert (client._path, client._host, client._port) == place


@pytest.mark.parametrize(
    "address", ["", "host", "ftp://h:1", "http://h:0", "http://h:99999", "http://h:x", "http://h:1/path", "unix:", "[::1:80"]
)
def test_what_is_no_address(address):
    with pytest.raises(BadAddress):
        Client(address)


def test_names_are_sent_as_they_are(still):
    with pytest.raises(Refused, match="no app named 'a/b %41'"):
        client_of(still).get("apps", "a/b %41")


def test_single_complaints():
    errors = [{"where": "body.weight", "what": "too large"}, {"what": "too small"}]
    assert Refused({"detail": "both", "errors": errors}).errors == ["body.weight: too large", "too small"]
    assert Refused({"detail": "one"}).errors == ["one"]


def test_a_stream_brings_what_was_and_what_comes(still):
    events = client_of(still).stream("events", "stream", after=0)
    first = next(events)
    assert (first["number"], first["kind"]) == (1, "worker")
    Api.of(still).post("/api/v1/reload")
    assert any(event["kind"] == "reload" for event in events), "waits for it"
    events.close()


def test_a_stream_that_ends_is_told(program):
    events = client_of(program).stream("events", "stream", after=0)
    next(events)
    program.stop()
    with pytest.raises(Unreachable, match="ended the stream"):
        for _ in events:
            pass


def test_a_stream_may_be_refused(still):
    with pytest.raises(Refused, match="after"):
        next(client_of(still).stream("events", "stream", after=-1))
