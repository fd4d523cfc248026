"""Events: numbered, kept to a limit, told to observers."""

from tcp_proxy.control.events import KEPT, Event, Events


def test_events_are_numbered_and_dated():
    events = Events(lambda: 7.5)
    events.publish("target", {"state": "down"})
    events.publish("reload", {"ok": True})
    assert list(events.kept) == [Event(1, 7.5, "target", {"state": "down"}), Event(2, 7.5, "reload", {"ok": True})]
    assert "2 so far" in repr(events)


def test_the_last_ones_are_kept_and_numbers_go_on():
    events = Events()
    for n in range(KEPT + 5):
        events.publish("n", {"n": n})
    assert len(events.kept) == KEPT
    assert events.kept[0].number == 6
    assert [event.number for event in events.since(KEPT + 3)] == [KEPT + 4, KEPT + 5]
    assert events.since(0) == list(events.kept)
    assert events.since(KEPT + 5) == []


def test_a_number_of_an_earlier_life_has_missed_everything():
    events = Events()
    events.publish("worker", {})
    assert events.since(500) == list(events.kept)


def test_observers_hear_everything_until_they_leave_even_while_being_told():
    events = Events()
    heard = []
    leave = events.observe(lambda event: (heard.append(("one", event.number)), leave()))
    events.observe(lambda event: heard.append(("two", event.number)))
    events.publish("a", {})
    events.publish("b", {})
    assert heard == [("one", 1), ("two", 1), ("two", 2)]
