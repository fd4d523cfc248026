"""A take-over under a service manager that hears the main process alone and asks the kernel who speaks, as systemd does with
NotifyAccess=main: it learns of the new main process by the old one, and then hears the new one.
"""

import os
import queue
import signal
import socket
import struct
import threading

import pytest

from kit import procfs
from kit.api import api_config
from kit.ctl import Ctl
from kit.proxy import WORKER
from kit.takeover import TOP, Succession
from kit.waiting import PATIENCE, wait_until


class Manager:
    """`main`: the main process; `heard`: what it has said, `ignored`: what others have. It reads all the time, or its socket
    would be full of watchdogs."""

    def __init__(self, path):
        self.main = 0
        self.heard, self.ignored = [], []
        self._messages = queue.SimpleQueue()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.bind(str(path))
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while (message := self._sock.recvmsg(4096, socket.CMSG_SPACE(12)))[0]:
            self._messages.put(message)

    def hear(self, wanted):
        """Until it hears a message with that line; it."""
        while True:
            data, ancillary, _, _ = self._messages.get(timeout=PATIENCE)
            ((_, _, credentials),) = ancillary
            pid = struct.unpack("3i", credentials)[0]
            lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
            if pid != self.main:
                self.ignored.append((pid, lines))
                continue
            self.heard.append(lines)
            self.main = int(lines.get("MAINPID", self.main))
            name, value = wanted.split("=", 1)
            if lines.get(name) == value:
                return lines

    def close(self):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._sock.close()


@pytest.fixture
def manager(tmp_path, monkeypatch, servers):
    made = Manager(tmp_path / "notify")
    servers.callback(made.close)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    return made


def test_the_main_process_is_the_new_one_from_when_the_old_one_says_so(manager, proxy, service, servers, monkeypatch):
    program = proxy(targets=[service()], top={"workers": 2, **TOP}, ready=False)
    manager.main = program.pid
    manager.hear("READY=1")
    program.wait_ready()
    monkeypatch.delenv("NOTIFY_SOCKET")  # the old one tells it
    monkeypatch.delenv("WATCHDOG_USEC")
    line = Succession(program, servers)
    kept = program.connect().send(b"a").expect(b"a")
    new = line.upgrade()
    said = manager.hear(f"MAINPID={new.pid}")
    assert (said["READY"], manager.main) == ("1", new.pid)
    assert manager.hear("READY=1")["STATUS"] == "1 app on 1 listener, 2 workers"
    manager.hear("WATCHDOG=1")
    kept.send(b"b").expect(b"b").close()
    new.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    manager.hear("READY=1")
    line.end()
    manager.hear("STOPPING=1")
    assert manager.ignored == []


def test_a_reload_of_the_unit_may_be_an_upgrade(manager, proxy, service, servers):
    """ExecReload=tcp-proxy-ctl upgrade: the command ends when the new program is the main process and serves."""
    program = proxy(targets=[service()], top={"workers": 1, **TOP, "api": api_config()}, ready=False)
    manager.main = program.pid
    manager.hear("READY=1")
    program.wait_ready()
    old_workers = program.workers()
    kept = program.connect().send(b"a").expect(b"a")
    Ctl.of(program)("upgrade", seconds=60)
    assert program.process.wait(PATIENCE) == 0
    new = int((program.folder / "proxy.pid").read_text())
    servers.callback(lambda: procfs.is_running(new) and os.kill(new, signal.SIGKILL))
    manager.hear(f"MAINPID={new}")
    manager.hear("READY=1")
    kept.send(b"b").expect(b"b").close()
    workers = [pid for pid, text in procfs.children(new).items() if WORKER in text]
    os.kill(new, signal.SIGTERM)
    manager.hear("STOPPING=1")
    wait_until(lambda: not any(map(procfs.is_running, (new, *workers, *old_workers))), "the end of all")
    assert manager.ignored == []
