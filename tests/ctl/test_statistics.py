"""What is asked for in brief is, when it has come, what there is at length."""

import json

import pytest

from kit.api import api_config
from kit.ports import free_port
from kit.waiting import wait_until
from tcp_proxy.ctl.client import Client
from tcp_proxy.ctl.statistics import statistics_of


@pytest.fixture
def client(program):
    return Client(program.config["api"]["listen"], "")


@pytest.fixture
def program(proxy, service):
    """Apps of both modes; a client of the first target has come and gone."""
    served = [{"address": service().address, "name": name} for name in ("one", "two")]
    quiet = {"targets": [f"127.0.0.1:{free_port()}"], "health": []}
    apps = [
        {"name": "app", "ports": [free_port()], "targets": served, "health": []},
        {"name": "web", "ports": [free_port()], "mode": "http", **quiet},
        {"name": "watched", "ports": [free_port()], "outlier": {}, **quiet},
    ]
    made = proxy({"apps": apps, "api": api_config()})
    made.connect().close()
    return made


def test_it_is_all_there(client, program):
    wait_until(lambda: client.get("statistics")["apps"]["app"]["session_seconds"]["count"] == 1, "the session is over")
    brief, whole = client.get("statistics", brief="true"), client.get("statistics")
    assert "bytes" not in brief["apps"]["web"]["targets"][program.config["apps"][1]["targets"][0]]
    assert len(json.dumps(brief)) < len(json.dumps(whole))
    assert json.dumps(statistics_of(client)) == json.dumps(whole), "in the same order, too"


class Old:
    """A proxy that knows no brevity."""

    def get(self, *_, **__):
        return {"apps": {"web": {"targets": {"one": {"state": "up", "bytes": {"up": 1}}}}}}


def test_of_an_older_proxy():
    assert statistics_of(Old()) == Old().get()
