"""A running program with an API, and its command line."""

import pytest

from kit.api import api_config
from kit.ctl import Ctl
from kit.ports import free_port
from kit.proxy import running


@pytest.fixture
def program(proxy, service):
    """One app with the targets `one` and `two`."""
    targets = [{"address": service().address, "name": name} for name in ("one", "two")]
    return proxy(targets=targets, top={"api": api_config(), "workers": 2})


@pytest.fixture
def ctl(program):
    return Ctl.of(program)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """One for all tests of a file that change nothing; without clients."""
    targets = [{"address": f"127.0.0.1:{free_port()}", "name": name} for name in ("one", "two")]
    apps = [{"name": "app", "ports": [free_port()], "targets": targets, "health": []}]
    config = {"workers": 1, "api": api_config(), "apps": apps, "shutdown_grace": 1}
    with running(config, tmp_path_factory.mktemp("still")) as program:
        yield program
