"""Targets that are ejected for what real clients met there, over two workers; and how they come back."""

import contextlib
import json
import threading
from collections import Counter

import pytest

from kit.api import Api, api_config
from kit.ctl import Ctl
from kit.dialogue import GET, head, status
from kit.ports import free_port
from kit.waiting import wait_until
from tests.system.test_reload import Config

LONG = 80_000  # seconds: nobody comes back within a test
OUT_FOR_GOOD = {"base_ejection_time": LONG, "max_ejection_time": LONG}


def message_of(line):
    return json.loads(line)["message"]


def ask(program, count):
    """Requests, each over a connection of its own, so that both workers have some: the bodies."""
    got = Counter()
    for _ in range(count):
        client = program.connect().send(GET)
        head(client)
        got[client.receive(1).decode()] += 1
        client.close()
    return got


def first_byte(program):
    """b"" when none comes soon: of a target that only a script answers for."""
    with program.connect() as client, contextlib.suppress(TimeoutError):
        return client.receive(1, 0.3)
    return b""


class Answers:
    """What a service answers, to be changed while it serves."""

    def __init__(self, body, status=200):
        self.body, self.status = body, status
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, _request):
        self.may_answer.wait(20)
        return b"HTTP/1.1 %d X\r\nContent-Length: 1\r\n\r\n%s" % (self.status, self.body)


def test_connects_that_fail_in_a_row_eject_a_target_that_nobody_checks(proxy, service):
    a, port = service(greeting=b"a"), free_port()
    top = {"api": api_config(), "workers": 2}
    outlier = {"consecutive_failures": 3, **OUT_FOR_GOOD}
    program = proxy(targets=[a, f"127.0.0.1:{port}"], outlier=outlier, top=top)
    for _ in range(12):
        assert program.connect().receive(1) == b"a"
    why = f"ejected for {LONG} s: 3 failed connects in a row, the last: connect: ECONNREFUSED"
    program.wait_log(rf"target 127.0.0.1:{port} is down \(was up\): {why}")
    api = Api.of(program)
    (_, target) = api.get("/api/v1/apps/app").json["targets"]
    assert (target["state"], target["why"], target["ejected"]) == ("down", why, why)
    assert why in Ctl.of(program)("status").text
    metrics = api.get("/metrics").text
    labels = f'target="127.0.0.1:{port}"'
    assert f'tcp_proxy_target_ejected{{app="app",{labels}}} 1.0' in metrics
    assert f'tcp_proxy_target_ejections_total{{app="app",cause="consecutive_failures",{labels}}} 1.0' in metrics


def test_resets_before_a_byte_eject_and_a_byte_of_anybody_begins_the_row_anew(proxy, service, target):
    a, bad = service(greeting=b"a"), target()
    program = proxy(targets=[bad, {"address": a.address, "backup": True}], outlier={
        "consecutive_failures": 3, "max_ejected": 100, **OUT_FOR_GOOD
    })  # fmt: skip

    def session(answer):
        client = program.connect().send(b"x")
        server = bad.accept().expect(b"x")
        if answer:
            server.send(b"y")
            client.expect(b"y")
            client.close()
            server.read_to_end()
            server.close()
        else:
            server.rst()
            client.expect_rst()
        program.records(len(program.clients))

    for answers in (False, False, True, False, False, False):
        session(answers)
    program.wait_log(r"is down \(was up\): ejected .* 3 resets before a byte in a row, the last: ECONNRESET before a byte")
    wait_until(lambda: first_byte(program) == b"a", "the workers hear of it")


@pytest.mark.parametrize("code", [500, 503])
def test_answers_of_500_and_above_eject_and_it_comes_back_slowly(http, service, code):
    bad = Answers(b"b", code)
    a, b = service(answer=Answers(b"a")), service(answer=bad)
    outlier = {"consecutive_failures": 5, "base_ejection_time": 0.5}
    program = http(a, b, outlier=outlier, slow_start=LONG, top={"api": api_config(), "workers": 2})
    ask(program, 14)
    why = f"ejected for 0.5 s: 5 failures in a row, the last: status {code}"
    program.wait_log(rf"target {b.address} is down \(was up\): {why}")
    bad.status = 200
    program.wait_log(rf"target {b.address} is up \(was down\): .*; it rises to its weight in {LONG} s")
    wait_until(lambda: "b" in ask(program, 25), "b has a client")
    assert 3 <= ask(program, 105)["b"] <= 7


