"""What may be seen of a primary and of a key's target, and what may not; histories made from a model, and spoilt."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.history import Election, Move, Seen, key_fault, primary_fault


def held(*targets):
    """Elections of which is not known when."""
    return [Election(number, target) for number, target in enumerate(targets, 1)]


def test_sessions_beside_each_other_may_see_either():
    sessions = [Seen(0, 5, "q"), Seen(1, 4, "p"), Seen(6, 7, "q")]
    assert primary_fault(sessions, held(*"pq")) is None


def test_who_comes_later_sees_no_earlier_primary():
    late, early = Seen(2, 3, "p"), Seen(0, 1, "q")
    found = primary_fault([late, early], held(*"pq"))
    assert [one.what for one in found.operations] == [late]
    assert found.state == (2, "q")


def test_who_was_primary_before_may_be_elected_again():
    sessions = [Seen(0, 1, "p"), Seen(2, 3, "q"), Seen(4, 5, "p")]
    assert primary_fault(sessions, held(*"pqp")) is None
    assert primary_fault(sessions, held(*"pq")) is not None


def test_nobody_may_be_greeted_by_one_that_was_never_primary():
    assert primary_fault([Seen(0, 1, "s")], held(*"pq")) is not None


def test_a_session_that_was_asked_for_when_a_trigger_had_begun_is_not_greeted_by_the_former_primary():
    elections = [Election(1, "p", 0, 0.1), Election(4, "q", 5, 5.1)]
    assert primary_fault([Seen(1, 2, "p"), Seen(4.9, 6, "p")], elections) is None
    assert primary_fault([Seen(1, 2, "p"), Seen(5.2, 6, "p")], elections) is not None
    assert primary_fault([Seen(1, 2, "p"), Seen(5.2, 6, "q")], elections) is None
    assert primary_fault([Seen(1, 2, "p"), Seen(3, 4.9, "q")], elections) is not None, "its trigger has not run then"


def test_nobody_may_have_been_told_of_an_election():
    """The node that held it died before it had written who is primary."""
    elections = [Election(1, "p", 0, 0.1), Election(2, "q", 5, 5.1), Election(3, "r", 9, 9.1)]
    assert primary_fault([Seen(1, 2, "p"), Seen(10, 11, "r")], elections) is None
    assert primary_fault([Seen(1, 2, "p"), Seen(9.2, 11, "q")], elections) is not None


@st.composite
def primaries(draw):
    """Elections one after another, and sessions with whoever was primary at their moment."""
    at, elections, sessions = 0.0, [], []
    for epoch, target in enumerate(draw(st.lists(st.sampled_from("pqr"), min_size=1, max_size=5)), 1):
        elections.append(Election(epoch, target, at, at + 0.02))
        at += 1
        for _ in range(draw(st.integers(0, 4))):
            sessions.append(Seen(at - draw(st.floats(0, 3)), at + draw(st.floats(0, 3)), target))
            at += 1
    return sessions, elections, at


@given(primaries())
def test_what_one_primary_at_a_time_has_done_is_explained(history):
    sessions, elections, _ = history
    assert primary_fault(sessions, elections) is None
    assert primary_fault(sessions, held(*(one.target for one in elections))) is None


@given(primaries(), st.sampled_from("pqrs"))
def test_a_session_with_another_than_the_last_primary_is_found_after_all(history, target):
    sessions, elections, end = history
    late = Seen(end + 10, end + 11, target)
    assert (primary_fault([*sessions, late], elections) is None) is (target == elections[-1].target)


@given(primaries(), st.data())
def test_two_primaries_at_one_time_are_found(history, data):
    """A node goes on with a former one, while another one is served by the next."""
    sessions, elections, end = history
    former = data.draw(st.sampled_from("pqr"))
    new = data.draw(st.sampled_from([one for one in "pqr" if one != former]))
    late = [Election(100, former, end + 10, end + 11), Election(101, new, end + 20, end + 21)]
    both = [Seen(end + 21 + number, end + 21.5 + number, target) for number, target in enumerate([new, former])]
    assert primary_fault([*sessions, *both], [*elections, *late]) is not None
    assert primary_fault([*sessions, both[0]], [*elections, *late]) is None


# -- the target of a key

P, Q, R = (frozenset(one) for one in "pqr")


def test_a_key_has_one_target_but_for_moves_that_are_known():
    before, during, back, after = Seen(0, 1, "p"), Seen(2, 3, "q", "a"), Seen(2.5, 3.5, "p", "b"), Seen(6, 7, "q")
    everything = [before, during, back, after]
    assert key_fault(everything, [Move(2, 5, P)]) is None
    assert key_fault(everything, [Move(2, 5, R)]) is not None, "no key of p may move"
    assert key_fault([before, after], [Move(2, 5, P)]) is None
    assert key_fault([before, after], [Move(8, 9, P)]) is not None
    assert key_fault([*everything, Seen(8, 9, "p")], [Move(2, 5, P)]) is not None, "it has moved, and is back"
    assert key_fault([before, after._replace(asked=0.5)], []) is not None


def test_a_copy_may_be_late_while_a_key_moves_and_has_what_all_have_afterwards():
    moved = [Seen(0, 1, "p", "a"), Seen(3, 4, "q", "a")]
    assert key_fault([*moved, Seen(5, 6, "p", "b"), Seen(7, 8, "q", "b")], [Move(2, 9, P)]) is None
    assert key_fault([*moved, Seen(5, 6, "p", "b"), Seen(7, 8, "q", "b")], [Move(2, 4.5, P)]) is not None


def test_a_copy_that_was_late_goes_not_back():
    """Nor does that of the node which has moved the key."""
    moved = [Seen(0, 1, "p", "a"), Seen(3, 4, "q", "a")]
    assert key_fault([*moved, Seen(5, 6, "p", "a")], [Move(2, 9, P)]) is not None
    assert key_fault([*moved, Seen(5, 6, "q", "b"), Seen(7, 8, "p", "b")], [Move(2, 9, P)]) is not None
    assert key_fault([*moved, Seen(5, 6, "q", "b"), Seen(7, 8, "p", "b")], [Move(2, 9, P | Q)]) is None


def test_a_key_may_have_moved_though_nobody_has_seen_it():
    sessions = [Seen(0, 1, "p"), Seen(20, 21, "r")]
    assert key_fault(sessions, [Move(2, 5, P), Move(7, 9, Q)]) is None
    assert key_fault(sessions, [Move(2, 5, Q), Move(7, 9, R)]) is not None


def test_a_node_that_knows_nothing_of_the_others_has_one_target_of_its_own():
    apart = [Move(2, 9, frozenset(), "a")]
    known = Seen(0, 1, "p", "b")
    assert key_fault([known, Seen(3, 4, "q", "a"), Seen(5, 6, "p", "b"), Seen(10, 11, "p", "a")], apart) is None
    assert key_fault([known, Seen(3, 4, "q", "b")], apart) is not None
    assert key_fault([known, Seen(3, 4, "q", "a"), Seen(5, 6, "r", "a")], apart) is not None
    assert key_fault([known, Seen(3, 4, "q", "a"), Seen(10, 11, "q", "a")], apart) is not None


@st.composite
def keys(draw):
    """A key's target, which moves while it may, copies of it that come late, and sessions at three nodes."""
    at, target, sessions, moves = 0.0, "p", [Seen(0, 0.5, "p", "a")], []

    def greet(node, who):
        sessions.append(Seen(at - draw(st.floats(0, 0.4)), at + draw(st.floats(0, 0.4)), who, node))

    for _ in range(draw(st.integers(0, 3))):
        begin, old, is_late = at + 1, target, {node: draw(st.booleans()) for node in "abc"}
        at += 2
        if draw(st.booleans()):
            target = draw(st.sampled_from([one for one in "pqr" if one != old]))
            greet("a", target)
            is_late["a"] = False
            for _ in range(draw(st.integers(0, 5))):
                at += 1
                node = draw(st.sampled_from("abc"))
                is_late[node] = is_late[node] and draw(st.booleans())
                greet(node, old if is_late[node] else target)
        at += 1
        moves.append(Move(begin, at, frozenset(old)))
        for _ in range(draw(st.integers(0, 3))):
            at += 1
            greet(draw(st.sampled_from("abc")), target)
    return sessions, moves, at, target


@given(keys())
def test_what_a_key_has_done_is_explained(history):
    sessions, moves, _, _ = history
    assert key_fault(sessions, moves) is None


@given(keys(), st.sampled_from("abc"), st.sampled_from("pqr"))
def test_a_node_with_another_target_than_the_others_is_found_after_all(history, node, other):
    sessions, moves, end, target = history
    late = [Seen(end + 2, end + 3, target, "a"), Seen(end + 4, end + 5, other, node)]
    assert (key_fault([*sessions, *late], moves) is None) is (other == target)
