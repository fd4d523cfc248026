"""Targets that a worker makes later are the same as those that it makes at once."""

import json
import socket

from tcp_proxy.config.model import SendProxy
from tcp_proxy.wire.dataclass_json import fields, maker
from tcp_proxy.wire.later import targets_of, text_of
from tcp_proxy.wire.views import TargetView

PLAIN = TargetView("a", 7, 1, False, False, "up", ((int(socket.AF_INET), ("127.0.0.1", 80)),))
SPECIAL = TargetView(
    "b\"\u00e9", 100, 256, True, False, "draining", ((int(socket.AF_INET6), ("::1", 80, 0, 1)), (int(socket.AF_UNIX), "/x")),
    hosts=((0, "b"),), send_proxy=SendProxy(2, ("authority",)), since=1.5, priority=3, zone="z",
)  # fmt: skip


def test_they_come_out_as_they_went_in():
    for some in ((), (PLAIN,), (PLAIN, SPECIAL)):
        assert targets_of(text_of(some)) == some


def test_they_are_what_a_message_would_have_said():
    at_once = maker(tuple[TargetView, ...])(json.loads(json.dumps((PLAIN, SPECIAL), default=fields)))
    assert targets_of(text_of((PLAIN, SPECIAL))) == at_once


def test_what_is_as_by_default_is_not_said():
    assert text_of((PLAIN,)) == '[["a",7,1,false,false,"up",[[2,["127.0.0.1",80]]]]]'
