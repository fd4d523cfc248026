"""Processes in /proc: whom it is right to reap, and that a reused number is nobody else."""

import os
import subprocess
import sys

import pytest

from kit import procfs
from kit.waiting import wait_until
from tcp_proxy.control import process_tree
from tcp_proxy.control.process_tree import Leaders, Process


def end_of(child):
    wait_until(lambda: procfs.is_zombie(child.pid), "its end")


def strangers(leaders):
    return [process.pid for process in leaders.strangers()]


@pytest.mark.parametrize("how", [{}, {"process_group": 0}], ids=["our group", "its own group"])
def test_what_is_in_our_session_is_left_to_who_waits_for_it(how):
    with subprocess.Popen([sys.executable, "-c", ""], **how) as child:
        end_of(child)
        assert child.pid not in strangers(Leaders())


def test_a_script_is_left_to_its_thread():
    leaders = Leaders()
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as child:
        end_of(child)
        assert child.pid in strangers(leaders)
        leaders.add(child.pid)
        assert child.pid not in strangers(leaders)
        leaders.discard(child.pid)
        with leaders.starting():  # perhaps it is the one
            assert strangers(leaders) == []
        assert child.pid in strangers(leaders)


def test_nobody_else_is_signalled():
    """The same number, another start."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as child:
        (seen,) = process_tree._look_at([child.pid])
        stranger = Process(seen.pid, False, seen.session, seen.started - 1)
        assert process_tree._signal(stranger, 9) == 0
        assert process_tree._signal(seen, 0) == 1
        child.communicate(b"\n")
        assert child.returncode == 0
    assert process_tree._signal(seen, 0) == 0


def test_a_process_that_is_gone_has_nobody():
    with subprocess.Popen(["true"]) as child:
        pass
    assert list(process_tree._descendants([child.pid])) == []
    assert process_tree._children(child.pid) == []
    assert os.getpid() in {process.pid for process in process_tree._descendants([os.getpid()])}
