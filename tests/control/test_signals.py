"""Signals as calls in a loop."""

import os
import signal

from tcp_proxy.control.signals import SIGNALS, Signals
from tcp_proxy.runtime.loop import Loop


def test_each_is_heard_in_the_loop_and_none_after_the_end():
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    loop, heard = Loop(), []
    signals = Signals(loop, heard.append)
    try:
        signals.catch()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert heard == [], "a handler does nothing"
        while len(heard) < 2:
            loop.run_once(1)
        assert heard == [signal.SIGHUP, signal.SIGUSR2]
        signals.stop()
        loop.close()
        signals.close()
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_without_catch_nothing_is_touched():
    before = signal.getsignal(signal.SIGTERM)
    loop = Loop()
    signals = Signals(loop, lambda _number: None)
    signals.stop()
    loop.close()
    signals.close()
    assert signal.getsignal(signal.SIGTERM) == before
