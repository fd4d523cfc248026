"""What several of these files need: an app with one primary, and scripts for it."""

import itertools

import pytest

from kit.shell import write_script


@pytest.fixture
def failover(proxy):
    """failover(targets, top=…, **failover keys): the program with one failover app, whose health checks are off."""

    def start(targets, *, top=(), health=(), ready=True, connect=1, **keys):
        return proxy(
            targets=targets, balance="failover", failover=keys, health=list(health), timeouts={"connect": connect}, top=top,
            ready=ready,
        )  # fmt: skip

    return start


@pytest.fixture
def script(tmp_path):
    """script(body): the path of an executable."""

    numbers = itertools.count()
    return lambda body, name="", mode=0o755: write_script(tmp_path / (name or f"script-{next(numbers)}"), body, mode)
