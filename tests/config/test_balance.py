"""What an app says of its policy and its levels arrives, and what contradicts itself has its one line."""

import json

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import Hash


def test_nothing_said_is_the_address(app):
    assert app(balance="maglev").hash == Hash()
    assert app().hash == Hash()


def test_every_key_arrives(app):
    said = {"key": "first_bytes", "slice": [2, 9], "table_size": 1021}
    assert app(balance="maglev", hash=said).hash == Hash("first_bytes", "", (2, 9), 1021)
    assert app(balance="ring_hash", hash={"key": "sni", "ring_size": 300}).hash == Hash("sni", ring_size=300)
    assert app(balance="source_hash", hash={"balance_factor": 150}).hash == Hash(balance_factor=150)
    said = {"key": "cookie", "name": "Session"}
    assert app(mode="http", balance="rendezvous", hash=said).hash == Hash("cookie", "Session")
    assert app(mode="http", balance="maglev", hash={"key": "path"}).hash.key == "path"


def test_levels_arrive(app):
    target = app(targets=[{"address": "a:1", "priority": 3, "zone": "x"}], overprovisioning=140).targets[0]
    assert (target.priority, target.zone, target.level) == (3, "x", (False, 3))
    assert app(overprovisioning=140).overprovisioning == 140
    said = {"zone": "rack 1", "apps": [{"name": "a", "ports": [5001], "targets": ["192.0.2.1:1"]}]}
    found = load_text(json.dumps(said).encode(), "config.json")
    assert (found.zone, found.apps[0].zone) == ("rack 1", "rack 1")


HTTP = {"mode": "http"}


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"hash": {"key": "sni"}},
         'hash: "balance" "round_robin" hashes nothing; wanted "rendezvous", "maglev" or "ring_hash" beside it'),
        ({"balance": "source_hash", "hash": {"key": "sni"}},
         'hash.key: "balance" "source_hash" hashes the address; wanted "rendezvous" for the key "sni"'),
        ({"balance": "maglev", "hash": {"key": "path"}},
         'hash.key: "path" is of mode http; wanted one of "address", "first_bytes", "sni"'),
        ({**HTTP, "balance": "maglev", "hash": {"key": "sni"}},
         'hash.key: "sni" is of mode tcp; wanted one of "address", "header", "cookie", "path"'),
        ({**HTTP, "balance": "maglev", "hash": {"key": "header"}}, 'hash.key: missing key "name" beside it: which header'),
        ({**HTTP, "balance": "maglev", "hash": {"key": "path", "name": "x"}},
         'hash.name: the key "path" has no name; it is for "header" and "cookie"'),
        ({**HTTP, "balance": "maglev", "hash": {"key": "header", "name": "a b"}},
         'hash.name: found "a b"; wanted the name of a header, without spaces and separators'),
        ({"balance": "maglev", "hash": {"key": "first_bytes"}},
         'hash.key: missing key "slice" beside it: which bytes of the first message count'),
        ({"balance": "maglev", "hash": {"slice": [0, 4]}}, 'hash.slice: a slice is for the key "first_bytes"'),
        ({"balance": "maglev", "hash": {"key": "first_bytes", "slice": [4, 4]}},
         "hash.slice: found a list; wanted [start, end) with the end above the start"),
        ({"balance": "maglev", "hash": {"table_size": 1000}},
         "hash.table_size: found 1000, which is no prime; wanted one, such as 1009"),
        ({"balance": "ring_hash", "hash": {"table_size": 1009}}, 'hash.table_size: it is of "balance": "maglev"'),
        ({"balance": "maglev", "hash": {"ring_size": 1009}}, 'hash.ring_size: it is of "balance": "ring_hash"'),
        ({"balance": "ring_hash", "hash": {"balance_factor": 99}},
         "hash.balance_factor: found 99; wanted 0, or a whole number from 100 on, such as 150"),
        ({"balance": "maglev", "sticky": {}, "hash": {"key": "sni"}},
         'hash.key: a client of an app with "sticky" is known by the key of that; wanted "address", or no "sticky"'),
        ({"overprovisioning": 99}, "overprovisioning: found 99; wanted 0, or a whole number from 100 on, such as 140"),
        ({"balance": "failover", "targets": [{"address": "a:1", "priority": 1}]},
         'targets[0].priority: priority has no meaning with "balance": "failover": one target gets all sessions, and their '
         "order in the list says who comes first"),
    ],
)  # fmt: skip
def test_what_has_no_meaning(app_complaints, keys, complaint):
    assert app_complaints(keys) == [f"$.apps[0].{complaint}"]


def test_a_value_that_is_wrong_already_has_no_second_line(app_complaints):
    (line,) = app_complaints({"balance": "maglev", "hash": {"key": "nonsense"}})
    assert line.startswith('$.apps[0].hash.key: found "nonsense"; wanted one of')
    (line,) = app_complaints({"balance": "nonsense", "hash": {"key": "sni"}})
    assert line.startswith("$.apps[0].balance")
