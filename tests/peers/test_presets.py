"""Each preset and the real server that it is for: up, and where that can be had, not up."""

import signal
import socket

import pytest

from kit import check_peers, programs
from kit.ports import free_port
from kit.waiting import wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.control.health import exchange, tcp
from tests.control.health.bench import Bench

pytestmark = pytest.mark.slow


@pytest.fixture
def started(servers):
    def start(program):
        servers.callback(program.close)
        return program.wait_listening()

    return start


def ask(server, preset, user=None):
    with Bench() as bench:
        endpoint = socket.AF_INET, ("127.0.0.1", server.port)
        result = bench.result_of(exchange.start, endpoint, Check(type="exchange", preset=preset, user=user))
    return result.success, result.text.partition(": ")[2]


def test_ssh(started, tmp_path):
    server = started(check_peers.sshd(tmp_path))
    assert ask(server, "ssh")[0] is True
    wait_until(lambda: "[preauth]" in server.log.read_text(), "the end in its log")


def test_ssh_that_takes_no_more(started, tmp_path):
    server = started(check_peers.sshd(tmp_path, "-o", "MaxStartups=1"))
    with socket.create_connection(("127.0.0.1", server.port)) as first:
        first.recv(100)
        assert ask(server, "ssh")[0] is False


@pytest.mark.parametrize("first", ["smtpd", "postscreen"])
def test_smtp(started, first):
    """postscreen turns away who speaks before its greeting is whole, two seconds here, six if nothing else is said."""
    server = started(check_peers.postfix(first))
    assert ask(server, "smtp") == (True, 'answered "220 mail.example ESMTP Postfix"')
    wait_until(lambda: "ehlo=1 quit=1" in server.log.read_text(), "an orderly end in its log")
    assert "PREGREET" not in server.log.read_text()
    assert ("PASS NEW" in server.log.read_text()) is (first == "postscreen")


def test_nats(started, tmp_path):
    assert ask(started(check_peers.nats(tmp_path)), "nats") == (True, "answered INFO")


def test_memcached(started, tmp_path):
    success, text = ask(started(check_peers.memcached(tmp_path)), "memcached")
    assert (success, text[:19]) == (True, 'answered "VERSION 1')


def test_beanstalkd(started, tmp_path):
    server = started(check_peers.beanstalkd(tmp_path))
    assert ask(server, "beanstalkd") == (True, "answered")
    server.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: ask(server, "beanstalkd") == (False, "answered that it is draining"), "its draining")


def test_gearman(started, tmp_path):
    assert ask(started(check_peers.gearmand(tmp_path)), "gearman")[0] is True


@pytest.mark.parametrize(("anonymous", "code"), [("true", 0), ("false", 5)])
def test_mqtt(started, tmp_path, anonymous, code):
    assert ask(started(check_peers.mosquitto(tmp_path, anonymous)), "mqtt") == (True, f"answered with code {code}")


@pytest.mark.parametrize(("more", "code"), [("", 0), ("disallow bind_anon", 48)])
def test_ldap(started, tmp_path, more, code):
    server = started(check_peers.slapd(tmp_path, more))
    assert ask(server, "ldap") == (True, f"answered with result code {code}")
    wait_until(lambda: "UNBIND" in server.log.read_text(), "an orderly end")


def test_imap(started, tmp_path):
    server = started(programs.dovecot(tmp_path, behind="no"))
    success, text = ask(server, "imap")
    assert (success, text[:31]) == (True, 'answered "* OK [CAPABILITY IMAP')
    wait_until(lambda: "imap-login: " in (server.folder / "log").read_text(), "its line in the log")


def test_dns(started, tmp_path):
    assert ask(started(check_peers.unbound(tmp_path)), "dns") == (True, "answered REFUSED")


def test_etcd(started, tmp_path):
    (member,) = check_peers.etcd(tmp_path)
    assert ask(started(member), "etcd") == (True, "status 200 OK")


def test_etcd_without_a_leader(started, tmp_path):
    one, two = map(started, check_peers.etcd(tmp_path, 2))
    wait_until(lambda: ask(one, "etcd")[0] is ask(two, "etcd")[0] is True, "a leader")
    two.close()
    wait_until(lambda: ask(one, "etcd") == (False, "status 503 Service Unavailable, wanted 200"), "its loss")


