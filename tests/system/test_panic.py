"""The panic threshold in the running program: all checks fail, and clients are served all the same, by everybody."""

import contextlib

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.peer import Target
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config
from tests.system.test_slow_start import greetings


def test_with_everybody_down_everybody_serves_until_enough_are_up(proxy, service):
    checked = free_port()
    servers = [service(greeting=name) for name in (b"a", b"b", b"c")]
    health = {"port": checked, "interval": 0.2, "timeout": 0.15}
    top = {"api": api_config(), "workers": 2}
    program = proxy(targets=servers, health=health, panic=50, top=top)
    program.uncounted = None
    program.wait_log("panic: [01] of 3 targets are up, fewer than 50 %: all are used again")
    wait_until(lambda: set(greetings(program, 12)) == set("abc"), "all are used")
    api = Api.of(program)
    wait_until(lambda: {one["state"] for one in api.get("/api/v1/apps/app").json["targets"]} == {"down"}, "all are down")
    app = api.get("/api/v1/apps/app").json
    assert (app["panicking"], {one["forced"] for one in app["targets"]}) == (True, {True})
    assert 'tcp_proxy_app_panicking{app="app"} 1.0' in api.get("/metrics").text
    assert "panic: too few targets are up" in Ctl.of(program)("status").text
    file = Config(program)
    file.app["panic"] = 0
    file.reload()
    program.wait_log("panic is over: 0 of 3 targets are up")
    wait_until(lambda: not _is_served(program), "nobody is used")
    file.app["panic"] = 100
    file.reload()
    wait_until(lambda: set(greetings(program, 12)) == set("abc"), "all are used again")
    with _answering(checked):
        program.wait_log("panic is over: 3 of 3 targets are up")
        wait_until(lambda: not api.get("/api/v1/apps/app").json["panicking"], "the panic is over")
        assert set(greetings(program, 12)) == set("abc")


def _is_served(program):
    with contextlib.suppress(ConnectionError):
        return program.connect().read_first() != b""
    return False


@contextlib.contextmanager
def _answering(port):
    """The checks pass."""
    with Target(port=port, backlog=4096):
        yield
