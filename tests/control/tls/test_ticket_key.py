"""One key for all workers, another one after twelve hours, and none of it is shown."""

import dataclasses
import logging

from kit.clock import Clock
from tcp_proxy.config.model import App, Config
from tcp_proxy.config.tls_model import Tls
from tcp_proxy.control.tls.ticket_key import ROTATE, TicketKeys
from tcp_proxy.runtime import kernel_tls, openssl
from tcp_proxy.runtime.loop import Loop


def test_it_is_kept_and_then_another_one():
    clock, sent = Clock(), []
    loop = Loop("test", clock=clock)
    keys = TicketKeys(loop, sent.append)
    first = keys.message()
    assert keys.message() == first
    assert len(bytes.fromhex(first.key)) == 64
    for passed, count in ((ROTATE - 1, 0), (1, 1), (ROTATE, 2)):
        clock.turn(passed)
        loop.run_once(0)
        assert len(sent) == count
    assert sent[-1] == keys.message()
    assert len({first.key, *(message.key for message in sent)}) == 3
    assert first.key not in f"{keys!r} {first!r} {first}"
    loop.close()


def test_that_it_cannot_be_shared_is_said_once_and_only_where_it_matters(monkeypatch, caplog):
    monkeypatch.setattr(openssl, "_library", lambda: (None, "out of reach"))
    loop = Loop("test")
    keys = TicketKeys(loop, lambda _: None)
    plain = Config((App("a", (), ()),))
    spoken = Config((App("a", (), (), tls=Tls(())),))
    mute = Config((App("a", (), (), tls=dataclasses.replace(Tls(()), tickets=False)),))
    with caplog.at_level(logging.WARNING):
        for config in (plain, mute, spoken, spoken):
            keys.look(config)
    assert caplog.messages == [
        "session tickets of TLS are good at the worker that made them, and until a reload: out of reach"
    ]
    loop.close()


def test_what_the_kernel_has_is_asked_and_said_once_where_tls_is_spoken(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(kernel_tls, "missing", lambda: asked.append(1) or "No such file or directory")
    loop = Loop("test")
    keys = TicketKeys(loop, lambda _: None)
    with caplog.at_level(logging.DEBUG):
        for config in (Config((App("a", (), ()),)), *[Config((App("a", (), (), tls=Tls(())),))] * 2):
            keys.look(config)
    said = [text for text in caplog.messages if "kTLS" in text]
    assert said == ["TLS is spoken by the workers: this kernel has none of its own (kTLS: No such file or directory)"]
    assert asked == [1]
    loop.close()
