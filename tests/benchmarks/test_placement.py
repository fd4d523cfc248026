"""Processes share one CPU for as long as they are to, threads that are born meanwhile included."""

import os
import subprocess
import sys

from benchmarks.placement import on_one_cpu

CHILD = (
    "import sys, threading\n"
    "sys.stdin.readline(); threading.Thread(target=sys.stdin.read, daemon=True).start()\n"
    "print(flush=True); threading.Event().wait()\n"
)


def test_on_one_cpu():
    before = os.sched_getaffinity(0)
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        with on_one_cpu([process.pid]):
            assert os.sched_getaffinity(0) == os.sched_getaffinity(process.pid) == {max(before)}
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            tasks = [int(task) for task in os.listdir(f"/proc/{process.pid}/task")]
            assert [os.sched_getaffinity(task) for task in tasks] == [{max(before)}] * 2
        assert [os.sched_getaffinity(task) for task in [0, *tasks]] == [before] * 3
        process.kill()
