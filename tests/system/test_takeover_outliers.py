"""A target that clients' failures have ejected stays so when another program takes over."""

from kit.api import Api, api_config
from kit.ports import free_port
from kit.takeover import TOP, Succession

LONG = 80_000  # seconds: nobody comes back within a test


def test_who_is_ejected_stays_so(proxy, service, servers):
    well, port = service(greeting=b"a"), free_port()
    outlier = {"consecutive_failures": 3, "base_ejection_time": LONG, "max_ejection_time": LONG}
    targets = [well, f"127.0.0.1:{port}"]
    program = proxy(targets=targets, outlier=outlier, top={"workers": 1, **TOP, "api": api_config()})
    for _ in range(8):
        assert program.connect().receive(1) == b"a"
    why = f"ejected for {LONG} s: 3 failed connects in a row, the last: connect: ECONNREFUSED"
    program.wait_log(why)
    program.close_clients()
    line = Succession(program, servers)
    new = line.upgrade()
    new.wait_log("management API on")
    (_, target) = Api.of(new).get("/api/v1/apps/app").json["targets"]
    assert (target["state"], target["ejected"]) == ("down", why)
    service(greeting=b"b", port=port)  # it would answer, but nobody asks it
    for _ in range(6):
        assert new.connect().receive(1) == b"a"
    line.end()
