"""What limits cost: each kind that is measured is a right configuration."""

import json

import pytest

from benchmarks.limit_figures import ACCESS, KINDS
from tcp_proxy.config.load import load_text


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_right(kind):
    app = {"name": "app", "ports": [5432], "targets": ["192.0.2.1:5432"], **KINDS[kind]}
    (found,) = load_text(json.dumps({"apps": [app]}).encode(), "test").apps
    assert found.name == "app"


def test_ten_thousand_networks():
    assert sum(map(len, ACCESS["access"].values())) == 10_000
