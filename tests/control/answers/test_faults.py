"""Faults on purpose over the API of a real program: what is refused, what is shown, and what ends them."""

import pytest

from kit.api import Api, api_config


@pytest.fixture
def program(proxy, service, free_port):
    app = {"name": "web", "ports": [free_port()], "targets": [service().address], "health": []}
    http = {**app, "name": "http", "ports": [free_port()], "mode": "http"}
    return proxy({"workers": 1, "faults": True, "access_log": None, "api": api_config(), "apps": [app, http]})


def test_they_are_numbered_shown_and_removed(program):
    api = Api.of(program)
    one = api.post("/api/v1/apps/web/faults", {"latency": 0.05, "share": 10, "seconds": 60}, status=201).json
    two = api.post("/api/v1/apps/web/faults", {"timeout": True, "networks": ["192.0.2.0/24"]}, status=201).json
    assert (one["number"], one["text"], two["number"]) == (1, "latency=0.05 share=10", 2)
    assert two["text"] == "timeout networks=192.0.2.0/24"
    assert 0 < one["seconds"] <= 60 < two["seconds"] <= 600
    assert [fault["number"] for fault in api.get("/api/v1/faults").json] == [1, 2]
    program.wait_log("app web: fault 1 on purpose, for 60 s: latency=0.05 share=10")
    assert api.ask("DELETE", "/api/v1/faults/1", status=200).json == {"removed": 1}
    assert api.ask("DELETE", "/api/v1/faults/1", status=404).detail == "there is no fault 1"
    assert [fault["number"] for fault in api.get("/api/v1/faults").json] == [2]


def test_what_cannot_be_has_its_sentence(program):
    api = Api.of(program)
    assert "no app named" in api.post("/api/v1/apps/x/faults", {"latency": 1}, status=404).detail
    assert api.post("/api/v1/apps/http/faults", {"latency": 1}, status=201).json["app"] == "http"
    assert "nothing would be wrong" in api.post("/api/v1/apps/web/faults", {"share": 5}, status=422).detail
    assert "networks: 'x'" in api.post("/api/v1/apps/web/faults", {"latency": 1, "networks": ["x"]}, status=422).detail
