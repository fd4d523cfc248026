"""Values and their form on the gateway; that etcd understands it is in test_client.py."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control.etcd.values import (
    Compare,
    Done,
    Event,
    Get,
    KeyValue,
    Put,
    decoded,
    done,
    encoded,
    event,
    key_value,
    range_end,
    transaction,
)


@given(st.binary())
def test_any_key_round_trips(raw):
    key = raw.decode("utf-8", "surrogateescape")
    assert decoded(encoded(key)) == key
    assert base64.b64decode(encoded(key), validate=True) == raw


@given(st.binary(min_size=1), st.binary(), st.binary())
def test_a_range_is_what_begins_so(prefix, rest, other):
    end = base64.b64decode(range_end(prefix.decode("utf-8", "surrogateescape")))
    assert prefix <= prefix + rest
    assert prefix + rest < end or end == b"\0"
    if not other.startswith(prefix):
        assert not prefix <= other < end or end == b"\0"


def test_what_is_left_out_is_nothing():
    assert key_value({"key": "aw==", "mod_revision": "7", "create_revision": "5"}) == KeyValue("k", b"", 7, 5)
    assert event({"kv": {"key": "aw==", "mod_revision": "7", "create_revision": "7"}}) == Event("k", b"", 7, 7)
    assert event({"type": "DELETE", "kv": {"key": "aw==", "mod_revision": "8"}}) == Event("k", None, 8)


def test_a_transaction():
    made = transaction((Compare("k", "MOD", "LESS", 5),), (Put("k", b"v", 1 << 61), Put("k", None)), (Get("k"),))
    assert made == {
        "compare": [{"key": "aw==", "target": "MOD", "result": "LESS", "mod_revision": "5"}],
        "success": [
            {"request_put": {"key": "aw==", "value": "dg==", "lease": "2305843009213693952"}},
            {"request_put": {"key": "aw==", "ignore_value": True}},
        ],
        "failure": [{"request_range": {"key": "aw=="}}],
    }
    body = {"header": {"revision": "3"}, "responses": [{"response_range": {}}, {"response_put": {}}]}
    assert done(body) == Done(False, 3, (None,))
    with pytest.raises((ValueError, LookupError)):
        done({})
