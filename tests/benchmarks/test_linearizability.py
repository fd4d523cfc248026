"""The search finds an order where there is one, and none where there is none; it is held against a look at all orders."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.linearizability import NEVER, Operation, stuck

TIMES = st.integers(0, 8)
READS, WRITES = st.tuples(st.just("read"), st.integers(0, 2)), st.tuples(st.just("write"), st.integers(0, 2))


def register(state, what):
    """It holds what was written last."""
    kind, value = what
    if kind == "write":
        return [value]
    return [state] if state == value else []


def loose(state, what):
    """As a register, but a 2 that is written may be none: one operation, two states."""
    return {*register(state, what), state} if what == ("write", 2) else register(state, what)


def is_explained(operations, step):
    """By any order of all of them that their times allow."""
    for some in itertools.permutations(operations):
        if any(later.returned < earlier.invoked for earlier, later in itertools.combinations(some, 2)):
            continue
        states = {0}
        for one in some:
            states = {then for state in states for then in step(state, one.what)}
        if states:
            return True
    return False


def drawn_operation(one, other, is_over, what):
    return Operation(min(one, other), max(one, other) if is_over else NEVER, what)


OPERATIONS = st.lists(st.builds(drawn_operation, TIMES, TIMES, st.booleans(), READS | WRITES), max_size=5)


@given(OPERATIONS, st.sampled_from([register, loose]))
def test_it_finds_what_a_look_at_all_orders_finds(operations, step):
    assert (stuck(operations, 0, step) is None) is is_explained(operations, step)


@st.composite
def made(draw):
    """A history that a register has had: each operation took effect at a moment of its own, somewhere in its time."""
    state, operations = 0, []
    for moment, what in enumerate(draw(st.lists(READS | WRITES, max_size=25))):
        state = what[1] if what[0] == "write" else state
        before, after = draw(st.floats(0, 4)), draw(st.floats(0, 4))
        operations.append(Operation(moment - before, moment + after, (what[0], state)))
    return draw(st.permutations(operations)), state


@given(made())
def test_what_a_register_has_done_is_linearizable(history):
    assert stuck(history[0], 0, register) is None


@given(made(), st.integers(1, 2))
def test_a_read_of_what_is_not_there_is_found(history, other):
    """Of all that is over nothing comes behind a write that came after it."""
    operations, state = history
    late = [Operation(100, 101, ("write", state)), Operation(102, 103, ("read", (state + other) % 3))]
    found = stuck([*operations, *late], 0, register)
    assert found is not None
    assert found.operations == (late[1],)
    assert (found.state, found.done) == (state, len(operations) + 1)


@given(made(), st.data())
def test_one_read_that_saw_what_was_never_written_is_found(history, data):
    operations = list(history[0])
    reads = [number for number, one in enumerate(operations) if one.what[0] == "read"]
    if reads:
        number = data.draw(st.sampled_from(reads))
        operations[number] = operations[number]._replace(what=("read", 3))
        assert stuck(operations, 0, register) is not None


def test_an_operation_that_never_returned_may_have_been_done_or_come_last():
    write = Operation(0, NEVER, ("write", 1))
    old, new = Operation(2, 3, ("read", 0)), Operation(4, 5, ("read", 1))
    assert stuck([write, old, new], 0, register) is None
    assert stuck([write, old], 0, register) is None
    assert stuck([write, old._replace(invoked=6, returned=7), new], 0, register) is not None


def test_each_state_with_the_same_done_is_gone_on_from_once():
    """Twelve reads at once have 479,001,600 orders, and 4,096 sets of those that are done."""
    steps = []

    def step(state, what):
        steps.append(what)
        return register(state, what)

    together = [Operation(0, 10, ("read", 0)) for _ in range(12)]
    assert stuck([*together, Operation(11, 12, ("read", 1))], 0, step) is not None
    assert len(steps) == sum(1 for _ in powerset_steps(12)) + 1


def powerset_steps(count):
    """One for each set of those done and each one of the others."""
    return ((done, one) for done in range(1 << count) for one in range(count) if not done >> one & 1)
