"""What `top` shows, in which order, and the keys that change it."""

import pytest

from tcp_proxy.ctl.choice import SORTS, Choice


def one(now=0, rate=0.0, moved=0.0, failed=0.0, requests=None, targets=None):
    found = {
        "sessions": {"current": now}, "sessions_per_second": rate, "bytes_up_per_second": moved,
        "bytes_down_per_second": moved, "connect_failures_per_second": failed,
    }  # fmt: skip
    if requests is not None:
        per_second, errors, p99 = requests
        found["requests"] = {
            "per_second": per_second, "statuses_per_second": {"5xx": errors}, "failures_per_second": 0,
            "seconds": {"p99": p99},
        }  # fmt: skip
    return found if targets is None else {**found, "targets": targets}


FRAME = {
    "apps": {
        "web": one(1, requests=(9, 0, None), targets={"w2": one(2, 1, 1, 0), "w1": one(1, 2, 2, 3)}),
        "api": one(3, 5, 7, 1, requests=(4, 2, 0.5), targets={"Web-1": one(), "other": one()}),
        "db": one(2, 6, 0, 5, targets={}),
    }
}


def shown(choice):
    return {name: list(app["targets"]) for name, app in choice.of(FRAME)["apps"].items()}


def press(choice, keys):
    assert all([choice.press(key) for key in keys])
    return choice


def test_as_in_the_file_and_everything_unless_said_otherwise():
    assert shown(Choice()) == {"web": ["w2", "w1"], "api": ["Web-1", "other"], "db": []}


@pytest.mark.parametrize(
    ("sort", "apps", "targets"),
    [
        ("name", ["api", "db", "web"], ["w1", "w2"]), ("now", ["api", "db", "web"], ["w2", "w1"]),
        ("rate", ["web", "db", "api"], ["w1", "w2"]), ("traffic", ["api", "web", "db"], ["w1", "w2"]),
        ("failures", ["db", "api", "web"], ["w1", "w2"]), ("latency", ["api", "web", "db"], ["w2", "w1"]),
    ],
)  # fmt: skip
def test_orders_have_the_most_first(sort, apps, targets):
    found = shown(Choice(sort))
    assert (list(found), found["web"]) == (apps, targets)
    assert list(shown(press(Choice(sort), "r"))) == apps[::-1]


def test_a_filter_means_apps_with_all_of_theirs_or_single_targets():
    assert shown(Choice(wanted="web")) == {"web": ["w2", "w1"], "api": ["Web-1"]}
    assert shown(Choice(wanted="nobody")) == {}


def test_keys():
    choice = press(Choice(), "s" * len(SORTS))
    assert choice.sort == SORTS[0]
    assert press(choice, "s").sort == SORTS[1]
    assert press(choice, "/qs").wanted == "qs"
    assert "filter: qs_" in choice.text()
    assert press(choice, "\x7fb\n").wanted == "qb"
    assert press(choice, "x\x1b").wanted == ""
    assert press(choice, "/a\x1b").wanted == ""
    assert not choice.press("q")
