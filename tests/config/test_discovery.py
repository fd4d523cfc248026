"""Entries of `targets` that say where servers are listed; and the DNS servers that are asked."""

import json

import pytest

from tcp_proxy.config.load import ConfigErrors, load_targets, load_text
from tcp_proxy.config.target_model import Discovery


def test_they_stand_beside_targets(app):
    found = app(targets=["a:1", "srv:_db._tcp.example", "file:/run/t.json"])
    assert [target.name for target in found.targets] == ["a:1"]
    assert found.discoveries == (Discovery("srv:_db._tcp.example"), Discovery("file:/run/t.json"))


def test_what_is_said_of_each_server(app):
    entry = {"address": "srv:_db._tcp.example", "max_connections": 3, "send_proxy": 2}
    (found,) = app(targets=[entry]).discoveries
    assert json.loads(found.template) == {"max_connections": 3, "send_proxy": 2}


@pytest.mark.parametrize(
    ("entry", "place", "hint"),
    [
        ("srv:", "", "_SERVICE._tcp.DOMAIN"),
        ("srv:x y.example", "", "not a host name"),
        ("file:", "", "file:PATH"),
        ({"address": "srv:_a._tcp.b", "weight": 3}, ".weight", "each record"),
        ({"address": "srv:_a._tcp.b", "name": "x"}, ".name", "each record"),
        ({"address": "file:x", "max_connections": 3}, ".max_connections", "says that of each target"),
    ],
)
def test_what_is_wrong_is_said(app_complaints, entry, place, hint):
    (found,) = app_complaints({"targets": ["a:1", entry]})
    where = "[1]" if isinstance(entry, str) else f"[1]{place or '.address'}"
    assert found.startswith(f"$.apps[0].targets{where}: ")
    assert hint in found


def test_twice_the_same_is_an_error(app_complaints):
    (found,) = app_complaints({"targets": ["srv:_a._tcp.b", "srv:_a._tcp.b"]})
    assert "listed here twice" in found


def test_what_is_listed_leads_nowhere_else(app):
    with pytest.raises(ConfigErrors, match="can be said in the file only"):
        load_targets('["srv:_a._tcp.b"]', app(), "list")


def test_a_list_is_held_against_the_schema_with_its_places(app):
    with pytest.raises(ConfigErrors) as caught:
        load_targets('[\n  "a:1",\n  {"address": "b:1", "weigth": 3},\n  {"address": "c"}, 7\n]', app(), "t.json")
    first = caught.value.errors[0]
    assert (first.line, first.path) == (3, '$[1].weigth')
    assert "did you mean" in first.message
    assert len(caught.value.errors) == 2


def test_nameservers():
    text = {"nameservers": ["127.0.0.1", "[::1]:8600", "::1"], "apps": [{"name": "a", "ports": [1], "targets": ["a:1"]}]}
    assert load_text(json.dumps(text).encode(), "x").nameservers == (("127.0.0.1", 53), ("::1", 8600), ("::1", 53))


@pytest.mark.parametrize("server", ["ns.example", "127.0.0.1:", "127.0.0.1:x", "a:53"])
def test_a_nameserver_is_an_address(complaints, server):
    text = {"nameservers": [server], "apps": [{"name": "a", "ports": [1], "targets": ["a:1"]}]}
    (found,) = complaints(json.dumps(text))
    assert "$.nameservers[0]: " in found
    assert "wanted an IP address" in found
