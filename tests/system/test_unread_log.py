"""Standard error that nobody reads: a log collector that hangs, Ctrl-S in a terminal. The program does all of its work."""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.peer import connect
from kit.ports import free_port
from kit.proxy import PROGRAM, ROOT, WORKER
from kit.waiting import PATIENCE, wait_until

FILLER = b"-" * 63 + b"\n"


class Unread:
    """The program with a standard error that is a full pipe; `read()` is what a reader finds who comes at last."""

    def __init__(self, config, folder, stack, stdout=subprocess.DEVNULL):
        self.reader, writer = os.pipe()
        stack.callback(os.close, self.reader)
        assert fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096) == 4096
        self.filled = os.write(writer, FILLER * 64)
        path = folder / "config.json"
        path.write_text(json.dumps(config))
        self.process = subprocess.Popen(
            [*PROGRAM, str(path)], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=writer if stdout is None else stdout, stderr=writer, start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        stack.callback(self._end)

    def workers(self):
        return sorted(pid for pid, line in procfs.children(self.process.pid).items() if WORKER in line)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(3 * PATIENCE)  # the last lines of both logs have some seconds, all of them in vain

    def read(self):
        found = b"".join(iter(lambda: os.read(self.reader, 65536), b""))
        assert found[: self.filled] == FILLER * (self.filled // len(FILLER))
        return found[self.filled :].decode()

    def _end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def unread(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda config, **how: Unread(config, tmp_path, stack, **how)


def greeting(port):
    """What a new client is told first; b"" when it is not served."""
    with contextlib.suppress(OSError), contextlib.closing(connect(port)) as client:
        return client.read_first()
    return b""


def failover(first, second, **top):
    check = {"interval": 0.2, "timeout": 0.2, "fall": 1}
    app = {"name": "db", "ports": [free_port()], "balance": "failover", "targets": [first.address, second.address]}
    return {"workers": 1, "shutdown_grace": 1, "log": {"level": "debug"}, **top, "apps": [{**app, "health": check}]}


@pytest.mark.parametrize("stdout", [subprocess.DEVNULL, None], ids=["stderr", "both"])
def test_everything_goes_on_while_nobody_reads(unread, service, stdout):
    """Elections, the API, reloads, workers that die, the end; with the access log in the same pipe, too."""
    first, second = service(greeting=b"first"), service(greeting=b"second")
    more = {"access_log": "-"} if stdout is None else {}
    config = failover(first, second, api=api_config(), **more)
    port = config["apps"][0]["ports"][0]
    program = unread(config, stdout=stdout)
    wait_until(lambda: greeting(port) == b"first", "it serves")
    api = Api(int(config["api"]["listen"].rpartition(":")[2]))
    wait_until(lambda: _answers(api), "the API answers")
    for _ in range(3):
        api.post("/api/v1/reload")
    first.close()
    wait_until(lambda: greeting(port) == b"second", "the other one is primary")
    (worker,) = program.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: program.workers() not in ([], [worker]), "another worker")
    wait_until(lambda: greeting(port) == b"second", "it serves")
    assert api.get("/api/v1/status").json["state"] == "serving"
    assert program.stop() == 0


def _answers(api):
    with contextlib.suppress(OSError):
        return api.ask("GET", "/healthz").status == 200


def test_what_waits_is_written_when_somebody_reads(unread, service):
    server = service(greeting=b"first")
    config = failover(server, server)
    config["apps"][0]["targets"] = [server.address]
    program = unread(config)
    wait_until(lambda: greeting(config["apps"][0]["ports"][0]) == b"first", "it serves")
    os.read(program.reader, program.filled)
    program.filled = 0
    wait_until(lambda: select.select([program.reader], [], [], 0)[0], "the log goes on")
    assert program.stop() == 0
    lines = program.read().splitlines()
    assert any("ready: 1 app on" in line for line in lines)
    assert "stopped:" in lines[-1]


def test_a_worker_that_dies_with_a_word_of_its_own_is_in_the_log_and_nothing_waits_for_it(proxy, service):
    """What the interpreter itself says, as of a mistake that nobody caught, is a line of the log like all others."""
    program = proxy(targets=[service()])
    (worker,) = program.workers()
    os.kill(worker, signal.SIGABRT)
    line = json.loads(program.wait_log("Fatal Python error: Aborted"))
    assert line["message"].startswith(f"worker 0 (pid {worker}): ")
    program.wait_log("ended: SIGABRT")
    program.baseline.clear()
