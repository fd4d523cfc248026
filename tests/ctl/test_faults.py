"""fault add, list and remove: the words of the command line become what the API takes."""

import pytest

from tcp_proxy.ctl.command import Misused
from tcp_proxy.ctl.faults import said


def test_every_word_has_its_key():
    words = "latency=50ms jitter=0.01 bandwidth=1MB/s reset=1% timeout slicer=100 slow_close=2s direction=up share=10%"
    assert said([*words.split(), "for=10m", "networks=192.0.2.0/24,::1"]) == {
        "latency": 0.05, "jitter": 0.01, "bandwidth": 1_000_000, "reset": 1.0, "timeout": True, "slicer": 100,
        "slow_close": 2.0, "direction": "up", "share": 10.0, "seconds": 600.0, "networks": ["192.0.2.0/24", "::1"],
    }  # fmt: skip


@pytest.mark.parametrize("word", ["lag=1", "latency", "timeout=1", "latency=x", "latency=5MB", "share=10ms", "slicer=1ms"])
def test_what_is_none_is_said(word):
    with pytest.raises(Misused, match=word.split("=")[0]):
        said([word])
