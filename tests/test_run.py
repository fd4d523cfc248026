"""`make run`: echo targets for a configuration, the proxy, what to type; and one Ctrl-C that ends all of it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from kit.ports import free_port
from kit.procfs import children, is_running
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.config.load import load_file

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
    started = []

    def start(**top):
        path.write_text(json.dumps({**config, **top}))
        command = [sys.executable, "examples/run.py", str(path), "--dead", targets[2]]
        environment = {**os.environ, "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"}
        with output.open("w") as file:
            started.append(subprocess.Popen(command, cwd=HOME, env=environment, stdout=file, stderr=subprocess.STDOUT))
        return started[0], output.read_text

    yield start
    for program in started:
        program.terminate()  # it ends what it has started, which a kill would leave behind
        try:
            program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
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
    command = re.search(r"^    (\S+ \S+ ask \S+) ", output(), re.MULTILINE)[1]
    assert sorted(ask(command)) == sorted([str(ports["one"]), str(ports["two"])] * 3)
    everyone = family(program.pid)
    assert len(everyone) == 5, "this program, two echo targets, the proxy and its worker"
    program.send_signal(number)
    assert program.wait() == 0, output()
    wait_until(lambda: not any(is_running(pid) for pid in everyone), "the end of them all")
    assert "Traceback" not in output()


def test_the_dashboard_is_where_it_says_and_so_are_the_orders_on_a_terminal(start, ports):
    program, output = start(api={"listen": f"127.0.0.1:{free_port()}"})
    wait_until(lambda: "management API on" in output() and "ready:" in output(), output)
    page = re.search(r"^The dashboard: (\S+) ", output(), re.MULTILINE)[1]
    asked = urllib.request.Request(page, headers={"Accept": "text/html"})  # as a browser does
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        assert b"<title>tcp_proxy</title>" in answer.read()
    command = re.search(r"^    (\S+ -m tcp_proxy\.ctl .*?) +#", output(), re.MULTILINE)[1]
    done = subprocess.run(command.split(), cwd=HOME, capture_output=True, text=True, check=True)
    assert f"127.0.0.1:{ports['one']}" in done.stdout
    assert program.poll() is None


def test_the_shipped_configuration_has_a_dashboard():
    assert load_file(str(HOME / "config.json")).api is not None


def test_a_second_ctrl_c_ends_at_once_as_the_banner_says(start, ports):
    """A client that keeps its connection would have the rest of the time for itself."""
    import socket

    program, output = start()
    wait_until(lambda: "ready:" in output(), output)
    assert "a second Ctrl-C ends at once what still waits for its clients" in output()
    with socket.create_connection(("127.0.0.1", ports["listener"])) as client:
        client.settimeout(20)
        assert client.recv(100).startswith(b"this is ")
        everyone = family(program.pid)
        program.send_signal(signal.SIGINT)
        assert client.recv(100) == b""
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait() == 128 + signal.SIGTERM, output()
    wait_until(lambda: not any(is_running(pid) for pid in everyone), "the end of them all")


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


def test_a_reader_of_the_answers_that_has_seen_enough_is_no_error():
    echo = pathlib.Path(__file__).parents[1] / "examples" / "echo.py"
    with subprocess.Popen(
        [sys.executable, "-u", echo, "ask", "127.0.0.1:1", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as asking:
        asking.stdout.readline()
        asking.stdout.close()
        assert (asking.wait(30), asking.stderr.read()) == (0, b"")
