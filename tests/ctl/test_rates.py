"""What happens a second, from two looks at the statistics."""

from tcp_proxy.ctl.rates import KEPT, Rates


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
