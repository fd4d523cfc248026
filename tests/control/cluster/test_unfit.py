"""Which nodes are unfit is what they say themselves, and nothing else is believed."""

import json

import pytest

from tcp_proxy.control.cluster.shared import SharedState
from tcp_proxy.control.cluster.unfit import read, unfit_nodes
from tcp_proxy.wire.cluster import Shared, SharedValue


def test_nodes_that_say_so():
    shared = SharedState(lambda _message: None)
    texts = {"unfit/a%2Fb": '{"why": "disk"}', "unfit/c": '{"why": ""}', "unfit/d": "[]", "unfit/e/f": '{"why": ""}'}
    shared.heard(Shared(tuple(SharedValue(key, text, 1) for key, text in texts.items()), 1, begins=True, ends=True))
    assert unfit_nodes(shared) == {"a/b": "disk", "c": ""}


WRONG = ["", "1", "{", '{"why": 1}', '{"why": "\\n"}', json.dumps({"why": "x" * 201}), "[" * 100_000]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_nothing_of_the_kind(text):
    assert read(text) is None
