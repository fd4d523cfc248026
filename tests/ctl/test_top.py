"""top: frames as JSON, as text, and on a terminal."""

import contextlib
import json
import os
import pty
import signal

from kit.ctl import Ctl, interrupt
from kit.load import Load
from kit.waiting import wait_until


def test_frames_as_json(program, ctl):
    with Load(program.port, clients=2) as load, ctl.start("top", "--json", "--interval", "0.1") as process:
        first = json.loads(process.stdout.readline())
        assert first["program"]["sessions_per_second"] == 0
        load.wait_sessions(50)
        wait_until(lambda: json.loads(process.stdout.readline())["apps"]["app"]["sessions_per_second"] > 0, "a rate")
        assert interrupt(process).status == 0
    program.uncounted = load.done


def test_frames_as_text(still):
    ctl = Ctl.of(still)
    done = ctl("top", "--count", "2", "--interval", "0.05")
    head, *lines = done.text.strip().split("\n\n")[-1].splitlines()
    assert head.startswith("tcp_proxy ")
    assert lines[0].split()[:5] == ["app", "/", "target", "state", "now"]
    assert [line.split()[:2] for line in lines[2:]] == [["one", "up"], ["two", "up"]]


class Terminal:
    """`top` with a terminal of its own; `seen` is all it has written there."""

    def __init__(self, ctl, *words):
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        ctl.env = {**ctl.env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
        self.process = ctl.start("top", "--interval", "0.05", *words, stdout=theirs)
        os.close(theirs)
        self._seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()
        os.close(self._ours)

    @property
    def seen(self):
        with contextlib.suppress(OSError):
            self._seen += os.read(self._ours, 1 << 20)
        return self._seen.decode(errors="replace")

    def wait(self, words):
        wait_until(lambda: words in self.seen, lambda: f"{words!r} in {self.seen[-2000:]!r}", 20)


ALTERNATE_SCREEN, BACK = "\x1b[?1049h", "\x1b[?1049l"


def test_on_a_terminal_one_picture_that_changes(program, ctl):
    with Terminal(ctl) as terminal:
        terminal.wait(ALTERNATE_SCREEN)
        terminal.wait("two")
        ctl("drain", "app", "two")
        terminal.wait("draining")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(20) == 0
        terminal.wait(BACK)


def test_a_proxy_that_goes_away_is_asked_again(proxy, service):
    from kit.api import api_config

    config = {"api": api_config()}
    program = proxy(targets=[service()], top=config)
    ctl = Ctl.of(program)
    with Terminal(ctl) as terminal:
        terminal.wait("sessions")
        assert program.stop() == 0
        terminal.wait("cannot reach the management API")
        proxy({**program.config}, top=config)
        wait_until(lambda: terminal.seen.rpartition("cannot reach")[2].count("tcp_proxy"), "it is there again", 20)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(20) == 0
