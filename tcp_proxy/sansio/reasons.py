"""Why a session ended, and whose doing it was; what an errno means. Values only: no I/O, no state.

An OSError is translated once, here, at the system call that met it; above it nobody looks at errno again.
"""

import errno
from enum import StrEnum


class Reason(StrEnum):
    """What a session record gives as the reason of its end (docs/rules.md, R15)."""

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
    TLS_HANDSHAKE = "tls_handshake"
    TLS_TRUNCATED = "tls_truncated"
    QUEUE_TIMEOUT = "queue_timeout"
    DENIED = "denied"
    NO_QUORUM = "no_quorum"


class Cause(StrEnum):
    """Why a target was ejected (sansio.outlier)."""

    CONSECUTIVE = "consecutive_failures"
    GATEWAY = "consecutive_gateway_failures"
    SUCCESS_RATE = "success_rate"


class Refusal(StrEnum):
    """Why a client was refused before it was a session, as it is counted; the reason of its record is coarser."""

    PROXY_UNTRUSTED = "proxy_untrusted"  # not one of those that may send headers
    PROXY_MISSING = "proxy_missing"
    PROXY_MALFORMED = "proxy_malformed"
    PROXY_LATE = "proxy_late"
    TLS_NAME = "tls_name"  # nobody here has the name that it asked for, or it asked for none
    TLS_NONE = "tls_none"  # it speaks no TLS
    TLS_VERSION = "tls_version"  # no version, cipher or protocol in common
    TLS_CERTIFICATE = "tls_certificate"  # of the client: missing, or not accepted
    TLS_ALERT = "tls_alert"  # from the client: it does not accept ours, mostly
    TLS_GONE = "tls_gone"  # it ended in its handshake
    TLS_LATE = "tls_late"
    TLS_OTHER = "tls_other"
    ACCESS_DENIED = "access_denied"  # by the app's list of networks

    @property
    def is_of_tls(self) -> bool:
        return self.value.startswith("tls_")


# What OpenSSL's words for a handshake that failed begin with, or have in them.
_FAULTS = (
    ("certificate verify failed", Refusal.TLS_CERTIFICATE),
    ("peer did not return a certificate", Refusal.TLS_CERTIFICATE),
    (" alert ", Refusal.TLS_ALERT),
    ("callback failed", Refusal.TLS_NAME),
    ("http request", Refusal.TLS_NONE),
    ("https proxy request", Refusal.TLS_NONE),
    ("wrong version number", Refusal.TLS_NONE),
    ("packet length too long", Refusal.TLS_NONE),
    ("unsupported protocol", Refusal.TLS_VERSION),
    ("version too low", Refusal.TLS_VERSION),
    ("no shared cipher", Refusal.TLS_VERSION),
    ("no suitable", Refusal.TLS_VERSION),
    ("no application protocol", Refusal.TLS_VERSION),
)


def refusal_of(fault: str) -> Refusal:
    """Of a handshake that failed, by OpenSSL's words."""
    return next((refusal for words, refusal in _FAULTS if words in fault), Refusal.TLS_OTHER)


class Side(StrEnum):
    """Who ended a session."""

    CLIENT = "client"
    TARGET = "target"
    PROXY = "proxy"


# These say that this machine is short of something or forbids something; they say nothing of the peer (docs/rules.md, R8).
LOCAL_ERRNOS = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM,
})
# A TLS socket's own (dataplane.relay.tls_socket), of numbers that no socket's call gives: the connection ended without
# close_notify; bytes came that are no TLS, or an alert.
TLS_TRUNCATED, TLS_FAULT = errno.ENODATA, errno.EBADMSG
# After a connect, these say that the peer had accepted and has reset since: ECONNRESET; EPIPE after its FIN; ENOTCONN by
# getpeername() and shutdown(), which do not know why there is no peer. A refusal is ECONNREFUSED, in every case.
RESET_ERRNOS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN})


class Attempt(StrEnum):
    """What the errno of an attempt to connect says: by connect() itself, SO_ERROR, or the first call after it."""

    FAILED = "failed"  # nobody was met
    RESET = "reset"  # the peer had accepted, and has reset since; what it said before that may still be read
    LOCAL = "local"  # this machine could not try


# Accepting stops until something is free again; every other accept error concerns one connection only.
EXHAUSTED_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


# What a failed connect is counted as, in the order of its counters.
FAILURES = ("refused", "timed_out", "unreachable", "reset", "local", "other")
_FAILURES = {
    errno.ECONNREFUSED: 0, errno.ENOENT: 0,  # the latter: a UNIX target that is not there
    errno.ETIMEDOUT: 1, errno.EAGAIN: 1,
    errno.EHOSTUNREACH: 2, errno.ENETUNREACH: 2, errno.ENETDOWN: 2, errno.EHOSTDOWN: 2,
    **dict.fromkeys(RESET_ERRNOS, 3),
    **dict.fromkeys(LOCAL_ERRNOS, 4),
}  # fmt: skip


def failure_of(code: int) -> int:
    """The index in FAILURES of a failed connect's errno."""
    return _FAILURES.get(code, 5)


def is_local(code: int) -> bool:
    """Whether an errno is a verdict on this machine, not on the peer."""
    return code in LOCAL_ERRNOS


def attempt(code: int) -> Attempt:
    """Control and dataplane ask this: health checks, and the dials of sessions."""
    return Attempt.RESET if code in RESET_ERRNOS else Attempt.LOCAL if code in LOCAL_ERRNOS else Attempt.FAILED


def reported(code: int) -> int:
    """The errno that SO_ERROR, or a recv of ICMP errors, has told: of the network, never of this machine's rights.

    A router's or firewall's "administratively prohibited" is EHOSTUNREACH over IPv4 and EACCES over IPv6.
    """
    return errno.EHOSTUNREACH if code in (errno.EACCES, errno.EPERM) else code


def client_end(code: int) -> Reason:
    """The reason for an error met on the client's socket.

    A reset is sent by the client. Everything else (ETIMEDOUT of keep-alive or TCP_USER_TIMEOUT, no route) is silence.
    """
    return Reason.CLIENT_RESET if code in RESET_ERRNOS else _TLS_ENDS.get(code, Reason.CLIENT_GONE)


def broken_end(side: Side, code: int) -> Reason:
    """The reason for an error met on the socket of this side, once both were connected."""
    return client_end(code) if side is Side.CLIENT else _TLS_ENDS.get(code, Reason.TARGET_RESET)


_TLS_ENDS = {TLS_TRUNCATED: Reason.TLS_TRUNCATED, TLS_FAULT: Reason.PROTOCOL_ERROR}


def dial_ended_by(reason: Reason) -> Side:
    """Whose doing it was that a dial found nobody."""
    return Side.TARGET if reason in (Reason.CONNECT_FAILED, Reason.TARGET_RESET) else Side.PROXY


def errno_name(code: int) -> str:
    """ECONNREFUSED for 111: what logs and records show; "0" errors have no name."""
    return errno.errorcode.get(code, str(code)) if code else ""
