"""A running program with an API, and its command line."""

import pytest

from kit.api import api_config
from kit.ctl import Ctl


@pytest.fixture
def program(proxy, service):
    """One app with the targets `one` and `two`."""
    targets = [{"address": service().address, "name": name} for name in ("one", "two")]
    return proxy(targets=targets, top={"api": api_config(), "workers": 2})


@pytest.fixture
def ctl(program):
    return Ctl.of(program)
