"""Sources that are new are asked by the reload that brings them, which waits for none of them for long."""

import json
import socket

import pytest

from kit.dns_server import DnsServer
from tcp_proxy.config.load import load_text
from tcp_proxy.control.discovery import first_answers as module
from tcp_proxy.control.discovery.first_answers import first_answers

SRV = "srv:_db._tcp.example"


def config(*sources, **top):
    apps = [{"name": f"a{n}", "ports": [5001 + n], "targets": [source]} for n, source in enumerate(sources)]
    return load_text(json.dumps({"apps": apps, **top}).encode(), "x")


@pytest.fixture
def listed(tmp_path):
    """listed(text): the source of a list."""

    def write(text, name="list.json"):
        (tmp_path / name).write_text(text)
        return f"file:{tmp_path / name}"

    return write


def test_lists_that_nothing_is_known_of_are_read(listed):
    one, two = listed('["a:1"]'), listed('["b:1"]', "two.json")
    assert first_answers(config(one, one, two), {two: "[]"}) == {one: '["a:1"]'}
    assert first_answers(config("a:1"), {}) == {}


def test_who_has_nothing_to_say_is_left_out(listed, tmp_path):
    assert first_answers(config(listed("[")), {}) == {}
    assert first_answers(config(f"file:{tmp_path}/nowhere"), {}) == {}


def test_a_list_is_judged_for_every_app_that_has_it(listed):
    source = listed('[{"name": "g", "ports": {"5001": "b:1"}}]')
    assert first_answers(config(source), {}) != {}
    assert first_answers(config(source, source), {}) == {}


def test_the_dns_is_asked(tmp_path):
    with DnsServer(tmp_path) as dns:
        dns.serve("_db._tcp.example.", ["10 5 5432 db1.example."])
        file = config("srv:_no._tcp.example", SRV, nameservers=[dns.address])
        found = first_answers(file, {})
    assert [entry["address"] for entry in json.loads(found.pop(SRV))] == ["db1.example:5432"]
    assert found == {}


def test_a_dns_that_does_not_answer_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(module, "WAIT", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        assert first_answers(config(SRV, nameservers=[server]), {}) == {}
        for thread in [one for one in module.threading.enumerate() if one.name == "srv"]:
            silent.close()
            thread.join()
