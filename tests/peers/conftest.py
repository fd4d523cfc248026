"""A browser, for tests that need one."""

import socket

import pytest


@pytest.fixture
def trap():
    """Where everything goes that is meant for another machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def browser(trap, tmp_path):
    from kit.browser import started

    with started(trap, tmp_path) as browser:
        yield browser
