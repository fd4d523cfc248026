"""Who stands in the way of a start: the process that holds a port, and workers of a supervisor that was killed.

Main thread, at the start only. Everything is read from /proc; what another user's processes have open is not shown there,
so "nobody" may be the answer.

A supervisor that was killed leaves workers. They notice at once, reset what they have with a primary (of apps whose
`on_demotion` is "close"), and give up their claims (dataplane.claims) after that: a start that finds none meets no former
primary. One that is stopped (SIGSTOP, a debugger, a frozen cgroup) cannot do that, and its claims stay until it goes
on or ends.
"""

import contextlib
import os
from collections.abc import Collection, Iterator

from tcp_proxy.wire.claims import Claim, read_claim

WORKER = "tcp_proxy.dataplane.worker"
_ACCEPTS = 0x10000  # of the flags of /proc/net/unix
_LISTEN = "0A"  # st of /proc/net/tcp
_STOPPED = {"T": "stopped", "t": "stopped by a debugger", "D": "waiting for a disk"}


def listeners_of(port: int) -> list[int]:
    """The processes that listen on this port of any address, as far as they can be seen."""
    return _who_has({f"socket:[{inode}]" for inode in _listening(port)})


def listeners_at(path: str) -> list[int]:
    """The processes that listen on this UNIX socket, or have it from one that did."""
    sockets = set()
    with contextlib.suppress(OSError), open("/proc/net/unix") as file:
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=7)
            if len(fields) > 7 and fields[7] == path and int(fields[3], 16) & _ACCEPTS:
                sockets.add(f"socket:[{fields[6]}]")
    return _who_has(sockets)


def who_listens(pids: list[int]) -> str:
    """A clause: those of `listeners_of` or `listeners_at`, the first three of them, and that they do."""
    names = [described(pid) for pid in pids[:3]] or ["something else"]
    return f"{' and '.join(names)} {'listen' if len(names) > 1 else 'listens'} there"


def orphaned(addresses: Collection[str]) -> list[Claim]:
    """Claims to these listeners, of workers whose supervisor is gone."""
    found = []
    with contextlib.suppress(OSError), open("/proc/net/unix") as file:
        for line in file:
            claim = read_claim(line.split(maxsplit=7)[-1].rstrip("\n")) if "@tcp_proxy/" in line else None
            if claim is not None and claim.address in addresses and _parent(claim.worker) not in (-1, claim.supervisor):
                found.append(claim)
    return found


def described(pid: int) -> str:
    """One for the log: its number, what it is, and whether it cannot act."""
    command = _command(pid)
    state = _STOPPED.get(_stat(pid)[:1], "")
    if WORKER in command:
        what = "a worker of tcp_proxy whose supervisor is gone" if _parent(pid) in (0, 1) else "a worker of tcp_proxy"
    else:
        what = os.path.basename(command.split(" ")[0]) or "unknown"
    return f"process {pid} ({what}{', ' + state if state else ''})"


def _listening(port: int) -> Iterator[str]:
    """Inodes of sockets."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{table}") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTEN and fields[1].endswith(f":{port:04X}"):
                    yield fields[9]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _who_has(sockets: set[str]) -> list[int]:
    return [pid for pid in _processes() if has_one_of(pid, sockets)] if sockets else []


def has_one_of(pid: int, sockets: set[str]) -> bool:
    """`sockets`: as links of /proc name them."""
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in sockets:
                    return True
    return False


def _stat(pid: int) -> str:
    """What follows the name: state, parent …; "" when it is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].strip()
    return ""


def _parent(pid: int) -> int:
    """-1 when it is gone, or in another namespace."""
    fields = _stat(pid).split()
    return int(fields[1]) if len(fields) > 1 else -1


def _command(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", errors="replace") as file:
        return file.read().replace("\0", " ").strip()
    return ""
