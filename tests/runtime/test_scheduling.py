"""A policy is a thread's own, and what cannot be had is done without."""

import os
import threading

from tcp_proxy.runtime import scheduling


def in_a_thread(call):
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def policy_after_it():
    scheduling.wait_for_turn()
    return os.sched_getscheduler(0)


def test_the_thread_that_asks_waits_for_its_turn_and_no_other():
    before = os.sched_getscheduler(0)
    assert in_a_thread(policy_after_it) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before


def test_a_thread_that_was_given_another_policy_keeps_it():
    def idle():
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return policy_after_it()

    assert in_a_thread(idle) == os.SCHED_IDLE


def test_where_it_is_not_to_be_had_nothing_changes(monkeypatch):
    def refused(*_):
        raise OSError("Function not implemented")

    before = os.sched_getscheduler(0)
    monkeypatch.setattr(os, "sched_setscheduler", refused)
    assert in_a_thread(policy_after_it) == before
