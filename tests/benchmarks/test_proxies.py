"""The configurations of all that are compared are accepted by those they are for."""

import json
import resource

import pytest

from benchmarks import proxies
from benchmarks.proxies import EVERYBODY, PAIRS
from kit.programs import need, run
from tcp_proxy.config.load import load_text

PORTS, TARGETS = {"http": 11001, "bulk": 11002}, {"http": 12001, "bulk": 12002}


@pytest.mark.parametrize("contender", [c for c in EVERYBODY if c.kind == "project"], ids=lambda c: c.name)
def test_project(contender, tmp_path):
    text = json.dumps(proxies.project_config(contender, PORTS, TARGETS, tmp_path))
    config = load_text(text.encode(), "config")
    assert config.workers == contender.workers
    assert bool(config.access_log) == contender.access_log


@pytest.mark.parametrize("contender", [c for c in EVERYBODY if c.kind == "haproxy"], ids=lambda c: c.name)
def test_haproxy(contender, tmp_path):
    config = tmp_path / "haproxy.cfg"
    config.write_text(proxies.haproxy_config(contender, PORTS, TARGETS))
    run("haproxy", "-c", "-f", config)


@pytest.mark.parametrize("contender", [c for c in EVERYBODY if c.kind == "nginx"], ids=lambda c: c.name)
def test_nginx(contender, tmp_path):
    need("nginx")
    argv, _ = proxies.write_nginx(contender, PORTS, TARGETS, tmp_path)
    run(argv[0], "-t", *argv[1:])


def test_haproxy_splices_where_much_is_moved_and_only_there():
    http, bulk = proxies.haproxy_config(proxies.HAPROXY_ONE, PORTS, TARGETS).split("listen ")[1:]
    assert ("splice-request" in bulk, "splice-request" in http) == (True, False)


def test_haproxy_gets_all_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    maxconn = int(proxies.haproxy_config(proxies.HAPROXY_ONE, PORTS, TARGETS).split("maxconn ")[1].split()[0])
    limit = proxies.descriptor_limit()
    assert limit * 0.4 < maxconn < limit / 2 <= hard / 2 or hard == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limit", "ours", "theirs"),
    [(65536, 20_000, 20_000), (20_000, 18_700, 9_800), (4096, 3_600, 1_800), (1024, 700, 300)],
)
def test_as_many_idle_sessions_as_the_hard_limit_allows(monkeypatch, limit, ours, theirs):
    monkeypatch.setattr(proxies, "descriptor_limit", lambda: limit)
    assert proxies.most_sessions("project", 2, 20_000) == ours
    assert proxies.most_sessions("haproxy", 1, 20_000) == theirs


def test_only_equals_are_compared():
    for subject, peer in PAIRS:
        assert (subject.kind, subject.workers) == ("project", peer.workers)
        assert peer.kind != "project"
        assert {subject, peer} <= set(EVERYBODY)
    assert len({contender.name for contender in EVERYBODY}) == len(EVERYBODY)


def test_the_proxy_is_started_from_compiled_modules(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    _, env = proxies.write_project(proxies.PROJECT, PORTS, TARGETS, tmp_path)
    assert "PYTHONDONTWRITEBYTECODE" not in env
