"""Another user for the whole process, and which privileges it has left.

Called in the main thread, before there is another one and before the first child: what is started then has the user, and no
capability at all. The process itself keeps CAP_NET_BIND_SERVICE, if it had it, so that a reload may bind a port below 1024;
whoever it executes does not have it (it is in no set that outlives an exec).

Always true: after `become` there is no way back (test_there_is_no_way_back).
"""

import contextlib
import ctypes
import grp
import os
import pwd

from tcp_proxy.sansio.frozen_dataclass import dataclass

NET_BIND_SERVICE = 10  # CAP_NET_BIND_SERVICE
_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set
_PR_SET_KEEPCAPS = 8


class CannotBecome(Exception):
    """One clause for the user."""


@dataclass(frozen=True, slots=True)
class Identity:
    name: str  # "" of a number that no user has
    uid: int
    gid: int
    groups: tuple[int, ...]  # all of them, `gid` too
    folder: str  # what HOME says

    def __str__(self) -> str:
        return self.name or str(self.uid)


def identity(user: str, group: str | None = None) -> Identity:
    """Of names, or of numbers. Raises CannotBecome."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        if not user.isdecimal() or int(user) >= 1 << 32 - 1:
            raise CannotBecome(f"this machine has no user {user}") from None
        if group is None:
            wanted = 'wanted "group" beside a number that is nobody\'s'
            raise CannotBecome(f"this machine has no user {user}; {wanted}") from None
        gid = _gid(group)
        return Identity("", int(user), gid, (gid,), "/")
    gid = entry.pw_gid if group is None else _gid(group)
    groups = tuple(sorted({gid, *os.getgrouplist(entry.pw_name, gid)}))
    return Identity(entry.pw_name, entry.pw_uid, gid, groups, entry.pw_dir)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal() and int(group) < 1 << 32 - 1:
            return int(group)
        raise CannotBecome(f"this machine has no group {group}") from None


def become(who: Identity) -> None:
    """Raises CannotBecome, and nothing has changed. Nothing is done by whom it is already."""
    if os.getresuid() == (who.uid,) * 3 and os.getresgid() == (who.gid,) * 3:
        return
    if os.geteuid() != 0:
        this = f"this is user {os.geteuid()} in group {os.getegid()}"
        raise CannotBecome(f"only root may become {who} in group {who.gid}; {this}")
    keeps = has_capability(NET_BIND_SERVICE) and who.uid != 0
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if keeps:
            _require(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
        if keeps:
            _keep_only(libc, NET_BIND_SERVICE)
            _require(libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0))
    except OSError as error:
        raise CannotBecome(f"cannot become {who}: {error.strerror}") from None
    os.environ.update({"HOME": who.folder, "USER": str(who), "LOGNAME": str(who)})


def _keep_only(libc: ctypes.CDLL, capability: int) -> None:
    """In the permitted and the effective set of this thread."""
    word, bit = divmod(capability, 32)
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; of the first 32, then of the others
    sets[3 * word] = sets[3 * word + 1] = 1 << bit
    _require(libc.capset(header, sets))


def _require(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def has_capability(capability: int) -> bool:
    """Whether it is in effect."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status") as status:
        return any(int(line.split()[1], 16) >> capability & 1 for line in status if line.startswith("CapEff:"))
    return False
