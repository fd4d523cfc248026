"""The steps a session can take."""

from tcp_proxy.dataplane.session_state import DIALING, DONE, STEPS, State


def test_every_state_can_be_reached_and_can_end():
    reached, todo = set(), [DIALING]
    while todo:
        state = todo.pop()
        if state not in reached:
            reached.add(state)
            todo += STEPS[state]
    assert reached == set(State) == set(STEPS)
    assert STEPS[DONE] == ()
    assert all(DONE in steps for state, steps in STEPS.items() if state is not DONE)
