"""Checks that change while the program serves."""

import pytest

from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config, messages


def test_checks_of_a_targets_own_come_and_go(proxy, service):
    port, alive = free_port(), service()
    address = f"127.0.0.1:{port}"
    program = proxy(targets=[{"address": address, "health": []}, alive], health={"interval": 0.2, "timeout": 0.2})
    program.wait_log(f"target {alive.address} is up")
    file = Config(program)
    del file.app["targets"][0]["health"]
    assert any(f"target {address}: health: [] -> none" in line for line in messages(file.reload()))
    program.wait_log(f"target {address} is down .*refused")
    file.app["targets"][0]["health"] = {"port": alive.port, "interval": 0.2, "timeout": 0.2}
    file.reload()
    program.wait_log(f"target {address} is up.*{alive.port}: accepted")
    file.app["targets"][0]["health"] = {"port": free_port(), "interval": 0.2, "timeout": 0.2}
    before = len(program.lines)
    file.reload()
    program.wait_log(f"target {address} is down .*was up", since=before)
    file.app["targets"][0]["health"] = []
    file.reload()
    program.wait_log(f"target {address} is up.*not checked")


def http_service(service, status):
    """It answers every request with what `status[0]` says at that moment."""
    return service(answer=lambda _: b"HTTP/1.1 " + status[0] + b"\r\nContent-Length: 0\r\n\r\n")


CHECK = {"type": "http", "path": "/up", "interval": 60, "interval_down": 60, "timeout": 50}


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/other"},
        {"headers": {"X-Check": "1"}},
        {"status": 204},
        {"type": "exchange", "expect": "HTTP/1.1 200"},
        {"port": "ITS OWN"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_down_stays_down_until_its_new_check_has_succeeded(proxy, service, change):
    """The new check of the hung target has no result for a long time: nobody is sent there meanwhile."""
    status = [b"503 Starting"]
    ill, well = http_service(service, status), service(greeting=b"well", answer=lambda _: b"HTTP/1.1 200 OK\r\n\r\n")
    program = proxy(targets=[{"address": ill.address, "health": CHECK}, {"address": well.address, "health": []}])
    program.wait_log(f"target {ill.address} is down .*503")
    file = Config(program)
    changed = {**CHECK, **change}
    if changed["type"] == "exchange":
        del changed["path"]
    if change.get("port"):
        changed["port"] = ill.port
    ill.answer = lambda _: b""
    file.app["targets"][0]["health"] = changed
    before, asked = len(program.lines), ill.accepted
    file.reload()
    wait_until(lambda: ill.accepted > asked, "the new check asks")
    assert {program.connect().receive(4) for _ in range(6)} == {b"well"}
    assert f"target {ill.address} is up" not in "\n".join(program.lines[before:])
