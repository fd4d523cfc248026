"""What /proc says of a process: its descriptors, sockets by state, children, memory and CPU time."""

import contextlib
import fcntl
import os
import pathlib
import re
import socket
import struct
import termios
from collections import Counter

TICKS = os.sysconf("SC_CLK_TCK")
TCP_STATES = {
    "01": "ESTABLISHED", "02": "SYN_SENT", "03": "SYN_RECV", "04": "FIN_WAIT1", "05": "FIN_WAIT2", "06": "TIME_WAIT",
    "07": "CLOSE", "08": "CLOSE_WAIT", "09": "LAST_ACK", "0A": "LISTEN", "0B": "CLOSING",
}  # fmt: skip
TIME_WAIT = 6
# of linux/netlink.h and linux/sock_diag.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLMSG_DONE, NLM_F_REQUEST, NLM_F_DUMP = 4, 20, 3, 0x1, 0x300


def descriptors(pid):
    """{descriptor: what it is}, e.g. {3: "socket:[12345]"}; empty when the process is gone.

    PermissionError: one that ends, or has just begun another program, is root's for a moment."""
    found = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def kinds(pid):
    """How many descriptors of each kind: "socket", "pipe", "anon_inode", or "file"."""
    count = Counter({"socket": 0, "pipe": 0, "anon_inode": 0, "file": 0})
    for link in descriptors(pid).values():
        if link == f"/proc/{pid}/fd":  # it is counting them itself just now
            continue
        kind = link.split(":")[0]
        count["file" if kind.startswith("/") or kind not in count else kind] += 1
    return count


def files(pid):
    """What is open and has a name, files in memory among them."""
    return {link for link in descriptors(pid).values() if link.startswith("/") and link != f"/proc/{pid}/fd"}


def tcp_sockets(pid):
    """The TCP sockets of a process, counted by state."""
    return _tcp_states(pid, _socket_inodes(pid))


def _socket_inodes(pid):
    return {link[8:-1] for link in descriptors(pid).values() if link.startswith("socket:[")}


def _tcp_states(pid, inodes):
    return Counter(TCP_STATES[state] for inode, state in _all_tcp(pid) if inode in inodes)


def _all_tcp(pid):
    """(inode, state) of all TCP sockets in its network namespace; of thousands one may be missed or met twice."""
    with contextlib.suppress(FileNotFoundError, LookupError):
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return _asked_for(socket.AF_INET) + _asked_for(socket.AF_INET6)
    return _in_tables(pid)


def _in_tables(pid):
    found = []
    for table in ("tcp", "tcp6"):
        path = pathlib.Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            fields = line.split()
            found.append((fields[9], fields[3]))
    return found


def _asked_for(family):
    """Those of this network namespace by sock_diag(7), but for TIME_WAIT: the tests leave tens of thousands of these, and a
    look at the tables takes 0.3 s then. LookupError: this kernel does not answer."""
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 0xFFF & ~(1 << TIME_WAIT))
    head = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    found, kind = [], SOCK_DIAG_BY_FAMILY
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.send(head + request)
        while kind == SOCK_DIAG_BY_FAMILY:
            answer = memoryview(kernel.recv(1 << 20))
            while answer and kind == SOCK_DIAG_BY_FAMILY:
                size, kind = struct.unpack_from("=IH", answer)
                if kind == SOCK_DIAG_BY_FAMILY:  # then struct inet_diag_msg, linux/inet_diag.h
                    (inode,) = struct.unpack_from("=I", answer, 16 + 68)
                    found.append((str(inode), f"{answer[17]:02X}"))
                answer = answer[size + 3 & ~3 :]
    if kind != NLMSG_DONE:
        raise LookupError("no sock_diag")
    return found


