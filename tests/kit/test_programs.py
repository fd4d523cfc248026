"""kit.programs: each server starts, answers its own client, and ends; a missing program fails in CI."""

import pytest

from kit import programs
from kit.peer import connect
from kit.servers import Service
from kit.waiting import wait_until
from kit.wrk import Wrk

pytestmark = pytest.mark.slow


@pytest.fixture
def ended():
    """Registers a program so that it is ended."""
    started = []

    def keep(program):
        started.append(program)
        return program.wait_listening()

    yield keep
    for program in started:
        program.close()


def test_nginx_answers_curl(ended, tmp_path):
    server = ended(programs.nginx(tmp_path))
    assert programs.run("curl", "-s", f"http://{server.address}/hello") == "hello from nginx\n"
    assert programs.nginx_requests(server) == 2


def test_redis_answers(ended, tmp_path):
    server = ended(programs.redis(tmp_path))
    with connect(server.port) as client:
        client.send(b"PING\r\n").expect(b"+PONG\r\n")


def test_postgres_answers_psql(ended, tmp_path):
    server = ended(programs.postgres(tmp_path))
    answer = programs.run("psql", "-h", "127.0.0.1", "-p", server.port, "-U", "postgres", "-Atc", "select 6 * 7")
    assert answer == "42\n"


def test_haproxy_relays(ended, tmp_path):
    times = "timeout client 5s\n timeout server 5s\n timeout connect 1s"
    text = f"defaults\n {times}\nlisten l\n bind 127.0.0.1:{{port}}\n server s "
    with Service(greeting=b"behind") as service:
        server = ended(programs.haproxy(tmp_path, f"{text}{service.address}\n"))
        with connect(server.port) as client:
            client.expect(b"behind")


def test_a_missing_program_fails_in_ci_and_skips_elsewhere(monkeypatch):
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        programs.need("no-such-program")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        programs.need("no-such-program")


@pytest.mark.parametrize("kept", [True, False])
def test_wrk_goes_on_until_told_to_stop(ended, tmp_path, kept):
    server = ended(programs.nginx(tmp_path))
    with Wrk(server.port, tmp_path, kept=kept) as wrk:
        wait_until(lambda: programs.nginx_requests(server) > 100, "requests")
    assert wrk.requests > 90
    assert wrk.failed == 0


@pytest.mark.parametrize("ends", ["after the request", "in the middle of the answer"])
def test_wrk_counts_every_failure(service, tmp_path, ends):
    cut = b"" if ends == "after the request" else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    server = service(greeting=cut, hang_up=True)
    with Wrk(server.port, tmp_path, failures=None) as wrk:
        wait_until(lambda: server.accepted > 20, "failures")
    assert wrk.requests == 0
    assert wrk.errors["read"] > 0
    with pytest.raises(AssertionError, match="0 requests"), Wrk(server.port, tmp_path):
        wait_until(lambda: server.accepted > 40, "failures")
