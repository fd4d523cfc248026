"""What a node says is what another one reads; whatever else stands in etcd is no node."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.control.cluster_agent.member import read, written
from tcp_proxy.wire.cluster import Member

ME = Member("a/b é", "0123abcd", "0.2.0", "192.0.2.1", "127.0.0.1:8687", 12.5, 0.002, 7.0)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def test_it_round_trips():
    assert read(ME.node, written(ME, 3), 7.0) == (ME, 3)


def test_a_later_version_may_say_more():
    said = {**json.loads(written(ME, 3)), "votes": ["web"]}
    assert read(ME.node, json.dumps(said).encode(), 7.0) == (ME, 3)


@pytest.mark.parametrize("key", ["instance", "version", "address", "api", "age", "lag", "beat"])
@given(value=JSON)
def test_nothing_is_believed_that_is_of_another_shape(key, value):
    said = {**json.loads(written(ME, 3)), key: value}
    found = read(ME.node, json.dumps(said).encode(), 7.0)
    if found is not None:
        assert type(value) is type(json.loads(written(ME, 3))[key]) or type(value) in (int, float)
        assert len(str(value)) <= 512


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_else_is_no_node(value):
    assert read("a", value, 0.0) is None
    assert read("a", b"[" * 100_000, 0.0) is None
