"""The script check: what the script is told, what its end means, and that no script outlives its check."""

import logging
import os
import socket

import pytest

from kit.shell import write_script
from kit.waiting import wait_until
from tcp_proxy.config.model import Check
from tcp_proxy.config.target_model import Source
from tcp_proxy.control.health import script
from tcp_proxy.control.scripts import Scripts, ScriptSlots
from tcp_proxy.sansio.verdict import State
from tests.control.health.bench import Hand, Running, at, no_descriptors

HERE = socket.AF_INET, ("192.0.2.1", 80)


@pytest.fixture
def written(tmp_path):
    """written(text): the path of a shell script."""
    return lambda text, name="check.sh": write_script(tmp_path / name, text)


def probe(bench, *command, endpoint=HERE, **check):
    results, scripts = [], Scripts(bench.loop, ScriptSlots(1))
    env = {"TCP_PROXY_APP": "shop", "TCP_PROXY_TARGET": "one"}
    script.start(scripts, env, endpoint, Check("script", command=command, **check), results.append)
    assert not results
    bench.until(lambda: results, "the result")
    return results[0]


def test_what_it_is_told(bench, written):
    path = written('echo "$@ of $TCP_PROXY_APP $TCP_PROXY_TARGET"')
    result = probe(bench, path, "-x")
    assert (result.success, result.text) == (True, f"script {path} 192.0.2.1:80: exit status 0: -x 192.0.2.1:80 of shop one")
    assert probe(bench, path, port=81).text.endswith("exit status 0: 192.0.2.1:81 of shop one")
    assert "unix:/x of" in probe(bench, path, endpoint=(socket.AF_UNIX, "/x")).text
    assert ": [fe80::1%2]:80 of" in probe(bench, path, endpoint=(socket.AF_INET6, ("fe80::1", 80, 0, 2))).text


def test_it_is_told_where_connects_come_from(bench, written):
    path = written('echo "from:$TCP_PROXY_SOURCE"')
    assert probe(bench, path).text.endswith(" from:")
    source = Source(("192.0.2.10", "192.0.2.20-192.0.2.29"), "eth1")
    assert probe(bench, path, source=source).text.endswith(" from:192.0.2.10 192.0.2.20-192.0.2.29 eth1")


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("echo not well >&2; exit 3", "exit status 3: not well"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("exit 1", "exit status 1"),
    ],
)
def test_what_is_a_failure(bench, written, text, ending):
    result = probe(bench, written(text))
    assert result.success is False
    assert result.text.endswith(f"192.0.2.1:80: {ending}")


def test_one_that_is_gone_is_a_failure_and_too_few_descriptors_are_none(bench, written):
    result = probe(bench, "/nowhere/check")
    assert (result.success, "cannot be started: no such file" in result.text) == (False, True)
    path = written("exit 0")
    with no_descriptors():
        assert probe(bench, path).success is None


def test_its_time_is_over(bench, written, tmp_path):
    results, scripts = [], Scripts(bench.loop)
    path = written(f"echo $$ >{tmp_path}/pid; exec sleep 1000")
    script.start(scripts, {}, HERE, Check("script", command=(path,), timeout=2.0), results.append)
    bench.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "its start")
    bench.turn(2.1)
    bench.until(lambda: results, "its end")
    assert (results[0].success, results[0].text.endswith("timed out after 2 s")) == (False, True)


def test_it_ends_with_its_target(bench, written, tmp_path):
    path = written(f"echo $$ >{tmp_path}/pid; exec sleep 1000")
    hand = Hand(bench, Check("script", command=(path,), timeout=20.0))
    hand.set_targets(a=[HERE])
    bench.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "its start")
    pid = int((tmp_path / "pid").read_text())
    hand.set_targets()
    bench.until(lambda: not os.path.exists(f"/proc/{pid}"), "its end")
    hand.runner.stop()
    assert hand.findings == []


def test_the_thread_ends_while_scripts_run(written, service):
    path = written("exec sleep 1000")
    with Running(Check("script", command=(path,), timeout=20.0, interval=20.0), a=at(service())) as running:
        wait_until(lambda: len(running.runner._scripts._running) == 1, "its start")
    assert running.findings.empty()


def test_with_its_own_clock_and_its_output_at_level_debug(written, service, caplog):
    port = service()
    with (
        caplog.at_level(logging.DEBUG),
        Running(Check("script", command=(written("echo fine"),), timeout=5.0, interval=10.0), a=at(port)) as running,
    ):
        assert "exit status 0: fine" in running.until("a", State.UP).evidence
    assert [record.levelname for record in caplog.records if record.message.endswith(": fine")] == ["DEBUG"]
