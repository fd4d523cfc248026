"""`make run`: echo targets for a configuration, the proxy, what to type; and one Ctrl-C that ends all of it."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from kit.ports import free_port
from kit.procfs import children, is_running
from kit.waiting import wait_until

HOME = pathlib.Path(__file__).parents[1]


@pytest.fixture
def ports():
    return {name: free_port() for name in ("listener", "one", "two", "dead")}


@pytest.fixture
def start(tmp_path, ports):
    """start(): the program, its output as one text; ended for certain."""
    targets = [f"127.0.0.1:{ports[name]}" for name in ("one", "two", "dead")]
    config = {"workers": 1, "apps": [{"name": "try", "ports": [ports["listener"]], "targets": targets}]}
    path, output = tmp_path / "config.json", tmp_path / "output"
    path.write_text(json.dumps(config))
    started = []

    def start():
        command = [sys.executable, "examples/run.py", str(path), "--dead", targets[2]]
        environment = {**os.environ, "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"}
        with output.open("w") as file:
            started.append(subprocess.Popen(command, cwd=HOME, env=environment, stdout=file, stderr=subprocess.STDOUT))
        return started[0], output.read_text

    yield start
    for program in started:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        program.wait()


def family(pid):
    return [pid, *(one for child in children(pid) for one in family(child))]


def ask(command):
    done = subprocess.run(command.split(), cwd=HOME, capture_output=True, text=True, check=True)
    return re.findall(r"this is \S+:(\d+)", done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_balances_as_it_says_and_one_signal_ends_everything(start, ports, number):
    program, output = start()
    wait_until(lambda: "ready:" in output(), output)
    wait_until(lambda: f"target 127.0.0.1:{ports['dead']} is down" in output(), output)
    command = re.search(r"^    (python3 \S+ ask \S+) ", output(), re.MULTILINE)[1]
    assert sorted(ask(command)) == sorted([str(ports["one"]), str(ports["two"])] * 3)
    everyone = family(program.pid)
    assert len(everyone) == 5, "this program, two echo targets, the proxy and its worker"
    program.send_signal(number)
    assert program.wait() == 0, output()
    wait_until(lambda: not any(is_running(pid) for pid in everyone), "the end of them all")
    assert "Traceback" not in output()


def test_a_proxy_that_cannot_start_leaves_nothing_running(start, ports):
    import socket

    with socket.create_server(("127.0.0.1", ports["listener"])):
        program, output = start()
        assert program.wait() == 1, output()
    assert f"cannot listen on 127.0.0.1:{ports['listener']}" in output()
    with socket.create_server(("127.0.0.1", ports["one"])):
        pass


def test_a_target_s_port_in_use_is_one_line(start, ports):
    import socket

    with socket.create_server(("127.0.0.1", ports["two"])):
        program, output = start()
        assert program.wait() == 1
    assert output() == f"echo: cannot listen on 127.0.0.1:{ports['two']}: Address already in use\n"


def test_echo_targets_end_when_whoever_started_them_was_killed(start):
    program, output = start()
    wait_until(lambda: "ready:" in output(), output)
    commands = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_text() for pid in family(program.pid)}
    echoes = [pid for pid, command in commands.items() if "echo.py" in command]
    proxy = next(pid for pid, command in commands.items() if "\0tcp_proxy\0" in command)
    assert len(echoes) == 2
    program.kill()
    wait_until(lambda: not any(is_running(pid) for pid in echoes), "the end of the echo targets")
    os.kill(proxy, signal.SIGTERM)
    wait_until(lambda: not any(is_running(pid) for pid in commands if pid != program.pid), "the proxy's end")