def sockets(pid):
    """All its sockets, counted: the TCP ones by state, "UNIX", "UDP", and "in no table" for what is neither bound nor
    connected, not yet or no more."""
    inodes = _socket_inodes(pid)
    found = _tcp_states(pid, inodes)
    found["UNIX"] = len(inodes & _inodes_in(pid, "unix", 6))
    found["UDP"] = len(inodes & (_inodes_in(pid, "udp", 9) | _inodes_in(pid, "udp6", 9)))
    found["in no table"] = len(inodes) - sum(found.values())
    return found


def _inodes_in(pid, table, field):
    path = pathlib.Path(f"/proc/{pid}/net/{table}")
    return {line.split()[field] for line in path.read_text().splitlines()[1:]} if path.exists() else set()


def waiting_in_pipes(pid):
    """Bytes that lie in the pipes of a process, read by nobody yet."""
    total = 0
    for number, link in descriptors(pid).items():
        if link.startswith("pipe:["):
            with contextlib.suppress(OSError):
                fd = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    total += struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
                finally:
                    os.close(fd)
    return total


def child_ids(pid):
    """The ids of `children`, ten times as quickly, where the kernel keeps such lists and nobody comes and goes meanwhile."""
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            found.update(map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_bytes().split()))
        except (FileNotFoundError, ProcessLookupError):  # a thread that has ended, or such a kernel
            return set(children(pid))
    return found


def children(pid):
    """The processes that it started and that are not reaped yet: {pid: command line}, b"" for a dead one."""
    found, parent = {}, b"%d" % pid
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:  # every process of the machine is looked at, many times in a test: it must be quick
                fd = os.open(f"/proc/{entry}/stat", os.O_RDONLY)
                try:
                    fields = os.read(fd, 4096).rpartition(b") ")[2].split(b" ", 2)
                finally:
                    os.close(fd)
                if fields[1] == parent:
                    found[int(entry)] = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def command_line(pid):
    """Its words, each with a NUL behind it; b"" for one that is dead or gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def watched_processes(pid):
    """The processes that it has a pidfd of; -1 for one that is reaped."""
    found = []
    for number, link in descriptors(pid).items():
        if link == "anon_inode:[pidfd]":
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = pathlib.Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                of = re.search(r"^Pid:\s*(-?\d+)", text, re.MULTILINE)
                found += [int(of[1])] if of else []  # else the number is another descriptor's by now
    return found


def is_running(pid):
    """Whether it exists and is no zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return _stat(pid)[0] not in "ZX"
    return False


def is_stopped(pid):
    """By SIGSTOP."""
    return is_running(pid) and _stat(pid)[0] == "T"


def are_in_calls(pid):
    """Of a process that stands still: whether each thread is in a system call or at its end (proc_pid_syscall(5))."""
    said = [pathlib.Path(f"/proc/{pid}/task/{task}/syscall").read_text() for task in os.listdir(f"/proc/{pid}/task")]
    return all(one.split()[0].isdecimal() for one in said)


def is_zombie(pid):
    """Whether it has ended and is not reaped yet."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return _stat(pid)[0] == "Z"
    return False


def cpu_seconds(pid):
    """User and system time of all its threads so far."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def wake_ups(pid):
    """How often its threads have waited for something and got it."""
    found = 0
    for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
        found += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)[1])
    return found


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def resident(pid):
    """Bytes of memory it has to itself or shares."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def dumped(pid, name):
    """Which mappings of a memory with this name a core dump of the process would have: their places."""
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    mappings = re.findall(r"^([0-9a-f]+-.*)\n(?:[A-Z].*\n)*?VmFlags:(.*)$", text, re.MULTILINE)
    return [place for place, flags in mappings if name in place and "dd" not in flags.split()]


def blocks_signal(pid, number):
    """Whether a signal would do nothing to it: ignored or blocked."""
    return any(_has(pid, mask, number) for mask in ("SigIgn", "SigBlk"))


def catches_signal(pid, number):
    """Whether it has a handler for it."""
    return _has(pid, "SigCgt", number)


def _has(pid, mask, number):
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(status[mask], 16) >> (number - 1) & 1)


def _stat(pid):
    """The fields of /proc/<pid>/stat from the state on: a name may hold spaces and brackets."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
