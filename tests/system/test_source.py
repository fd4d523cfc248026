"""Where the targets see connects come from: addresses of ours, and the client's own, in networks of the test's own with
the rules that docs/source.md shows."""

import json
import pathlib
import re
import shutil
import socket

import pytest

from kit.dialogue import GET, OK, head
from kit.networks import Networks
from kit.proxy import PROGRAM, Proxy, run_to_end
from kit.waiting import wait_until
from system.test_reload import Config, messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "source.md"
NFT, IPTABLES = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def seen(program, server):
    """The address that a target sees."""
    client = program.connect().send(b"x")
    end = server.accept()
    end.expect(b"x")
    address = end.sock.getpeername()[0]
    client.close()
    end.close()
    return address


def test_connects_come_from_the_app_s_source_or_the_target_s_own(proxy, target):
    one, two = target(), target()
    own = {"address": two.address, "source": "127.0.0.8", "weight": 1}
    program = proxy(targets=[one, own], source="127.0.0.2-127.0.0.3")
    clients = [program.connect().send(b"x") for _ in range(4)]
    ends = [server.accept() for server in (one, two) for _ in range(2)]
    addresses = [end.sock.getpeername()[0] for end in ends]
    assert sorted(addresses[:2]) == ["127.0.0.2", "127.0.0.3"]
    assert addresses[2:] == ["127.0.0.8"] * 2
    for end, client in zip(ends, clients, strict=True):
        end.close()
        client.close()


def test_health_checks_come_from_there_too(proxy, service):
    server = service()
    often = {"interval": 0.05, "interval_down": 0.05, "timeout": 0.05}
    program = proxy(targets=[server], source="127.0.0.4", health=[often])
    wait_until(lambda: len(server.addresses) > 2, "checks")
    assert {address[0] for address in server.addresses} == {"127.0.0.4"}
    program.uncounted = 0


def test_a_reload_changes_it(proxy, target):
    server = target()
    program = proxy(targets=[server], source="127.0.0.2", top={"workers": 2})
    file = Config(program)
    assert seen(program, server) == "127.0.0.2"
    for source, address in (("127.0.0.3", "127.0.0.3"), (None, "127.0.0.1"), (["127.0.0.5"], "127.0.0.5")):
        file.app["source"] = source
        assert "done" in messages(file.reload())[-1]
        assert seen(program, server) == address


def test_requests_after_a_reload_use_no_connection_that_comes_from_elsewhere(http, target):
    server = target()
    program = http(server, source="127.0.0.2")
    file = Config(program)
    client = program.connect()
    for address in ("127.0.0.2", "127.0.0.3"):
        client.send(GET)
        end = server.accept()
        assert end.sock.getpeername()[0] == address
        head(end)
        end.send(OK)
        client.receive(1)
        file.app["source"] = "127.0.0.3"
        file.reload()


def test_an_address_that_is_not_here_is_an_error_of_this_machine_and_said_by_check(proxy, service):
    program = proxy(targets=[service()], source="203.0.113.9", retries=0)
    program.connect().expect_rst()
    record = program.record()
    assert (record["reason"], record["tried"][0]["error"]) == ("connect_failed", "EADDRNOTAVAIL")
    done = run_to_end("--check", next(program.folder.glob("config-*.json")), cwd=program.folder)
    assert "source: 203.0.113.9 cannot be connected from: Cannot assign requested address" in done.stderr
    assert done.returncode == 0


# -- transparent


def test_without_the_privilege_it_is_refused_at_start_in_a_reload_and_by_check(proxy, service, tmp_path):
    server = service()
    program = proxy(targets=[server], plain=True)
    file = Config(program)
    file.app["transparent"] = True
    said = messages(file.reload())
    assert said[-2].startswith("SIGHUP: transparent needs CAP_NET_ADMIN")
    assert said[-1] == "SIGHUP: nothing was changed"
    failing = proxy(targets=[server], transparent=True, plain=True, ready=False)
    assert failing.wait() == 1
    assert "cannot start: transparent needs CAP_NET_ADMIN: start it as root" in failing.log


