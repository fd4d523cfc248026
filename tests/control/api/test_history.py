"""The last hour: rates between samples, percentiles, points in a ring, and the bounds of all that."""

import math

import pytest

from tcp_proxy.control.api import history as module
from tcp_proxy.control.api.history import COLUMNS, EVERY, History, Look, percentile

SAMPLED = ["sessions", "accepted", "requests", "up", "down", "failures", "errors", "retries", "connections"]
BOUNDS = [0.001, 0.01, 0.1]
T = 1_700_000_000.0


def row(sessions=0, accepted=0, up=0, buckets=(0, 0, 0, 0), errors=0):
    return [sessions, accepted, 0, up, 0, 0, errors, 0, 0, *buckets]


def app(own=None, targets=None, **more):
    states = {"up": 2, "draining": 0, "down": 0}
    return {
        "mode": "tcp", "states": states, "queue": None, "refused": 0, "statuses": None, "listeners": {},
        "row": own or row(), "targets": targets or {}, **more,
    }  # fmt: skip


def sample(sessions=0, accepted=0, **apps):
    buckets = {"tcp": BOUNDS, "http": BOUNDS}
    return {"columns": SAMPLED, "buckets": buckets, "sessions": sessions, "accepted": accepted, "apps": apps}


def named(values):
    return dict(zip(COLUMNS, values, strict=True))


@pytest.mark.parametrize(
    ("buckets", "share", "wanted"),
    [
        ((0, 0, 0, 0), 0.5, math.nan),
        ((), 0.5, math.nan),
        ((10, 0, 0, 0), 0.5, 0.0005),
        ((10, 0, 0, 0), 1.0, 0.001),
        ((5, 5, 0, 0), 0.5, 0.001),
        ((0, 10, 0, 0), 0.5, 0.0055),
        ((0, 0, 0, 10), 0.5, 0.1),
        ((1, 0, 0, 99), 0.01, 0.001),
    ],
)
def test_percentiles(buckets, share, wanted):
    assert percentile(BOUNDS, buckets, share) == pytest.approx(wanted, nan_ok=True)


def test_rates_are_those_since_the_sample_before():
    history = History()
    history.add(sample(web=app(row(1, 100, 1000, (5, 0, 0, 0)), {"a": row(1, 40)})), T)
    history.add(sample(3, 120, web=app(row(3, 120, 5000, (5, 10, 0, 0)), {"a": row(2, 44), "b": row(1, 6)})), T + 4)
    found = history.rates("web")
    assert (found["number"], found["at"], found["seconds"], found["columns"]) == (2, T + 4, 4, COLUMNS)
    web = named(found["apps"]["web"]["row"])
    assert (web["sessions"], web["sessions_per_second"], web["bytes_up_per_second"]) == (3, 5, 1000)
    assert (web["p50"], web["p90"]) == (0.0055, 0.0091)
    assert found["apps"]["web"]["states"] == {"up": 2, "draining": 0, "down": 0}
    assert named(found["targets"]["a"])["sessions_per_second"] == 1
    assert named(found["targets"]["b"])["sessions_per_second"] == 1.5, "it had counted nothing before"
    program = named(found["program"])
    assert (program["sessions"], program["sessions_per_second"], program["p99"]) == (3, 30, None)
    assert history.rates()["targets"] == {}


def test_the_first_sample_has_no_rates():
    history = History()
    history.add(sample(7, 500, web=app(row(7, 500))), T)
    web = named(history.rates()["apps"]["web"]["row"])
    assert (web["sessions"], web["sessions_per_second"], web["p50"]) == (7, 0, None)


def test_a_target_that_comes_back_begins_at_zero():
    before, now = (Look(sample(web=app(targets={"a": one})), T + n) for n, one in enumerate((row(0, 100), row(0, 3))))
    assert named(now.rates(("web", "a"), before))["sessions_per_second"] == 3


def test_points_are_made_each_ten_seconds_of_what_came_between():
    history = History()
    for second in range(0, 62, 2):
        history.add(sample(web=app(row(1, second * second))), T + second)
    found = history.points("web")
    assert (found["every"], found["mode"], found["kept"]) == (EVERY, "tcp", True)
    assert found["at"] == [T + second for second in (10, 20, 30, 40, 50, 60)]
    assert found["series"]["sessions_per_second"] == [10, 30, 50, 70, 90, 110]
    assert set(found["series"]) == set(COLUMNS)
    later = history.points("web", after=T + 40)
    assert (later["at"], later["series"]["sessions"]) == ([T + 50, T + 60], [1, 1])
    assert history.points()["at"] == found["at"], "the program's"


def grow(history, seconds, start=0, **apps):
    for second in range(start, start + seconds, 10):
        history.add(sample(**apps), T + second)


def test_no_more_than_an_hour_is_kept():
    history = History()
    for second in range(0, 8000, 10):
        history.add(sample(web=app(row(second))), T + second)
    found = history.points("web")
    assert len(found["at"]) == module.KEPT
    assert (found["at"][0], found["at"][-1]) == (T + 4400, T + 7990)
    assert found["series"]["sessions"] == list(range(4400, 8000, 10))


def test_after_a_gap_only_the_hour_is_told():
    history = History()
    grow(history, 100, web=app())
    history.add(sample(web=app()), T + 5000)
    assert history.points("web")["at"] == [T + 5000]


def test_what_comes_later_has_points_from_then_on_and_what_leaves_has_none():
    history = History()
    grow(history, 50, web=app())
    grow(history, 50, 50, web=app(targets={"a": row(1)}), shop=app())
    assert history.points("web", "a")["at"] == [T + second for second in (50, 60, 70, 80, 90)]
    assert len(history.points("web")["at"]) == 9
    assert history.points("web", "idle")["at"] == []
    grow(history, 20, 100, web=app())
    assert history.points("shop")["at"] == history.points("web", "a")["at"] == []
    assert not history.has_app("shop")


def test_there_are_so_many_series_and_no_more(monkeypatch):
    monkeypatch.setattr(module, "MOST_SERIES", 4)
    history = History()
    targets = {f"t{n}": row() for n in range(5)}
    grow(history, 30, web=app(targets=targets), shop=app())
    kept = [name for name in targets if history.points("web", name)["at"]]
    assert kept == ["t0"], "apps come before targets"
    assert history.points("web", "t4")["kept"] is False
    assert len(history.points("shop")["at"]) == 2


def test_a_clock_that_is_set_back_begins_anew():
    history = History()
    grow(history, 60, web=app())
    grow(history, 30, -5000, web=app())
    assert history.points("web")["at"] == [T - 4990, T - 4980]


def test_memory_is_bounded():
    assert module.MOST_SERIES * module.KEPT * len(COLUMNS) * 4 < 27e6
