"""What several of these files need: an app with one primary, and scripts for it."""

import pytest


@pytest.fixture
def failover(proxy):
    """failover(targets, top=…, **failover keys): the program with one failover app, whose health checks are off."""

    def start(targets, *, top=(), health=(), ready=True, **keys):
        return proxy(
            targets=targets, balance="failover", failover=keys, health=list(health), timeouts={"connect": 1}, top=top,
            ready=ready,
        )  # fmt: skip

    return start


@pytest.fixture
def script(tmp_path):
    """script(body): the path of an executable."""

    def write(body, name="", mode=0o755):
        path = tmp_path / (name or f"script-{len(list(tmp_path.glob('script-*')))}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(mode)
        return str(path)

    return write
