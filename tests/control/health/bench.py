"""A loop and a runner that the test turns by hand, clock included; a scripted kind of check; a network of one's own."""

import ctypes
import errno
import fcntl
import os
import pathlib
import queue
import resource
import socket
import struct
import threading
from contextlib import contextmanager

import pytest

from kit.clock import Clock
from kit.waiting import PATIENCE, Deadline
from tcp_proxy.control.health.probe import Result
from tcp_proxy.control.health.runner import HealthRunner
from tcp_proxy.control.targets.resolver import endpoints
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import Address

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
EVEN = 0.5  # the draw that makes an interval exactly what it says


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


    def result_of(self, start, endpoint, check):
        """Of one probe that needs no time to pass; it tells once, and not at once."""
        results = []
        start(self.loop, endpoint, check, results.append)
        assert not results, "done() was called before start() returned"
        self.until(lambda: results, "the result")
        self.turn(60)
        assert len(results) == 1, "done() was called twice"
        return results[0]


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

    def at_port(self, port):
        """The probe under way that asks another port."""
        (found,) = [probe for probe in self.probes if probe.check.port == port]
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


class Hand:
    """A runner that the test turns by hand. `findings` is what it reported and nobody has taken yet."""

    def __init__(self, bench, *checks, draw=lambda: EVEN):
        self.findings = []
        self.bench = bench
        self.runner = HealthRunner("shop", checks, self.findings.append, loop=bench.loop, draw=draw)

    def set_targets(self, **targets):
        self.runner.set_targets({name: tuple(where) for name, where in targets.items()})
        self.bench.settle()

    def probe_now(self, name):
        self.runner.probe_now(name)
        self.bench.settle()

    def take(self):
        """(target, state) of each new finding."""
        found = [(finding.target, finding.state.value) for finding in self.findings]
        self.findings.clear()
        return found


class Running:
    """A runner in its own thread, on the real clock."""

    def __init__(self, *checks, app="shop", **targets):
        self.findings = queue.SimpleQueue()
        self.runner = HealthRunner(app, checks, self.findings.put)
        self.runner.set_targets({name: tuple(where) for name, where in targets.items()})

    def __enter__(self):
        self.runner.start()
        return self

    def __exit__(self, *_):
        self.runner.stop()

    def next(self):
        return self.findings.get(timeout=PATIENCE)

    def until(self, target, state):
        while True:
            finding = self.next()
            if (finding.target, finding.state) == (target, state):
                return finding


def at(server):
    """The endpoints of a `target()` or `service()`."""
    return endpoints(Address(server.host, server.port), ())


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
def few_descriptors(left):
    """So many can be opened, and the next one fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = [os.dup(0) for _ in range(left + 1)]
    for fd in opened:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_descriptors():
    """Every attempt to open something fails with EMFILE."""
    with few_descriptors(0):
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        yield


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
