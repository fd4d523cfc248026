"""Stick entries in the state file: written by its thread, there after a restart, whatever text the keys are."""

from kit.waiting import wait_until
from tcp_proxy.control.sticky.store import SavedStick
from tcp_proxy.control.store.state import State, StateFile

ONE = SavedStick("web", "192.0.2.7", "t\u00e9\udc80", 3, 1000.5)
TWO = SavedStick("web", "2001:db8::/64 00ff", "t", 4, 0.0)


def reopened(path):
    state = StateFile.open(str(path))
    try:
        return state.sticks().take_all()
    finally:
        state.close()


def test_what_is_saved_is_there_after_a_restart(tmp_path):
    path = tmp_path / "state"
    state = StateFile.open(str(path))
    sticks = state.sticks()
    assert sticks.is_kept
    assert sticks.take_all() == {}
    sticks.save([ONE, TWO, SavedStick("other", "k", "t", 1, 1.0)])
    sticks.save([SavedStick("web", "192.0.2.7", "new", 9, 2.0)])
    state.close()
    found = reopened(path)
    assert found["web"] == [SavedStick("web", "192.0.2.7", "new", 9, 2.0), TWO]
    assert found["other"][0].target == "t"


def test_names_that_are_no_unicode_come_back(tmp_path):
    state = StateFile.open(str(tmp_path / "state"))
    state.sticks().save([ONE])
    state.close()
    assert reopened(tmp_path / "state") == {"web": [ONE]}


def test_an_entry_without_a_target_is_deleted_and_an_app_forgotten(tmp_path):
    state = StateFile.open(str(tmp_path / "state"))
    sticks = state.sticks()
    sticks.save([ONE, TWO, SavedStick("other", "k", "t", 1, 1.0)])
    sticks.save([SavedStick("web", ONE.key)])
    sticks.forget_app("other")
    state.close()
    assert reopened(tmp_path / "state") == {"web": [TWO]}


def test_a_file_that_is_gone_is_begun_anew_and_that_is_said_once(tmp_path):
    path = tmp_path / "state"
    state = StateFile.open(str(path), warn=lambda _text: None)
    sticks = state.sticks()
    assert sticks.wants_all() is False
    path.unlink()
    sticks.save([ONE])
    wait_until(sticks.wants_all, "it is known")
    assert sticks.wants_all() is False
    sticks.save([TWO])
    state.close()
    assert TWO in reopened(path)["web"]


def test_in_memory_nothing_is_kept():
    sticks = State().sticks()
    sticks.save([ONE])
    sticks.forget_app("web")
    assert (sticks.is_kept, sticks.wants_all(), sticks.take_all()) == (False, False, {})
