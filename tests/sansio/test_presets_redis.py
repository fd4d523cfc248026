"""Redis, its cluster and its Sentinel without a server: what is believed, however it arrives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.dialogue import Refused
from tcp_proxy.sansio.presets import PRESETS
from tests.sansio.test_dialogue import cut, play


def bulk(*lines):
    text = b"".join(line + b"\r\n" for line in lines)
    return b"$%d\r\n%b\r\n" % (len(text), text)


MASTER = bulk(b"# Replication", b"role:master", b"connected_slaves:0")
SLAVE = bulk(b"# Replication", b"role:slave", b"master_link_status:up")
SENTINEL = bulk(b"# Sentinel", b"sentinel_masters:2", b"sentinel_tilt:0", b"master0:name=a,status=ok")

HEALTHY = [
    ("redis", [b"+PONG\r\n"], 'answered "+PONG"'),
    ("redis", [b"-NOAUTH Authentication required.\r\n"], 'answered "-NOAUTH Authentication required."'),
    ("redis-primary", [MASTER, b":0\r\n"], "answered role:master, and takes writes"),
    ("redis-primary", [MASTER, b"-MOVED 1 192.0.2.1:6379\r\n"], "answered role:master, and takes writes"),
    ("redis-cluster", [bulk(b"cluster_enabled:1", b"cluster_state:ok")], "answered cluster_state:ok"),
    ("redis-sentinel", [SENTINEL], "answered sentinel_masters:2"),
]

SICK = [
    ("redis", [b"-LOADING Redis is loading the dataset in memory\r\n"], 'answered "-LOADING Redis'),
    ("redis", [b"HTTP/1.1 400 Bad Request\r\n"], 'answered "HTTP/1.1'),
    ("redis", [], "without an answer"),
    ("redis-primary", [SLAVE], "answered role:slave, wanted role:master"),
    ("redis-primary", [MASTER, b"-READONLY You can't write against a read only replica.\r\n"], "-READONLY"),
    ("redis-primary", [MASTER, b"-NOREPLICAS Not enough good replicas to write.\r\n"], "-NOREPLICAS"),
    ("redis-primary", [MASTER, b"-MISCONF Redis is configured to save RDB snapshots\r\n"], "-MISCONF"),
    ("redis-primary", [b"-NOAUTH Authentication required.\r\n"], 'answered "-NOAUTH'),
    ("redis-cluster", [bulk(b"cluster_state:fail")], "answered cluster_state:fail, wanted cluster_state:ok"),
    ("redis-cluster", [b"-ERR This instance has cluster support disabled\r\n"], "cluster support disabled"),
    ("redis-sentinel", [b"$0\r\n\r\n"], "answered, but is no Sentinel"),
    ("redis-sentinel", [bulk(b"sentinel_masters:1", b"sentinel_tilt:1")], "sentinel_tilt:1"),
    ("redis-sentinel", [b"$99999999\r\n"], 'answered "$99999999"'),
]


@pytest.mark.parametrize(("name", "answers", "text"), HEALTHY)
@given(data=st.data())
def test_healthy(name, answers, text, data):
    assert play(PRESETS[name](""), *cut(data, answers))[1].text == text


@pytest.mark.parametrize(("name", "answers", "text"), SICK)
@given(data=st.data())
def test_sick(name, answers, text, data):
    with pytest.raises(Refused, match=re.escape(text)):
        play(PRESETS[name](""), *cut(data, answers))


def test_what_is_said():
    assert play(PRESETS["redis"](""), b"+PONG\r\n")[0] == b"PING\r\n"
    said, _ = play(PRESETS["redis-primary"](""), MASTER, b":0\r\n")
    assert said == b'INFO replication\r\nSETRANGE tcp_proxy:health 0 ""\r\n'
