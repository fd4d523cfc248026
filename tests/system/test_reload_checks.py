"""Checks that change while the program serves."""

from kit.ports import free_port
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