def test_zookeeper(started, tmp_path):
    server = started(check_peers.zookeeper(tmp_path))
    wait_until(lambda: ask(server, "zookeeper") == (True, 'answered "Mode: standalone"'), "its word")


def test_zookeeper_without_a_leader(started, tmp_path):
    peers = [f"server.{n}=127.0.0.1:{free_port()}:{free_port()}" for n in (1, 2)]
    server = started(check_peers.zookeeper(tmp_path, *peers))
    success, text = ask(server, "zookeeper")
    assert success is False
    assert "not currently serving requests" in text


def test_clamav(started, tmp_path):
    assert ask(started(check_peers.clamd(tmp_path)), "clamav") == (True, 'answered "PONG"')


def test_rabbitmq_says_nothing_of_a_plain_check(tmp_path):
    """Of one that begins AMQP and leaves it does: that is why there is no preset (docs/decisions.md)."""
    with check_peers.rabbitmq(tmp_path) as broker:
        for _ in range(5):
            with Bench() as bench:
                endpoint = socket.AF_INET, ("127.0.0.1", broker.port)
                assert bench.result_of(tcp.start, endpoint, Check(type="tcp")).success
        with socket.create_connection(("127.0.0.1", broker.port)) as client:
            client.sendall(b"AMQP\x00\x00\x09\x01")
            assert client.recv(1000)[:1] == b"\x01"  # a method frame: Connection.Start
        wait_until(lambda: "unexpectedly closed" in broker.log.read_text(), "its word of the one that began")
        said = [line for line in broker.log.read_text().splitlines() if " AMQP connection " in line]
        assert [line.split("] ")[1].split()[1] for line in said] == ["accepting", "closing"], said


def test_redis_in_its_roles(started, tmp_path):
    primary = started(check_peers.redis(tmp_path))
    replica = started(check_peers.redis(tmp_path, config=f"replicaof 127.0.0.1 {primary.port}"))
    assert ask(primary, "redis-primary") == (True, "answered role:master, and takes writes")
    assert ask(replica, "redis-primary") == (False, "answered role:slave, wanted role:master")
    programs.run("redis-cli", "-p", primary.port, "config", "set", "min-replicas-to-write", 3)
    assert "NOREPLICAS" in ask(primary, "redis-primary")[1]
    assert programs.run("redis-cli", "-p", primary.port, "dbsize").strip() == "0"
    assert ask(primary, "redis-cluster")[0] is ask(primary, "redis-sentinel")[0] is False
    config = f"sentinel monitor main 127.0.0.1 {primary.port} 1"
    sentinel = started(check_peers.redis(tmp_path, "--sentinel", config=config))
    assert ask(sentinel, "redis-sentinel") == (True, "answered sentinel_masters:1")
    assert ask(sentinel, "redis-primary")[0] is False


def test_redis_cluster(started, tmp_path):
    node = started(check_peers.redis(tmp_path, config="cluster-enabled yes"))
    assert ask(node, "redis-cluster") == (False, "answered cluster_state:fail, wanted cluster_state:ok")
    programs.run("redis-cli", "-p", node.port, "cluster", "addslotsrange", 0, 16383)
    wait_until(lambda: ask(node, "redis-cluster") == (True, "answered cluster_state:ok"), "the cluster")
    assert ask(node, "redis-primary")[0] is True


def test_pgbouncer(started, tmp_path):
    """It answers about users by itself; what it says of a user whom it lets in is its server's word."""
    database = started(programs.postgres(tmp_path))
    pooler = started(check_peers.pgbouncer(tmp_path, database.port))
    assert ask(pooler, "postgres", "known") == (True, "answered, ready for queries")
    success, text = ask(pooler, "postgres", "stranger")
    assert (success, text[-7:]) == (False, "(08P01)")


def test_pgbouncer_without_a_server(started, tmp_path):
    pooler = started(check_peers.pgbouncer(tmp_path, free_port()))
    endpoint, results = (socket.AF_INET, ("127.0.0.1", pooler.port)), []
    with Bench() as bench:
        exchange.start(bench.loop, endpoint, Check(type="exchange", preset="postgres", user="known"), results.append)
        bench.settle()
        bench.turn(2.1)
    assert results[0].success is False
