"""flopsy's command line, as its users have it in their scripts."""

import json
import signal

import pytest

from kit.ports import free_port
from kit.proxy import Proxy, run_to_end
from kit.shell import write_script
from kit.waiting import wait_until


@pytest.fixture
def flopsy(tmp_path):
    """flopsy(*flags): the program, whose end is waited for."""
    running = []

    def start(*flags):
        running.append(program := Proxy(None, tmp_path, args=tuple(map(str, flags))))
        return program

    yield start
    for program in running:
        program.close_clients()
        program.check()
        program.kill()


def test_it_runs(flopsy, service, tmp_path):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    for name, body in (("ping.sh", "exit 0"), ("trigger", f"echo $1 >> {tmp_path}/out")):
        write_script(tmp_path / name, body)
    port = free_port()
    program = flopsy("-p", port, "-H", f"{one.address},{two.address}", "-c", "./ping.sh", "-f", "trigger", "-B", "0")
    program.wait_log(f"target {one.address} is primary")
    for host in ("127.0.0.1", "::1"):
        program.connect(port, host=host).expect(b"one")
    one.stop_listening()
    program.connect(port).expect(b"two")
    assert (tmp_path / "out").read_text().split() == [one.address, two.address]
    two.stop_listening()
    program.connect(port)
    program.wait_log("no target can be primary")

    def is_closed():
        try:
            program.connect(port).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(is_closed, "the port is closed")
    program.close_clients()
    assert program.stop() == 0


def test_it_reads_its_flags_again(flopsy, service, tmp_path):
    one = service(greeting=b"one")
    program = flopsy("-b", f"127.0.0.1:{free_port()}", "-H", one.address)
    program.wait_log("is primary")
    program.signal(signal.SIGHUP)
    program.wait_log("nothing is different")


def test_print_config(tmp_path):
    done = run_to_end("-p", "8080", "-H", "host1:8080,host2:8080", "-B", "3", "--print-config", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "config.json").write_text(done.stdout)
    (app,) = json.loads(done.stdout)["apps"]
    assert app["failover"] == {"while_electing": "refuse", "max_backoff": 3}
    assert run_to_end("--check", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("-p 8080", "the following arguments are required: -H/--hosts"),
        ("-H a:1", "the following arguments are required: -p/--port or -b/--bind"),
        ("-p 1 -b a:1 -H a:1", "not allowed with argument"),
        ("-p 70000 -H a:1", "'70000' is no port"),
        ("config.json -p 1 -H a:1", "argument config.json: not allowed"),
        ("-p 1 -H nohost", "the command line: --hosts: "),
        ("-p 1 -H a:1 -c ./missing", "the command line: --check-host: "),
        ("--print-config", "the following arguments are required"),
    ],
)
def test_usage_errors_are_2(tmp_path, flags, word):
    done = run_to_end(*flags.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr
