"""`make run-cluster`: three proxies that are one; what it says to type works, and one Ctrl-C ends all of it."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from kit.ports import free_ports
from kit.procfs import children, is_running
from kit.waiting import PATIENCE, wait_until

HOME = pathlib.Path(__file__).parents[1]


@pytest.fixture
def started(tmp_path):
    """The program, and its output as one text; ended for certain."""
    output = tmp_path / "output"
    command = [sys.executable, "examples/cluster.py", "--ports", ",".join(map(str, free_ports(11)))]
    environment = {**os.environ, "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)}
    with output.open("w") as file:
        program = subprocess.Popen(command, cwd=HOME, env=environment, stdout=file, stderr=subprocess.STDOUT)
    yield program, output.read_text
    program.terminate()
    try:
        program.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


def family(pid):
    return [pid, *(one for child in children(pid) for one in family(child))]


def say(command):
    done = subprocess.run(command.split(), cwd=HOME, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def nodes(command):
    return re.findall(r"^(one|two|three) ", say(command), re.MULTILINE)


def is_draining(command):
    return re.search(r"\bt1\b.*\bdrain", say(command))


def test_what_it_says_to_type_works_and_one_signal_ends_everything(started):
    program, output = started
    wait_until(lambda: output().count("ready:") == 3, output)
    lines = re.findall(r"^    (.*?) +# ", output(), re.MULTILINE)
    cluster, ask, other, drain, status, kill, again = lines
    wait_until(lambda: nodes(cluster) == ["one", "three", "two"], "all three")
    assert "has another configuration" not in say(cluster)
    whose = set(re.findall(r"this is (\S+)", say(ask)))
    assert set(re.findall(r"this is (\S+)", say(other))) == whose
    assert len(whose) == 1, "the client belongs to one target, on every proxy"
    say(drain)
    wait_until(lambda: is_draining(status), lambda: f"known to the others: {say(status)}")
    everyone = family(program.pid)
    ready = re.findall(r"ready: .* process (\d+)", output())
    assert kill.startswith("kill -9 ")
    first = next(pid for pid in map(int, ready) if b"one.json" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: "node one is gone" in output(), output)
    back = subprocess.Popen(again.split(), cwd=HOME, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: nodes(status.replace("status web", "cluster")) == ["one", "three", "two"], "it is back")
        wait_until(lambda: is_draining(drain.replace("drain web t1", "status web")), "and knows all that")
    finally:
        back.terminate()
        back.communicate()
    program.send_signal(signal.SIGINT)
    assert program.wait() == 0, output()
    wait_until(lambda: not any(is_running(pid) for pid in everyone), "the end of them all")
    assert "Traceback" not in output()
