"""sticks, stick and unstick, of a real program."""

import socket

from kit.api import api_config
from kit.ctl import Ctl
from kit.waiting import wait_until


def ask(program, source):
    with socket.create_connection(("127.0.0.1", program.port), timeout=20, source_address=(source, 0)) as client:
        return client.recv(2, socket.MSG_WAITALL).decode()


def test_who_belongs_where(proxy, service):
    targets = [{"address": service(greeting=f"t{n}".encode()).address, "name": f"t{n}"} for n in range(2)]
    program = proxy(targets=targets, sticky={}, top={"api": api_config()})
    program.uncounted = None
    ctl = Ctl.of(program)
    assert ctl("sticks", "app").text.splitlines()[-1] == "0 of at most 100000 keys, 0 in use"
    home = {source: ask(program, source) for source in ("127.0.0.1", "127.0.0.2")}
    wait_until(lambda: not ctl.json("sticks", "app", "--in-use"), "nobody is there")
    head, one, two, last = ctl("sticks", "app").text.splitlines()
    assert head.split()[:3] == ["key", "target", "sessions"]
    assert [line.split()[:3] for line in (one, two)] == [[source, name, "no"] for source, name in home.items()]
    assert last == "2 of at most 100000 keys, 0 in use: t0 1, t1 1"
    assert "there are more" in ctl("sticks", "app", "--limit", "1").errors
    assert [entry["key"] for entry in ctl.json("sticks", "app", "--contains", ".2")] == ["127.0.0.2"]
    other = "t1" if home["127.0.0.1"] == "t0" else "t0"
    assert ctl.json("stick", "app", "127.0.0.1", other)["target"] == other
    assert other in ctl("stick", "app", "127.0.0.1").text
    assert ctl("unstick", "app", "127.0.0.1").text == "app app: 1 key forgotten\n"
    assert "knows no key" in ctl("unstick", "app", "127.0.0.1", status=1).errors
    assert ctl("unstick", "app", "--target", home["127.0.0.2"]).text == "app app: 1 key forgotten\n"
    assert ctl("unstick", "app", "--all").text == "app app: 0 keys forgotten\n"
    assert "wanted a KEY" in ctl("unstick", "app", status=2).errors
