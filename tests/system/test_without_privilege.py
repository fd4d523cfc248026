"""The program without a capability, as a plain user runs it: whatever closes a listener works, and no client is lost.

Linux refuses a filter on a TCP socket to a process without CAP_NET_ADMIN; a minimum TTL does the same for everybody.
"""

import pathlib
import re
import signal

import pytest

from kit import procfs
from kit.load import Load
from kit.peer import connect
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config as File


def has_no_capability(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"CapEff:\s*(\w+)", status)[1], 16) == 0


def test_a_signal_lets_sessions_finish_and_refuses_new_clients(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], plain=True)
    assert all(has_no_capability(pid) for pid in program.family())
    client, server = program.connect(), server_side.accept()
    program.signal(signal.SIGTERM)
    wait_until(lambda: not procfs.tcp_sockets(program.pid)["LISTEN"], "the listener is closed")
    with pytest.raises(OSError, match="refused"):
        connect(program.port, seconds=3)
    client.send(b"still here")
    server.expect(b"still here").send(b"so am I").fin()
    client.expect(b"so am I").expect_fin().fin()
    server.expect_fin()
    assert program.wait() == 0
    assert program.record()["reason"] == "done"
    assert not program.count_log("ERROR|Traceback")


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "*"])
def test_a_port_that_is_removed_under_load_loses_nobody(proxy, service, bind):
    """Each client whose connect succeeded has its answer; those of the port that stays notice nothing."""
    leaves, stays = free_port(), free_port()
    program = proxy(targets=[service()], ports=[leaves, stays], bind=bind, plain=True, top={"workers": 2})
    program.uncounted = None
    file = File(program)
    host = "::1" if bind == "::1" else "127.0.0.1"
    with Load(leaves, clients=6, host=host, connect_seconds=1.5) as gone, Load(stays, clients=2, host=host) as kept:
        for _ in range(5):
            gone.wait_sessions(50)
            file.app["ports"] = [stays]
            file.reload()
            file.app["ports"] = [leaves, stays]
            file.reload()
        kept.wait_sessions(20)
    assert gone.failed_in("session") == []
    assert kept.failures == []
    assert not program.count_log("ERROR|Traceback")


def test_workers_become_fewer_under_load_and_nobody_is_lost(proxy, service):
    program = proxy(targets=[service()], plain=True)
    program.uncounted = None
    file = File(program)
    with Load(program.port, clients=6) as load:
        file.config["workers"] = 3
        file.reload()
        wait_until(lambda: len(program.workers()) == 3, "they serve")
        load.wait_sessions(50)
        file.config["workers"] = 1
        file.reload()
        wait_until(lambda: len(program.workers()) == 1, "those too many have ended")
        load.wait_sessions(50)
    assert load.failures == []
    program.baseline.clear()  # the memory that has grown keeps a descriptor
