"""Servers of text without a server: what is believed, what is refused, and how a check parts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.dialogue import Refused
from tcp_proxy.sansio.presets import PRESETS
from tests.sansio.test_dialogue import cut, play

SMTP = (b"220-mail\r\n220 mail ESMTP\r\n", b"250-mail\r\n250 SIZE\r\n")
INFO = b'INFO {"server_id":"N","max_payload":1048576%b} \r\n'
STATS = b"---\ncurrent-jobs-urgent: 0\ndraining: %b\nid: x\n"
# ZooKeeper 3.8, as its administrator's guide has it.
SRVR = b"""Zookeeper version: 3.8.0-${mvngit.commit.id}, built on 2022-11-11 14:22 UTC
Latency min/avg/max: 0/0.0/0
Received: 1
Sent: 0
Connections: 1
Outstanding: 0
Zxid: 0x0
Mode: standalone
Node count: 5
"""


def stats(draining):
    text = STATS % draining
    return b"OK %d\r\n%b\r\n" % (len(text), text)


HEALTHY = [
    ("smtp", SMTP, 'answered "220 mail ESMTP"', b"QUIT\r\n"),
    ("smtp", [b"220 old\r\n", b"502 5.5.1 not implemented\r\n", b"250 hi\r\n"], 'answered "220 old"', b"QUIT\r\n"),
    ("ssh", [b"SSH-2.0-OpenSSH_9.2p1\r\n"], 'answered "SSH-2.0-OpenSSH_9.2p1"', b"SSH-2.0-tcp_proxy\r\n"),
    ("ssh", [b"Welcome\r\nto this\r\nSSH-1.99-x\n"], 'answered "SSH-1.99-x"', b"SSH-2.0-tcp_proxy\r\n"),
    ("imap", [b"* OK [CAPABILITY IMAP4rev1] ready.\r\n"], 'answered "* OK [CAPABILITY IMAP4rev1] ready."', b"x LOGOUT\r\n"),
    ("imap", [b"* PREAUTH ready\r\n"], 'answered "* PREAUTH ready"', b"x LOGOUT\r\n"),
    ("nats", [INFO % b""], "answered INFO", b""),
    ("memcached", [b"VERSION 1.6.18\r\n"], 'answered "VERSION 1.6.18"', b"quit\r\n"),
    ("memcached", [b"CLIENT_ERROR unauthenticated\r\n"], 'answered "CLIENT_ERROR unauthenticated"', b"quit\r\n"),
    ("gearman", [b"OK 1.1.20\n"], 'answered "OK 1.1.20"', b""),
    ("gearman", [b"0.14\n"], 'answered "0.14"', b""),
    ("clamav", [b"PONG\0"], 'answered "PONG"', b""),
    ("beanstalkd", [stats(b"false")], "answered", b"quit\r\n"),
    ("zookeeper", [SRVR], 'answered "Mode: standalone"', b""),
    ("etcd", [b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"health":"true"}'], "status 200 OK", b""),
]

SICK = [
    ("smtp", [b"554 no service\r\n"], 'answered "554 no service", wanted 220'),
    ("smtp", [b"220-postscreen\r\n421 too busy\r\n"], 'answered "421 too busy", wanted 220'),
    ("smtp", [SMTP[0], b"421 too busy\r\n"], 'answered "421 too busy", wanted 250'),
    ("smtp", [SMTP[0], b"502 no\r\n", b"502 no\r\n"], 'answered "502 no", wanted 250'),
    ("ssh", [b"Exceeded MaxStartups\r\n"], 'answered "Exceeded MaxStartups"'),
    ("ssh", [b"Not allowed at this time\r\n"], 'answered "Not allowed at this time"'),
    ("ssh", [], "without an answer"),
    ("imap", [b"* BYE too many connections\r\n"], 'answered "* BYE too many connections"'),
    ("nats", [b"-ERR 'maximum connections exceeded'\r\n"], "maximum connections exceeded"),
    ("nats", [INFO % b',"ldm":true'], "lame duck mode"),
    ("memcached", [b"ERROR Too many open connections\r\n"], 'answered "ERROR Too many open connections"'),
    ("gearman", [b"ERR UNKNOWN_COMMAND Unknown+server+command\n"], "answered \"ERR UNKNOWN_COMMAND"),
    ("clamav", [b"UNKNOWN COMMAND\0"], "UNKNOWN COMMAND"),
    ("beanstalkd", [stats(b"true")], "answered that it is draining"),
    ("beanstalkd", [b"OUT_OF_MEMORY\r\n"], 'answered "OUT_OF_MEMORY"'),
    ("zookeeper", [b"This ZooKeeper instance is not currently serving requests\n"], "not currently serving requests"),
    ("zookeeper", [b"srvr is not executed because it is not in the whitelist.\n"], "not in the whitelist"),
    ("etcd", [b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"health":"false"}'], "status 503 Service Unavailable, wanted 200"),
]


@pytest.mark.parametrize(("name", "answers", "text", "farewell"), HEALTHY)
@given(data=st.data())
def test_healthy(name, answers, text, farewell, data):
    reply = play(PRESETS[name](""), *cut(data, answers))[1]
    assert (reply.text, reply.farewell) == (text, farewell)


@pytest.mark.parametrize(("name", "answers", "text"), SICK)
@given(data=st.data())
def test_sick(name, answers, text, data):
    with pytest.raises(Refused, match=re.escape(text)):
        play(PRESETS[name](""), *cut(data, answers))


def test_smtp_does_not_speak_before_the_greeting_is_whole():
    dialogue = PRESETS["smtp"]("")
    assert [next(dialogue), dialogue.send(b"220-a\r\n"), dialogue.send(b"220-b\r\n22")] == [b"", b"", b""]
    assert dialogue.send(b"0 c\r\n") == b"EHLO tcp-proxy\r\n"
