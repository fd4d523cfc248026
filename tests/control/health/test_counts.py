"""How checks came out: counted by kind and result, over threads; what has left is forgotten."""

import threading

from tcp_proxy.control.health.counts import ProbeCounts


def test_rounds_are_counted_by_check_and_result():
    counts = ProbeCounts()
    for success in (True, True, False, None):
        counts.add("web", "t0", "tcp", success)
    counts.add("web", "t0", "ping", True)
    counts.add("shop", "t0", "tcp", False)
    assert counts.of("web", "t0") == {
        "tcp": {"success": 2, "failure": 1, "error": 1}, "ping": {"success": 1, "failure": 0, "error": 0},
    }  # fmt: skip
    assert counts.of("shop", "t0") == {"tcp": {"success": 0, "failure": 1, "error": 0}}
    assert counts.of("shop", "t1") == {}
    assert repr(counts) == "<ProbeCounts of 2 targets>"


def test_targets_that_have_left_are_forgotten():
    counts = ProbeCounts()
    counts.add("web", "t0", "tcp", True)
    counts.add("web", "t1", "tcp", True)
    counts.keep({("web", "t1")})
    assert (counts.of("web", "t0"), bool(counts.of("web", "t1"))) == ({}, True)
    counts.forget("web", "t1")
    assert counts.of("web", "t1") == {}


def test_threads_of_several_apps_lose_nothing_while_somebody_reads():
    counts, begin = ProbeCounts(), threading.Barrier(5)

    def add(app):
        begin.wait(5)
        for number in range(5000):
            counts.add(app, f"t{number % 50}", "tcp", True)

    threads = [threading.Thread(target=add, args=(f"app{n}",), name=f"adder-{n}") for n in range(4)]
    for thread in threads:
        thread.start()
    begin.wait(5)
    while any(thread.is_alive() for thread in threads):
        counts.of("app0", "t0")
    found = {counts.of(f"app{n}", f"t{t}")["tcp"]["success"] for n in range(4) for t in range(50)}
    assert found == {100}


def test_a_target_with_another_name_keeps_its_counts():
    counts = ProbeCounts()
    counts.add("web", "old", "tcp", True)
    counts.add("web", "new", "tcp", True)
    counts.add("shop", "old", "tcp", True)
    counts.rename("web", "old", "new")
    found = [counts.of(*key).get("tcp", {}).get("success") for key in (("web", "new"), ("web", "old"), ("shop", "old"))]
    assert found == [2, None, 1]
