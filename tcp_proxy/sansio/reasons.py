"""Why a session ended, and whose doing it was; what an errno means. Values only: no I/O, no state.

An OSError is translated once, here, at the system call that met it; above it nobody looks at errno again.
"""

import errno
from enum import StrEnum


class Reason(StrEnum):
    """The word a session record gives for its end (DESIGN section 6)."""

    DONE = "done"
    CLIENT_RESET = "client_reset"
    CLIENT_GONE = "client_gone"
    TARGET_RESET = "target_reset"
    CONNECT_FAILED = "connect_failed"
    NO_TARGET = "no_target"
    IDLE_TIMEOUT = "idle_timeout"
    HALF_CLOSED_TIMEOUT = "half_closed_timeout"
    TARGET_DOWN = "target_down"
    DEMOTED = "demoted"
    SHUTDOWN = "shutdown"
    LIMIT = "limit"
    INTERNAL_ERROR = "internal_error"
    CLOSED_BY_ADMIN = "closed_by_admin"
    PROTOCOL_ERROR = "protocol_error"


class Side(StrEnum):
    """Who ended a session."""

    CLIENT = "client"
    TARGET = "target"
    PROXY = "proxy"


# These say that this machine is short of something or forbids something; they say nothing of the peer (DESIGN 9.8).
LOCAL_ERRNOS = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM,
})
# Accepting stops until something is free again; every other accept error concerns one connection only.
EXHAUSTED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


# What a failed connect is counted as, in the order of its counters.
FAILURES = ("refused", "timed_out", "unreachable", "reset", "local", "other")
_FAILURES = {
    errno.ECONNREFUSED: 0, errno.ENOENT: 0,  # the latter: a UNIX target that is not there
    errno.ETIMEDOUT: 1, errno.EAGAIN: 1,
    errno.EHOSTUNREACH: 2, errno.ENETUNREACH: 2, errno.ENETDOWN: 2, errno.EHOSTDOWN: 2,
    errno.ECONNRESET: 3, errno.EPIPE: 3,
    **dict.fromkeys(LOCAL_ERRNOS, 4),
}  # fmt: skip


def failure_of(code: int) -> int:
    """The index in FAILURES of a failed connect's errno."""
    return _FAILURES.get(code, 5)


def is_local(code: int) -> bool:
    """Whether an errno is a verdict on this machine, not on the peer."""
    return code in LOCAL_ERRNOS


def client_end(code: int) -> Reason:
    """The reason for an error met on the client's socket.

    A reset is the client's word. Everything else (ETIMEDOUT of keep-alive or TCP_USER_TIMEOUT, no route) is silence.
    """
    return Reason.CLIENT_RESET if code in (errno.ECONNRESET, errno.EPIPE) else Reason.CLIENT_GONE


def errno_name(code: int) -> str:
    """ECONNREFUSED for 111: what logs and records show; "0" errors have no name."""
    return errno.errorcode.get(code, str(code)) if code else ""
