"""Sessions over the API: listed, paged, found, closed, explained."""

import pytest

from kit.api import Api, api_config


@pytest.fixture
def program(proxy, service):
    return proxy(targets=[service()], top={"api": api_config(), "workers": 2})


@pytest.fixture
def api(program):
    return Api.of(program)


def test_they_are_listed_by_pages_and_filters(program, api):
    clients = [program.connect().send(b"abc").expect(b"abc") for _ in range(5)]
    everything = api.get("/api/v1/sessions").json
    assert everything["next"] is None
    assert everything["silent"] == []
    found = everything["sessions"]
    assert {session["client"] for session in found} == {client.address for client in clients}
    assert {(one["app"], one["state"], one["bytes_up"], one["bytes_down"]) for one in found} == {("app", "relaying", 3, 3)}
    pages, after = [], ""
    while after is not None:
        page = api.get(f"/api/v1/sessions?limit=2&after={after}").json
        pages.append(page["sessions"])
        after = page["next"]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one["id"] for page in pages for one in page] == [one["id"] for one in found]
    (mine,) = api.get(f"/api/v1/sessions?client={clients[3].address}").json["sessions"]
    assert api.get(f"/api/v1/sessions/{mine['id']}").json["client"] == clients[3].address
    assert api.get("/api/v1/sessions?app=nobody").json["sessions"] == []


def test_one_is_closed_and_its_story_told(program, api):
    client = program.connect().send(b"abc").expect(b"abc")
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    path = f"/api/v1/sessions/{session['id']}"
    assert api.get(f"{path}/why").json["state"] == "live"
    assert api.ask("DELETE", path, status=204).body == b""
    client.expect_rst()
    assert program.record()["reason"] == "closed_by_admin"
    assert "goes on" in api.get(path, status=404).detail
    assert api.ask("DELETE", path, status=404).detail
    why = api.get(f"{path}/why").json
    assert why["state"] == "ended"
    assert "management API" in why["story"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/sessions/nonsense", 404, "not the id of a session"),
        ("/api/v1/sessions/1a.1-99", 404, "goes on"),
        ("/api/v1/sessions?after=nonsense", 422, "not the id of a session"),
        ("/api/v1/sessions?limit=0", 422, "query.limit"),
        ("/api/v1/sessions?colour=red", 422, "query.colour"),
    ],
)
def test_what_is_refused(api, path, status, words):
    assert words in api.get(path, status=status).detail


def test_a_session_that_nobody_knows(api):
    assert api.get("/api/v1/sessions/1a.1-99/why").json["state"] == "unknown"
