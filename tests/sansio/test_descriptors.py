"""Marks that follow the limit: a worker that has paused always goes on, and what is named is what it can serve."""

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.descriptors import MIN_ROOM, MIN_SESSIONS, PER_SESSION, RESERVE, marks

ROOMS = st.integers(min_value=0, max_value=3000)


@given(room=ROOMS)
def test_the_marks_can_be_reached_in_any_room(room):
    found = marks(room)
    assert 0 <= found.pause_at <= found.resume_at <= room
    assert found.pause_at <= RESERVE
    assert found.sessions * PER_SESSION + found.pause_at <= room


def test_where_the_limit_is_not_small_the_marks_are_64_and_128():
    assert marks(256) == (64, 128, 96)
    assert marks(20_000) == (64, 128, 9968)


def test_the_least_room_serves_the_least_sessions_and_one_descriptor_less_does_not():
    assert marks(MIN_ROOM).sessions == MIN_SESSIONS
    assert marks(MIN_ROOM - 1).sessions < MIN_SESSIONS


@given(room=ROOMS, steps=st.lists(st.booleans(), max_size=200))
def test_whatever_comes_and_goes_a_worker_without_sessions_accepts(room, steps):
    """The rule of dataplane.server with clients that come (True) and sessions that end (False)."""
    found = marks(room)
    sessions, paused = 0, False
    for comes in steps:
        free = room - PER_SESSION * sessions
        paused = paused or free < found.pause_at
        if paused and free >= found.resume_at:
            paused = False
        if comes and not paused:
            sessions += 1
        elif not comes and sessions:
            sessions -= 1
        assert sessions <= found.sessions + 1
    assert room >= found.resume_at, "when the last one has ended"
