"""The share of a slice: used up by any mixture of steps, and anew in the next slice."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.share import AT_ONCE, Share


@given(st.lists(st.integers(1, 2 * AT_ONCE), max_size=50))
def test_no_slice_does_more_than_a_share_and_its_last_step(steps):
    share, slices = Share(), [[]]
    for step in steps:
        slices[-1].append(step)
        if share.is_used_up(step):
            slices.append([])
    for one in slices:
        assert sum(one[:-1]) < AT_ONCE
    for one in slices[:-1]:
        assert sum(one) >= AT_ONCE


def test_what_is_said_of_it():
    share = Share(3)
    assert not share.is_used_up(2)
    assert repr(share) == "<Share 2 of 3 used>"
    assert share.is_used_up()
    assert repr(share) == "<Share 0 of 3 used>"
