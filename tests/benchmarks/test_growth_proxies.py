"""The configurations with many targets are accepted by those they are for, and say the same."""

import pytest

from benchmarks.growth_proxies import ADDED, PER_APP, WRITERS, Crowd, ports
from kit.programs import need, run
from tcp_proxy.config.load import load_file

APPS = 3


@pytest.fixture(params=[0, 12002], ids=["before", "changed"])
def crowd(request):
    return Crowd(11000, (11001, 11002, 11003), 12001, request.param)


def test_the_project(crowd, tmp_path):
    need("haproxy")
    argv, _ = WRITERS["project"](crowd, tmp_path)
    config = load_file(str(argv[-1]))
    targets = [target for app in config.apps for target in app.targets]
    assert [len(app.targets) for app in config.apps] == [PER_APP, PER_APP, PER_APP + bool(crowd.added)]
    assert (targets[-1].name == ADDED) is bool(crowd.added)
    assert len({app.listeners for app in config.apps}) == APPS
    assert not any(app.health for app in config.apps)


def test_haproxy(crowd, tmp_path):
    need("haproxy")
    argv, _ = WRITERS["haproxy"](crowd, tmp_path)
    run("haproxy", "-c", "-f", argv[-1])
    text = argv[-1].read_text()
    assert text.count("\nlisten app") == APPS
    assert text.count("\n    server t") == APPS * PER_APP
    assert text.count(f"\n    server {ADDED} ") == bool(crowd.added)


def test_each_app_has_a_port_of_its_own():
    found = ports(1001)
    assert len(set(found)) == 1001
    assert ports(1001) is found
