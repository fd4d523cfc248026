"""The key `cluster` arrives, and what is wrong with it has its one line. Of docs/cluster.md, point 12: a path is no URL."""

import json

import pytest

from tcp_proxy.config.diff import diff
from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import Cluster
from tcp_proxy.control.answers import views
from tcp_proxy.control.long_answer import pieces

URL = "https://etcd-1:2379"


def text_of(cluster):
    return json.dumps({"apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}], "cluster": cluster})


def loaded(cluster):
    return load_text(text_of(cluster).encode(), "config.json")


def test_what_is_left_out():
    assert loaded(None).cluster is None
    assert loaded({"endpoints": [URL]}).cluster == Cluster((URL,))
    assert Cluster((URL,)) == Cluster((URL,), "default", "", 10, "", ("", ""), "", "")


def test_all_of_it_arrives():
    given = {
        "endpoints": [f"{URL}/", "http://[::1]:2379"], "name": "web", "node": "proxy-1", "lease": 5.0, "user": "u",
        "tls": {"ca": "/ca.pem", "certificate": {"chain": "/c.pem", "key": "/k.pem"}}, "password_file": "/p",
    }  # fmt: skip
    known = loaded(given).cluster
    assert known == Cluster((URL, "http://[::1]:2379"), "web", "proxy-1", 5, "/ca.pem", ("/c.pem", "/k.pem"), "u", "/p")
    shown = json.loads("".join(pieces(views.config(loaded(given)))))["cluster"]
    assert loaded(shown).cluster == known, "what is shown can be loaded"
    (change,) = diff(loaded({"endpoints": [URL]}), loaded({"endpoints": [URL], "lease": 20}))
    assert change.needs_restart


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, '$.cluster: missing key "endpoints"'),
        ({"endpoints": []}, '$.cluster.endpoints: found an empty list; wanted a list of URLs: "https://host:port" or "http://host:port"'),
        *(
            ({"endpoints": [wrong]}, f'$.cluster.endpoints[0]: found {json.dumps(wrong)}; wanted "https://host:port"')
            for wrong in ("etcd:2379", "unix:///run/etcd.sock", "http://h", "http://h:0", "http://h:99999", "http://u:p@h:1",
                          "http://h:1/v3", "http://h:1?x", "http://h h:1", "ftp://h:1", "http://[::1:5", "http:///x")
        ),
        ({"endpoints": [URL], "lease": 1}, "$.cluster.lease: found 1; wanted a whole number from 2 to 300"),
        ({"endpoints": [URL], "user": "u"}, '$.cluster.user: missing key "password_file" beside it'),
        ({"endpoints": [URL], "password_file": "p"}, '$.cluster.password_file: missing key "user" beside it'),
        ({"endpoints": [URL], "tls": {"certificate": {}}}, '$.cluster.tls.certificate: missing key "chain"'),
        ({"endpoints": ["http://a:1"], "tls": {"ca": "c"}}, "$.cluster.tls: no member is spoken to by TLS"),
        ({"endpoints": [URL], "node": " a"}, '$.cluster.node: found " a"; wanted a name without control characters'),
        ({"endpoints": [URL], "password_file": "\0", "user": "u"}, "$.cluster.password_file: a zero character in a path"),
        ({"endpoints": [URL], "tls": {"ca": "\0"}}, "$.cluster.tls: a zero character in a path"),
        ({"endpoints": [URL], "nodes": "a"}, '$.cluster.nodes: unknown key "nodes"; did you mean "node"?'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(complaints, given, told):
    (found,) = complaints(text_of(given))
    assert told in found
