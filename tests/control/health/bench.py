"""A loop that the test turns by hand, on a clock that it turns too; a scripted kind of check; a network of one's own."""

import ctypes
import errno
import fcntl
import os
import pathlib
import resource
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from kit.clock import Clock
from kit.waiting import Deadline
from tcp_proxy.control.health.probe import Result
from tcp_proxy.loop import Loop

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


class Bench:
    """`with Bench() as bench:` a loop of this thread; time passes only by `turn`."""

    def __init__(self):
        self.clock = Clock()
        self.loop = Loop("bench", self.clock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def until(self, condition, what="what was awaited"):
        deadline = Deadline()
        while not condition():
            assert not deadline.is_over, f"never came: {what}"
            self.loop.run_once(0.01)

    def settle(self, rounds=3):
        """Let everything happen that can happen now."""
        for _ in range(rounds):
            self.loop.run_once(0)

    def turn(self, seconds):
        self.clock.turn(seconds)
        self.settle()


class Scripted:
    """A kind of check without any I/O: `probes` lists those under way, `begun` counts all; the test answers for them."""

    def __init__(self):
        self.probes = []
        self.begun = 0

    def start(self, loop, endpoint, check, done):
        self.begun += 1
        self.probes.append(probe := ScriptedProbe(self, loop, endpoint, check, done))
        return probe

    def at(self, endpoint):
        """The probe under way at an address: there must be exactly one."""
        (found,) = [probe for probe in self.probes if probe.endpoint == endpoint]
        return found

    def answer(self, success, text="", endpoint=None):
        """All that are under way (or those at one address) end so."""
        for probe in tuple(self.probes):
            if (endpoint is None or probe.endpoint == endpoint) and probe in self.probes:
                probe.end(success, text or {True: "accepted", False: "refused", None: "too many open files"}[success])


class ScriptedProbe:
    def __init__(self, kind, loop, endpoint, check, done):
        self.kind, self.loop, self.endpoint, self.check, self.done = kind, loop, endpoint, check, done

    def end(self, success, text):
        self.cancel()
        self.done(Result(success, text))

    def cancel(self):
        if self in self.kind.probes:
            self.kind.probes.remove(self)


def sockets():
    """How many sockets this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except FileNotFoundError:  # the descriptor of the listing itself
            pass
    return count


@contextmanager
def no_descriptors():
    """Every attempt to open something fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def in_own_network(call, **settings):
    """Run `call` in a thread that has a network of its own: loopback alone, nobody else, `settings` of /proc/sys/net.

    in_own_network(test, ipv4__ping_group_range="0 0")
    """
    if os.geteuid() != 0:
        pytest.skip("only root may make a network namespace")
    failures = []

    def run():
        try:
            _enter_network()
            for name, value in settings.items():
                pathlib.Path("/proc/sys/net", *name.split("__")).write_text(value)
            call()
        except BaseException as error:  # noqa: BLE001  it is raised in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, name="own-network")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _enter_network():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        if code in (errno.EPERM, errno.ENOSYS, errno.EINVAL) and not os.environ.get("CI"):
            pytest.skip(f"no network namespaces here: {os.strerror(code)}")
        raise OSError(code, os.strerror(code))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
