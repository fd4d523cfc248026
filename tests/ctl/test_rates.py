"""What happens a second, from two looks at the statistics."""

from tcp_proxy.ctl.rates import KEPT, Rates, percentile


def counted(total, up=0, down=0, refused=0):
    return {
        "sessions": {"current": 1, "peak": 2, "total": total},
        "bytes": {"up": up, "down": down},
        "connect_failures": {"refused": refused, "other": 0},
    }


def statistics(total, **more):
    """One app with one target, which counts the same."""
    target = {"state": "up", **counted(total, **more)}
    app = {**counted(total, **more), "targets": {"t": target}}
    return {"version": "1", "started": 0, "workers_died": 0, "sessions": app["sessions"], "apps": {"a": app}}


def test_the_first_look_has_no_rates():
    frame = Rates().look(statistics(100), 0.0)
    assert frame["program"]["sessions_per_second"] == 0
    assert frame["apps"]["a"]["history"] == []
    assert frame["apps"]["a"]["targets"]["t"]["state"] == "up"


def test_rates_are_differences_by_time():
    rates = Rates()
    rates.look(statistics(100), 10.0)
    frame = rates.look(statistics(104, up=20, down=40, refused=2), 12.0)
    for one in (frame["program"], frame["apps"]["a"], frame["apps"]["a"]["targets"]["t"]):
        assert one["sessions_per_second"] == 2
        assert one["bytes_up_per_second"] == 10
        assert one["bytes_down_per_second"] == 20
        assert one["connect_failures_per_second"] == 1
        assert one["history"] == [2]


def test_a_program_that_was_started_again_begins_at_zero():
    rates = Rates()
    rates.look(statistics(100), 0.0)
    assert rates.look(statistics(5), 1.0)["program"]["sessions_per_second"] == 5


def test_the_history_is_bounded_and_goes_with_its_target():
    rates = Rates()
    for n in range(KEPT + 5):
        frame = rates.look(statistics(n), float(n))
    assert frame["apps"]["a"]["history"] == [1] * KEPT
    without = statistics(50)
    without["apps"]["a"]["targets"] = {}
    rates.look(without, 50.0)
    assert rates.look(statistics(51), 51.0)["apps"]["a"]["targets"]["t"]["history"] == []


# -- requests

BOUNDS = (0.001, 0.01, 0.1)


def requests(statuses, upto, count, retries=0, **more):
    """One app in mode http with nothing but requests."""
    times = {"bounds": list(BOUNDS), "upto": upto, "count": count, "sum": 1.0}
    statuses = {"none": 0, "2xx": 0, "4xx": 0, "5xx": 0, **statuses}
    of = {"statuses": statuses, "failures": 0, "connections": 3, "seconds": times}
    found = statistics(1, **more)
    found["apps"]["a"] |= {"requests": of, "connect_retries": retries, "targets": {}}
    return found


def test_percentiles_lie_between_the_bounds():
    known = BOUNDS, (50, 90, 100), 100
    assert percentile(*known, 0.25) == 0.0005
    assert percentile(*known, 0.5) == 0.001
    assert round(percentile(*known, 0.7), 6) == 0.0055
    assert round(percentile(*known, 0.95), 6) == 0.055
    assert percentile(*known, 1.0) == 0.1


def test_percentiles_of_nothing_and_above_everything():
    assert percentile(BOUNDS, (0, 0, 0), 0, 0.5) is None
    assert percentile(BOUNDS, (0, 0, 0), 5, 0.5) == 0.1
    assert percentile(BOUNDS, (0, 4, 4), 4, 0.01) < 0.01


def test_requests_a_second_and_the_times_of_those_since_the_look_before():
    rates = Rates()
    first = rates.look(requests({"2xx": 10}, (0, 0, 10), 10), 0.0)["apps"]["a"]["requests"]
    assert (first["per_second"], first["seconds"]["p50"] > 0.01) == (0, True)
    found = rates.look(requests({"2xx": 14, "5xx": 2}, (6, 6, 16), 16, retries=1), 2.0)["apps"]["a"]
    asked = found["requests"]
    assert (asked["per_second"], asked["statuses_per_second"]["5xx"], asked["retries_per_second"]) == (3, 1, 0.5)
    assert asked["seconds"]["p99"] < 0.001
    assert (asked["connections"], found["history"]) == (3, [3])


def test_requests_of_a_program_that_was_started_again_begin_at_zero():
    rates = Rates()
    rates.look(requests({"2xx": 100}, (100, 100, 100), 100), 0.0)
    asked = rates.look(requests({"2xx": 4}, (0, 4, 4), 4), 1.0)["apps"]["a"]["requests"]
    assert asked["per_second"] == 4
    assert 0.001 < asked["seconds"]["p50"] < 0.01
