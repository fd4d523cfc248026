"""A service manager that keeps descriptors as systemd does: by name, the same socket once, of the main process alone; and
that starts the program with what it has kept.

    manager = KeepingManager(folder)
    program = manager.start(config, folder)
    manager.wait_kept("listener/127.0.0.1/80")      these names, and no other ones
"""

import array
import contextlib
import os
import select
import socket
import struct
import sys
import threading

from kit.proxy import PROGRAM, Proxy
from kit.waiting import wait_until

ROOM = 1000
# What a service manager does between fork and exec: descriptors become those from 3 on, and the variables say so. They come
# from far above, and Python has none of its own there.
PASS = """
import os, sys
names, room, notify = sys.argv[1:4]
given = [int(fd) for fd in sys.argv[4].split(",") if fd]
high = [os.dup2(fd, 3000 + at, False) for at, fd in enumerate(given)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.environ |= {"NOTIFY_SOCKET": notify, "FDSTORE": room}
if given:
    os.environ |= {"LISTEN_FDS": str(len(given)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
os.execv(sys.argv[5], sys.argv[5:])
"""


class KeepingManager:
    """`said`: every message of a main process, as a dict, with how many descriptors there were."""

    def __init__(self, folder, room=ROOM):
        self.path, self.room, self.main = str(folder / "notify"), room, 0
        self.said, self.kept = [], []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self.path)
        self._lock = threading.Lock()
        self._ends, self._end = os.pipe()
        self._thread = threading.Thread(target=self._read, name="manager", daemon=True)
        self._thread.start()

    def start(self, config, folder, *args, ready=True, servers=None):
        with self._lock:
            kept = list(self.kept)
        fds, names = ",".join(str(fd) for _, fd in kept), ":".join(name for name, _ in kept)
        argv = (sys.executable, "-c", PASS, names, str(self.room), self.path, fds, *PROGRAM)
        program = Proxy(config, folder, program=argv, args=args, passed=[fd for _, fd in kept])
        self.main = program.pid
        if servers is not None:
            servers.callback(program.kill)
        return program.wait_ready() if ready else program

    @property
    def names(self):
        with self._lock:
            return sorted(name for name, _ in self.kept)

    def wait_kept(self, *names):
        wait_until(lambda: self.names == sorted(names), lambda: f"{self.names} are {sorted(names)}: {self.said}")

    def count(self, kind):
        return sum(said.get(kind) == "1" for said in list(self.said))

    def close(self):
        os.write(self._end, b"x")
        self._thread.join()
        self._socket.close()
        for fd in (self._ends, self._end, *(fd for _, fd in self.kept)):
            os.close(fd)

    def _read(self):
        poll = select.poll()
        for fd in (self._socket.fileno(), self._ends):
            poll.register(fd, select.POLLIN)
        while self._ends not in dict(poll.poll()):
            self._hear(*self._socket.recvmsg(4096, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4 * 8))[:2])

    def _hear(self, data, ancillary):
        fds, pid = array.array("i"), 0
        for _, kind, value in ancillary:
            if kind == socket.SCM_RIGHTS:
                fds.frombytes(value)
            else:
                pid = struct.unpack("3i", value)[0]
        said = dict(line.split("=", 1) for line in data.decode().split("\n"))
        name = said.get("FDNAME", "stored")
        with self._lock:
            if pid == self.main:
                self.main = int(said.get("MAINPID", self.main))
                self.said.append(said)
                if said.get("FDSTOREREMOVE") == "1":
                    self._forget(name)
                if said.get("FDSTORE") == "1":
                    fds = [fd for fd in fds if not self._keep(name, fd)]
        for fd in fds:
            os.close(fd)

    def _keep(self, name, fd):
        is_known = any(os.path.samestat(os.fstat(fd), os.fstat(one)) for _, one in self.kept)
        if not is_known and len(self.kept) < self.room:
            self.kept.append((name, fd))
            return True
        return False

    def _forget(self, name):
        for fd in [fd for known, fd in self.kept if known == name]:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.kept = [(known, fd) for known, fd in self.kept if known != name]
