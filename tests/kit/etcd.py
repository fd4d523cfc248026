"""etcd itself: one member, or a cluster of them, each a process that can be killed, stopped, continued and started again.

    with Etcd(folder, members=3) as etcd:
        etcd.urls, etcd.ctl("get", "k"), etcd.leader(), etcd.kill(0), etcd.stop(1), etcd.go_on(1), etcd.start(0)

`etcdctl` is the witness: what it says is what is stored. TCP_PROXY_ETCD names another program than the installed etcd.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import signal

from kit.ports import free_ports
from kit.programs import Program, need, run
from kit.waiting import wait_until

SPEED = ("--heartbeat-interval", "50", "--election-timeout", "300")  # ms: a tenth and a third of the defaults


class Etcd:
    def __init__(self, folder, members=1, flags=(), speed=SPEED, scheme="http", hosts=None):
        """`hosts`: the address of each member; 127.0.0.1 for all. `scheme` https: `flags` say with which files."""
        self._program, self._witness = os.environ.get("TCP_PROXY_ETCD") or need("etcd"), need("etcdctl")
        self._folder = pathlib.Path(folder) / "etcd"
        self._folder.mkdir(parents=True)
        self._flags, self._speed = [str(flag) for flag in flags], speed
        hosts = hosts or ["127.0.0.1"] * members
        ports = free_ports(2 * members)
        self.urls = [f"{scheme}://{host}:{port}" for host, port in zip(hosts, ports[:members], strict=True)]
        self._peers = [f"http://{host}:{port}" for host, port in zip(hosts, ports[members:], strict=True)]
        self.members = [None] * members
        self.ctl_flags = ()

    def __repr__(self):
        return f"<Etcd {self.urls}>"

    def __enter__(self):
        try:
            for index in range(len(self.members)):
                self.start(index, wait=False)
            for member in self.members:
                member.wait_listening()
            self.ctl("get", "until there is a leader", seconds=30.0)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for index, member in enumerate(self.members):
            if member is not None:
                self.kill(index)

    def start(self, index, wait=True):
        """Again with what it had."""
        folder = self._folder / f"m{index}"
        folder.mkdir(exist_ok=True)
        url, peer = self.urls[index], self._peers[index]
        everybody = ",".join(f"m{number}={one}" for number, one in enumerate(self._peers))
        own = [
            "--name", f"m{index}", "--data-dir", folder / "data", "--log-level", "warn", "--initial-cluster", everybody,
            "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer,
        ]  # fmt: skip
        port = int(url.rsplit(":", 1)[1])
        self.members[index] = Program([self._program, *own, *self._speed, *self._flags], port, folder)
        if wait:
            self.members[index].wait_listening()

    def kill(self, index, number=signal.SIGKILL):
        """Ended by a signal, and waited for."""
        member, self.members[index] = self.members[index], None
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.process.pid, signal.SIGCONT)
            os.kill(member.process.pid, number)
        member.process.wait()

    def forget(self, index):
        """All that a killed member has stored."""
        shutil.rmtree(self._folder / f"m{index}" / "data")

    def stop(self, index):
        """Every thread of it stands still when this returns."""
        pid = self.members[index].process.pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)

    def go_on(self, index):
        os.kill(self.members[index].process.pid, signal.SIGCONT)

    def ctl(self, *args, seconds=10.0, at=None, status=0, flags=None):
        """What `etcdctl` prints; `at`: the number of the only member that is asked."""
        urls = ",".join(self.urls if at is None else [self.urls[at]])
        flags = self.ctl_flags if flags is None else flags
        argv = ["--endpoints", urls, "--command-timeout", f"{seconds}s", "--dial-timeout", f"{seconds}s", *flags, *args]
        environ = {**os.environ, "ETCDCTL_API": "3"}
        return run(self._witness, *argv, seconds=seconds + 10, env=environ, status=status)

    def value(self, key):
        """What is stored; "" for nothing."""
        return self.ctl("get", "--print-value-only", key).rstrip("\n")

    def keys(self, prefix):
        return self.ctl("get", "--prefix", "--keys-only", prefix).split()

    def revision(self):
        return json.loads(self.ctl("get", "x", "-w", "json"))["header"]["revision"]

    def leader(self):
        """Its number, as soon as there is one."""
        return wait_until(self._leader, "a leader")[0]

    def _leader(self):
        told = [self._status(index) for index in range(len(self.members))]
        return [index for index, one in enumerate(told) if one.get("leader") == one["header"]["member_id"]]

    def lead(self, index):
        """This member is the leader from now on."""
        leader = self.leader()
        if leader != index:
            self.ctl("move-leader", f"{self._status(index)['header']['member_id']:x}", at=leader)

    def _status(self, index):
        return json.loads(self.ctl("endpoint", "status", "-w", "json", at=index))[0]["Status"]


def aio(coroutine, seconds=60.0):
    """A test's coroutine, to its end."""

    async def limited():
        async with asyncio.timeout(seconds):
            return await coroutine

    return asyncio.run(limited())


async def until(condition, what, seconds=30.0):
    """Look again and again, as kit.waiting does, beside what else the loop does."""
    async with asyncio.timeout(seconds):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    assert found, what
    return found
