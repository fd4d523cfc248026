"""What is free goes back to the machine."""

import gc
import platform
import weakref

from tcp_proxy.runtime import memory


def test_free_memory_is_given_back_where_the_c_library_can():
    assert memory.give_back() is (platform.libc_ver()[0] == "glibc")


def test_no_garbage_is_searched_for_while_anybody_says_so(monkeypatch):
    """Whatever a reload of another test has said and not taken back, for its loop ended before."""
    monkeypatch.setattr(memory, "_holders", 0)
    gc.enable()
    memory.hold_collection()
    memory.hold_collection()
    try:
        assert not gc.isenabled()
        memory.release_collection()
        assert not gc.isenabled(), "somebody still says so"
        memory.release_collection()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


class Ring:
    """Garbage that only a search finds."""

    def __init__(self):
        self.own = self


def test_garbage_that_there_is_by_then_is_not_kept_for_ever(monkeypatch):
    """What a search leaves out from then on is what came meanwhile: in a worker this happens again and again."""
    monkeypatch.setattr(memory, "_holders", 0)
    gc.enable()
    left = weakref.ref(Ring())
    memory.hold_collection()
    memory.release_collection()
    try:
        gc.collect()
        assert left() is None
    finally:
        gc.unfreeze()