def test_gateway_failures_are_counted_for_themselves(http, service):
    bad = Answers(b"b", 500)
    a, b = service(answer=Answers(b"a")), service(answer=bad)
    outlier = {"consecutive_failures": 0, "consecutive_gateway_failures": 3, **OUT_FOR_GOOD}
    program = http(a, b, outlier=outlier)
    assert ask(program, 20)["b"] == 10
    bad.status = 502
    ask(program, 6)
    program.wait_log("ejected for 80000 s: 3 gateway failures in a row, the last: status 502")


def test_a_target_that_does_not_answer_is_one_that_fails(http, service, target):
    bad = target()
    a = service(answer=Answers(b"a"))
    program = http(bad, {"address": a.address, "backup": True}, retries=0, outlier={
        "consecutive_failures": 2, "max_ejected": 100, **OUT_FOR_GOOD
    })  # fmt: skip
    for _ in range(2):
        client = program.connect().send(GET)
        server = bad.accept()
        head(server)
        server.close()
        assert status(client) == 502
    program.wait_log("ejected for 80000 s: 2 failures in a row, the last: the target closed its connection without an")


def test_a_late_answer_is_a_failure_whatever_it_says(http, service):
    late = Answers(b"b")
    a, b = service(answer=Answers(b"a")), service(answer=late)
    program = http(b, {"address": a.address, "backup": True}, outlier={
        "consecutive_failures": 1, "slower_than": 0.2, "max_ejected": 100, **OUT_FOR_GOOD
    })  # fmt: skip
    assert ask(program, 5) == {"b": 5}
    late.may_answer.clear()
    client = program.connect().send(GET)
    threading.Timer(0.5, late.may_answer.set).start()
    head(client)
    client.expect(b"b")
    program.wait_log(r"ejected for 80000 s: 1 failure in a row, the last: 200 after 0\.[5-9]\d* s")
    wait_until(lambda: ask(program, 3) == {"a": 3}, "the workers hear of it")


def test_a_success_rate_far_below_the_others_ejects(http, service):
    """Envoy's numbers: four that are well and one that is not."""
    bad, turn = Answers(b"e"), Counter()

    def sometimes(request):
        turn["e"] += 1
        bad.status = 200 if turn["e"] % 3 == 0 else 503
        return bad(request)

    well = [service(answer=Answers(name)) for name in (b"a", b"b", b"c", b"d")]
    e = service(answer=sometimes)
    outlier = {
        "consecutive_failures": 0, "interval": 2, "success_rate_request_volume": 1, **OUT_FOR_GOOD
    }  # fmt: skip
    program = http(*well, e, outlier=outlier, top={"workers": 2})
    wait_until(lambda: ask(program, 20) and program.count_log("is down"), "one is ejected")
    program.wait_log(rf"target {e.address} is down \(was up\): ejected for {LONG} s: a success rate of .* %")
    wait_until(lambda: "e" not in ask(program, 20), "the workers hear of it")


def test_no_more_are_out_than_max_ejected_and_never_the_last(proxy):
    ports = [free_port() for _ in range(3)]
    program = proxy(targets=[f"127.0.0.1:{port}" for port in ports], retries=3, outlier={
        "consecutive_failures": 2, "max_ejected": 50, **OUT_FOR_GOOD
    })  # fmt: skip
    for _ in range(8):
        program.connect().expect_rst()
    program.wait_log("is not ejected: .*; but 1 of 3 are ejected, and max_ejected is 50 %")
    assert program.count_log("ejected for") == 1
    file = Config(program)
    file.app["outlier"]["max_ejected"] = 100
    file.reload()
    wait_until(lambda: program.connect().expect_rst() and program.count_log("last one that is up"), "the last one is spared")
    assert program.count_log("ejected for") == 2
    del file.app["outlier"]
    lines = file.reload()
    assert len([line for line in lines if "is up (was down)" in message_of(line)]) == 2


def test_an_operator_takes_an_ejection_back(proxy, service):
    a, port = service(greeting=b"a"), free_port()
    outlier = {"consecutive_failures": 1, **OUT_FOR_GOOD}
    program = proxy(targets=[a, {"name": "b", "address": f"127.0.0.1:{port}"}], outlier=outlier, top={"api": api_config()})
    for _ in range(2):
        assert program.connect().receive(1) == b"a"
    program.wait_log(r"target b is down \(was up\): ejected")
    service(greeting=b"b", port=port)
    ctl = Ctl.of(program)
    ctl("disable", "app", "b")
    ctl("ready", "app", "b")
    wait_until(lambda: {program.connect().receive(1) for _ in range(2)} == {b"a", b"b"}, "b is used")
