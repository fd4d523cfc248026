"""kit.programs: each server starts, answers its own client, and ends; a missing program fails in CI."""

import pytest

from kit import programs
from kit.peer import connect
from kit.servers import Service

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
