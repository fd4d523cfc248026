"""A hundred elections in a row under load: nobody hangs, nothing leaks, and there are never two primaries."""

import datetime
import itertools
import subprocess

import pytest

from kit import programs
from kit.api import Api, api_config
from kit.load import Load
from kit.ports import free_port
from kit.servers import Service
from kit.shell import write_script

ROUNDS = 100


class Web:
    """An nginx on a port of its own, to be killed and started again."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        (folder / "html").mkdir(parents=True)
        (folder / "nginx.conf").write_text(programs.NGINX.format(folder=folder, port=self.port))
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        flags = ["-p", self.folder, "-e", self.folder / "error.log", "-c", self.folder / "nginx.conf"]
        self.server = programs.Program([programs.need("nginx"), *flags], self.port, self.folder).wait_listening()

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    def close(self):
        self.server.close()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_primary_that_is_killed_and_comes_back_under_wrk(proxy, servers, tmp_path):
    webs = [Web(tmp_path / name) for name in ("one", "two")]
    for web in webs:
        servers.callback(web.close)
    program = proxy(
        targets=webs, balance="failover", health=[], failover={"max_backoff": 0}, top={"workers": 2, "access_log": None}
    )  # fmt: skip
    program.wait_log("epoch 1,")
    wrk = [programs.need("wrk"), "-t", "1", "-c", "8", "-d", "170", f"http://127.0.0.1:{program.port}/hello"]
    with subprocess.Popen(wrk, stdout=subprocess.DEVNULL) as load:
        try:
            for number, web in zip(range(ROUNDS), itertools.cycle(webs), strict=False):
                web.kill()
                program.wait_log(rf"epoch {number + 2},")
                web.start()
            client = program.connect()
            client.send(b"GET /hello HTTP/1.0\r\n\r\n")
            assert client.read_to_end().endswith(b"hello from nginx\n")
        finally:
            load.kill()
    assert program.count_log("is primary") == ROUNDS + 1
    assert program.count_log("ended: ") == 0  # no worker has been killed for it


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_never_two_primaries_while_both_are_well(proxy, servers, tmp_path):
    """Both answer all the time. Between the last client of one and the first of the other lies the trigger's time."""
    pause = 0.06
    trigger = write_script(tmp_path / "trigger", f"sleep {pause}")
    one, two = (servers.enter_context(Service(name)) for name in (b"one", b"two"))
    program = proxy(
        targets=[one, two], balance="failover", health=[], failover={"triggers": [trigger]},
        top={"workers": 2, "api": api_config()},
    )  # fmt: skip
    program.wait_log("epoch 1,")
    program.wait_ready()
    api = Api.of(program)
    with Load(program.port, clients=6, talk=lambda peer: peer.read_first()) as load:
        for number, target in zip(range(ROUNDS), itertools.cycle((two, one)), strict=False):
            api.post(f"/api/v1/apps/app/targets/{target.address}/promote", status=202)
            program.wait_log(rf"target {target.address} is primary \(epoch {number + 2},")
            load.wait_sessions(5)
    assert load.failures == []
    assert set(load.answers) == {b"one", b"two"}
    program.uncounted = None
    assert program.stop() == 0
    records = sorted((_connected(record), record["target"]) for record in program.records_now() if record["target"])
    changes = [after - before for (before, a), (after, b) in itertools.pairwise(records) if a != b]
    assert len(changes) == ROUNDS
    assert min(changes) > pause - 0.01


def _connected(record):
    """When it was sent to its target; the log's times are in milliseconds."""
    ended = datetime.datetime.fromisoformat(record["time"]).timestamp()
    return ended - record["seconds"] + record["connect_seconds"]
