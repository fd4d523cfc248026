"""A loop that the test turns by hand, for whatever of the supervisor's runs on one."""

import pytest

from tests.control.health.bench import Bench


@pytest.fixture
def bench():
    with Bench() as made:
        yield made
