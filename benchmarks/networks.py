"""Networks of one's own: namespaces, joined by pairs of interfaces, that go with the program. For root only.

with Networks() as networks:
    networks.join("client", "10.0.1.2/24", "proxy", "10.0.1.1/24")
    networks.run("proxy", "ip", "route")                    a command there
    sock = networks.call("client", socket.socket)           a call there, in a thread: what it opens stays there
"""

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, Self, TypeVar

CLONE_NEWNET = 0x40000000
_NUMBERS = itertools.count()
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Networks:
    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._prefix = f"tcpproxy{os.getpid()}x{next(_NUMBERS)}"
        self._links = itertools.count()
        self._made: set[str] = set()

    def __repr__(self) -> str:
        return f"<Networks {sorted(self._made)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def name(self, which: str) -> str:
        """Of the namespace, for `ip netns exec`; it is made when it is first asked for."""
        name = f"{self._prefix}{which}"
        if which not in self._made:
            _run("ip", "netns", "add", name)
            self._made.add(which)
            self._stack.callback(_run, "ip", "netns", "del", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        return name

    def path(self, which: str) -> str:
        """Of the namespace, for setns and nsenter."""
        return f"/run/netns/{self.name(which)}"

    def join(self, one: str, one_address: str, other: str, other_address: str) -> tuple[str, str]:
        """A pair of interfaces, each with its address; one that has addresses of both kinds is joined twice."""
        number = next(self._links)
        ends = [(self.name(one), f"v{number}a", one_address), (self.name(other), f"v{number}b", other_address)]
        (first, link, _), (second, peer, _) = ends
        _run("ip", "-n", first, "link", "add", link, "type", "veth", "peer", "name", peer, "netns", second)
        for name, device, address in ends:
            _run("ip", "-n", name, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
            _run("ip", "-n", name, "link", "set", device, "up")
        return link, peer

    def run(self, which: str, *command: str) -> str:
        return _run("ip", "netns", "exec", self.name(which), *command)

    def ip(self, which: str, *words: str) -> str:
        return _run("ip", "-n", self.name(which), *words)

    def enter(self, which: str) -> None:
        """The calling thread is there from now on: what it opens, and the programs that it starts."""
        _enter(self.path(which))

    def call(self, which: str, call: Callable[Arguments, Result], *args: Arguments.args, **keys: Arguments.kwargs) -> Result:
        found: list[Result] = []
        failures: list[BaseException] = []
        path = self.path(which)

        def do() -> None:
            try:
                _enter(path)
                found.append(call(*args, **keys))
            except BaseException as error:  # noqa: BLE001  it is raised in the caller's own thread
                failures.append(error)

        thread = threading.Thread(target=do, name=which)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return found[0]


def _enter(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(fd)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
