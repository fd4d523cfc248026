"""The stick tables over the API of a real program, and what changes there mean for clients."""

import socket

import pytest

from kit.api import Api, api_config, path_of
from kit.waiting import wait_until


def ask(program, source):
    with socket.create_connection(("127.0.0.1", program.port), timeout=20, source_address=(source, 0)) as client:
        return client.recv(2, socket.MSG_WAITALL).decode()


@pytest.fixture
def program(proxy, service, free_port):
    targets = [{"address": service(greeting=f"t{n}".encode()).address, "name": f"t{n}"} for n in range(2)]
    app = {"name": "web", "ports": [free_port()], "targets": targets, "health": [], "sticky": {"expires": 100}}
    plain = {**app, "name": "plain", "ports": [free_port()], "sticky": None}
    program = proxy({"workers": 1, "api": api_config(), "apps": [app, plain]})
    program.uncounted = None
    return program


def test_the_table_is_listed_changed_and_cleared(program):
    api = Api.of(program)
    home = {source: ask(program, source) for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")}
    wait_until(lambda: api.get(path_of("web") + "/sticks").json["in_use"] == 0, "nobody is there")
    page = api.get(path_of("web") + "/sticks?limit=2").json
    assert [entry["key"] for entry in page["entries"]] == ["127.0.0.1", "127.0.0.2"]
    assert (page["next"], page["known"], page["size"], page["fallbacks"]) == ("127.0.0.2", 3, 100_000, 0)
    assert api.get(path_of("web") + "/sticks?after=127.0.0.2").json["entries"][0]["key"] == "127.0.0.3"
    one = path_of("web") + "/sticks/%3A%3Affff%3A127.0.0.1"
    entry = api.get(one).json
    assert (entry["target"], entry["in_use"]) == (home["127.0.0.1"], False)
    assert 90 < entry["expires_in"] <= 100
    other = "t1" if home["127.0.0.1"] == "t0" else "t0"
    assert api.ask("PUT", one, {"target": other}, status=200).json["target"] == other
    wait_until(lambda: ask(program, "127.0.0.1") == other, "the worker knows")
    wait_until(lambda: not api.get("/api/v1/sessions?app=web").json["sessions"], "the end of all sessions")
    ask(program, "127.0.0.4")  # a question, which comes after what there was to tell of them
    assert api.ask("DELETE", one, status=200).json == {"deleted": 1}
    api.get(one, status=404)
    api.ask("DELETE", one, status=404)
    assert api.ask("DELETE", path_of("web") + "/sticks", status=200).json == {"deleted": 3}
    assert api.get(path_of("web") + "/sticks").json["known"] == 0


def test_what_is_wrong_is_said(program):
    api = Api.of(program)
    assert "not sticky" in api.get(path_of("plain") + "/sticks", status=409).detail
    assert "no app" in api.get(path_of("nobody") + "/sticks", status=404).detail
    assert "no target named" in api.ask("PUT", path_of("web") + "/sticks/1.2.3.4", {"target": "x"}, status=422).detail
    assert "key 'x'" in api.get(path_of("web") + "/sticks/x", status=422).detail
    api.get(path_of("web") + "/sticks?limit=0", status=422)