@pytest.fixture
def networks():
    for command in ("ip", "nft", "iptables"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    with Networks() as networks:
        networks.join("c", "10.201.1.2/24", "p", "10.201.1.1/24")
        networks.join("p", "10.201.2.1/24", "t", "10.201.2.2/24")
        networks.join("c", "fd00:201:1::2/64", "p", "fd00:201:1::1/64")
        networks.join("p", "fd00:201:2::1/64", "t", "fd00:201:2::2/64")
        networks.run("t", "ip", "route", "add", "default", "via", "10.201.2.1")
        networks.run("t", "ip", "-6", "route", "add", "default", "via", "fd00:201:2::1")
        networks.run("c", "ip", "addr", "add", "10.201.1.3/24", "dev", "v0a")
        yield networks


def listening(host):
    server = socket.create_server((host, 7000), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    server.settimeout(10)
    return server


def connected(host, source):
    return socket.create_connection((host, 8000), timeout=10, source_address=(source, 0))


def begun(networks, tmp_path, target, **app):
    """The program in the namespace of the proxy, which says its log in JSON."""
    one = {"name": "app", "bind": "*", "ports": [8000], "targets": [target], "transparent": True, "health": [], **app}
    top = {"workers": 2, "log": {"format": "json"}, "apps": [one]}
    return Proxy(top, tmp_path, program=("ip", "netns", "exec", networks.name("p"), *PROGRAM)).wait_ready()


CASES = [
    (NFT, "10.201.1.1", "10.201.1.2", "10.201.2.2"),
    (NFT, "fd00:201:1::1", "fd00:201:1::2", "fd00:201:2::2"),
    (IPTABLES, "10.201.1.1", "10.201.1.2", "10.201.2.2"),
]


@pytest.mark.parametrize(("rules", "host", "client", "target"), CASES, ids=["nft", "nft IPv6", "iptables"])
def test_a_target_sees_the_client_s_own_address(networks, tmp_path, rules, host, client, target):
    networks.run("p", "sh", "-e", "-c", rules)
    where = f"[{target}]:7000" if ":" in target else f"{target}:7000"
    program = begun(networks, tmp_path, where)
    try:
        with (
            networks.call("t", listening, target) as server,
            networks.call("c", connected, host, client) as sock,
        ):
            sock.sendall(b"question")
            end, address = server.accept()
            with end:
                assert address[0] == client
                assert end.recv(100) == b"question"
                end.sendall(b"answer")
                assert sock.recv(100) == b"answer"
        assert program.stop() == 0, program.log
    finally:
        program.kill()


def exchange(client, end):
    """The rest of one, whose request is sent."""
    end.settimeout(10)
    assert end.recv(4096).startswith(b"GET /x ")
    end.sendall(OK)
    assert client.recv(4096).startswith(b"HTTP/1.1 200")


def test_in_mode_http_no_client_has_another_s_connection(networks, tmp_path):
    networks.run("p", "sh", "-e", "-c", NFT)
    program = begun(networks, tmp_path, "10.201.2.2:7000", mode="http")
    try:
        with networks.call("t", listening, "10.201.2.2") as server:
            clients = [networks.call("c", connected, "10.201.1.1", source) for source in ("10.201.1.2", "10.201.1.3")]
            ends = []
            for client, source in zip(clients, ("10.201.1.2", "10.201.1.3"), strict=True):
                client.sendall(GET)
                end, address = server.accept()
                assert address[0] == source
                ends.append(end)
                exchange(client, end)
            for client, end in zip(clients, ends, strict=True):
                client.sendall(GET)
                exchange(client, end)
            for sock in (*clients, *ends):
                sock.close()
        assert program.stop() == 0, program.log
    finally:
        program.kill()


def test_a_client_of_the_other_kind_has_no_address_for_it(networks, tmp_path):
    program, ends = begun(networks, tmp_path, "10.201.2.2:7000", retries=0), ("fd00:201:1::1", "fd00:201:1::2")
    try:
        with (
            networks.call("t", listening, "10.201.2.2"),
            pytest.raises(ConnectionResetError),  # it may be there when the connect returns
            networks.call("c", connected, *ends) as client,
        ):
            client.sendall(b"x")
            client.recv(1)
        assert program.stop() == 0
    finally:
        program.kill()


def test_the_examples_of_the_page_are_right(tmp_path):
    for number, text in enumerate(re.findall(r"^```json\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)):
        (tmp_path / f"{number}.json").write_text(text)
        assert json.loads(text)["apps"]
        assert run_to_end("--check", f"{number}.json", cwd=tmp_path).returncode == 0
