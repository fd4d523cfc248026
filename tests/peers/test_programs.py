"""Real clients and real servers, with the proxy between them: nothing they do may look different."""

import hashlib
import os
import re

import pytest

from kit import programs
from kit.load import Load
from kit.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def behind(proxy, servers):
    """behind(program, …): (proxy in front of a started program, its port). Sessions are the program's to count."""

    def start(*started, **how):
        for program in started:
            servers.callback(program.close)
            program.wait_listening()
        front = proxy(targets=list(started), **how)
        front.uncounted = None
        return front, front.port

    return start


def records_when_all_is_over(front):
    wait_until(lambda: front.sockets() == 0, "the end of all sessions")
    assert front.stop() == 0
    return front.records_now()


# -- nginx


def test_curl_gets_a_page(behind, tmp_path):
    front, port = behind(programs.nginx(tmp_path))
    url = f"http://127.0.0.1:{port}/hello"
    assert programs.run("curl", "-sS", url, url, url) == "hello from nginx\n" * 3
    (record,) = records_when_all_is_over(front)
    assert record["reason"] == "done"


def test_curl_downloads_and_uploads_100_mb(behind, tmp_path):
    server = programs.nginx(tmp_path)
    data = os.urandom(1 << 20) * 100
    (tmp_path / "nginx" / "html" / "big").write_bytes(data)
    (tmp_path / "up").write_bytes(data)
    front, port = behind(server)
    programs.run("curl", "-sS", "-o", tmp_path / "down", f"http://127.0.0.1:{port}/big")
    with open(tmp_path / "down", "rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()
    answer = programs.run("curl", "-sS", "--data-binary", f"@{tmp_path / 'up'}", f"http://127.0.0.1:{port}/upload")
    assert answer == f"got {len(data)}\n"
    records = records_when_all_is_over(front)
    assert {record["reason"] for record in records} == {"done"}
    assert records[0]["bytes_down"] > len(data)
    assert records[1]["bytes_up"] > len(data)


def test_curl_that_is_cut_off_resets_the_session(behind, tmp_path):
    server = programs.nginx(tmp_path)
    (tmp_path / "nginx" / "html" / "big").write_bytes(bytes(200 << 20))
    front, port = behind(server)
    limits = ["-m", "0.5", "--limit-rate", "1M", "-o", "/dev/null"]
    programs.run("curl", "-sS", *limits, f"http://127.0.0.1:{port}/big", status=28)
    (record,) = records_when_all_is_over(front)
    assert (record["reason"], record["ended_by"]) == ("client_reset", "client")


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("workers", [1, 2])
def test_wrk_sees_no_error(behind, tmp_path, close, workers):
    front, port = behind(programs.nginx(tmp_path), top={"workers": workers})
    header = ["-H", "Connection: close"] if close else []
    report = programs.run("wrk", "-t1", "-c50", "-d2", *header, f"http://127.0.0.1:{port}/hello")
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    requests = int(re.search(r"(\d+) requests in", report)[1])
    records = records_when_all_is_over(front)
    assert requests > 200
    assert len({record["id"] for record in records}) == len(records)
    assert {record["reason"] for record in records} <= {"done", "client_reset", "client_gone"}
    if close:
        assert len(records) >= requests
    else:
        assert len(records) <= 100


def test_wrk_over_two_nginx_is_shared_evenly(behind, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    front, port = behind(*[programs.nginx(folder) for folder in folders])
    programs.run("wrk", "-t1", "-c20", "-d1", "-H", "Connection: close", f"http://127.0.0.1:{port}/hello")
    targets = [record["target"] for record in records_when_all_is_over(front)]
    counts = [targets.count(name) for name in set(targets)]
    assert len(counts) == 2
    assert abs(counts[0] - counts[1]) <= 1


# -- Redis


def test_redis_benchmark(behind, tmp_path):
    front, port = behind(programs.redis(tmp_path))
    plain = ["-n", "5000", "-c", "20", "-t", "set,get,lpush"]
    pipelined = ["-n", "20000", "-c", "10", "-P", "50", "-d", "2000", "-t", "get,set"]
    for how in (plain, pipelined):
        report = programs.run("redis-benchmark", "-p", port, "-q", *how, seconds=50)
        assert "requests per second" in report
        assert "error" not in report.lower()
    reasons = {record["reason"] for record in records_when_all_is_over(front)}
    assert reasons <= {"done", "client_reset", "target_reset"}


def test_redis_big_values_come_back_whole(behind, tmp_path):
    front, port = behind(programs.redis(tmp_path))
    value = os.urandom(8 << 20)
    client = front.connect(port)
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (len(value), value)).expect(b"+OK\r\n")
    client.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    client.expect(b"$%d\r\n" % len(value))
    assert client.receive(len(value) + 2) == value + b"\r\n"


# -- PostgreSQL


@pytest.fixture
def database(tmp_path):
    return programs.postgres(tmp_path)


def psql(port, query, **how):
    return programs.run("psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-Atc", query, **how)


def test_psql_and_pgbench(behind, database):
    front, port = behind(database)
    assert psql(port, "select 6 * 7") == "42\n"
    big = psql(port, "select repeat('x', 20000000)")
    assert len(big) == 20_000_001
    connection = ["-h", "127.0.0.1", "-p", port, "-U", "postgres"]
    programs.run("pgbench", *connection, "-i", "-q", "-s", "1", "postgres")
    report = programs.run("pgbench", *connection, "-c", "8", "-t", "50", "postgres")
    assert "number of transactions actually processed: 400/400" in report
    short = programs.run("pgbench", *connection, "-C", "-S", "-c", "4", "-t", "25", "postgres")
    assert "number of transactions actually processed: 100/100" in short
    assert {record["reason"] for record in records_when_all_is_over(front)} <= {"done", "client_reset", "target_reset"}


def test_a_database_that_restarts(behind, database, tmp_path):
    """PgBouncer's database_restart: errors while it is away, service again as soon as it is back."""
    check = {"interval": 0.2, "timeout": 0.2}
    front, port = behind(database, health=check)
    assert psql(port, "select 1") == "1\n"
    database.close()
    front.wait_log(f"target {database.address} is down")
    with pytest.raises(AssertionError, match="ended with 2"):
        psql(port, "select 1")


# -- two proxies in a row


def test_through_haproxy_and_us(proxy, service, servers, tmp_path):
    """HAProxy in front of us: its idea of a session and ours agree, whoever ends it."""
    echo = service()
    ours = proxy(targets=[echo])
    ours.uncounted = None
    text = (
        "defaults\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n"
        f"listen l\n bind 127.0.0.1:{{port}}\n server s 127.0.0.1:{ours.port}\n"
    )
    front = programs.haproxy(tmp_path, text)
    servers.callback(front.close)
    front.wait_listening()
    with Load(front.port, clients=4) as load:
        load.wait_sessions(200)
    assert load.failures == []
    reasons = [record["reason"] for record in records_when_all_is_over(ours)]
    assert reasons.count("done") >= load.done
