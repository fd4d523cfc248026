"""Sessions that are ended together: all of them, in rounds between which others have their turn."""

from tcp_proxy.dataplane.all_threads import cut_off_by_and_by
from tcp_proxy.dataplane.relay.session_thread import SLICE, SessionThread
from tcp_proxy.runtime.loop import Loop
from tests.dataplane.house import Clock


class Member:
    def __init__(self, thread, target, error=None):
        self.thread, self.target, self.cut, self.error, self.is_cut = thread, target, target.cut, error, False
        thread.members.add(self)

    def cut_off(self):
        self.is_cut = True
        if self.error is not None:
            raise self.error
        self.thread.members.discard(self)


class Rig:
    def __init__(self):
        self.loop = Loop("test", Clock())
        self.loop.on_error = lambda _call, error: self.errors.append(error)
        self.thread = SessionThread(self.loop, None, None)
        self.target, self.other = Target(), Target()
        self.errors = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def members(self, count, **what):
        return [Member(self.thread, self.target, **what) for _ in range(count)]

    def give_up(self):
        self.target.cut += 1
        cut_off_by_and_by(frozenset((self.target,)), self.thread)

    def turns(self, count):
        for _ in range(count):
            self.loop.run_once(0)


class Target:
    cut = 0


def cut(members):
    return sum(member.is_cut for member in members)


def test_many_sessions_of_a_target_end_over_many_rounds():
    with Rig() as rig:
        members, stays = rig.members(3 * SLICE), Member(rig.thread, rig.other)
        rig.give_up()
        for rounds in (1, 2, 3):
            assert cut(members) == rounds * SLICE
            rig.turns(1)
        assert not stays.is_cut


def test_who_has_come_to_the_target_since_is_left_alone():
    with Rig() as rig:
        members = rig.members(2 * SLICE)
        rig.give_up()
        waiting = [member for member in members if not member.is_cut]
        again, moved, gone = waiting[:3]
        again.cut = rig.target.cut  # a client of mode http with its next request
        moved.target = rig.other
        rig.thread.members.discard(gone)
        late = Member(rig.thread, rig.target)
        rig.turns(2)
        assert [member.is_cut for member in (again, moved, gone, late)] == [False] * 4
        assert cut(members) == 2 * SLICE - 3


def test_a_bug_in_one_session_is_not_the_others_end():
    with Rig() as rig:
        members = [*rig.members(1, error=ValueError()), *rig.members(SLICE + 1)]
        rig.give_up()
        rig.turns(2)
        assert cut(members) == len(members)
        assert len(rig.errors) == 1
