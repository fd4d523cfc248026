"""The open descriptors are counted, whatever the kernel says of their folder."""

import os
import resource

import pytest

from tcp_proxy.runtime import descriptors


class OldKernel:
    """Its folder has no size."""

    st_size = 0


@pytest.mark.parametrize("is_old", [False, True])
def test_each_descriptor_counts_once(is_old, monkeypatch):
    if is_old:
        monkeypatch.setattr(descriptors.os, "stat", lambda _path: OldKernel())
    before = descriptors.open_descriptors()
    assert before == len(os.listdir("/proc/self/fd")) - 1
    more = [os.dup(0) for _ in range(20)]
    assert descriptors.open_descriptors() == before + 20
    for fd in more:
        os.close(fd)
    assert descriptors.open_descriptors() == before


def test_room_is_what_is_left_below_the_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 5, hard))
        assert [descriptors.has_room(kept) for kept in (0, 4, 5, 6)] == [True, True, False, False]
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        assert not descriptors.has_room(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
