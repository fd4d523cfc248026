"""What an errno means, and what a failed connect is counted as."""

import errno

import pytest

from tcp_proxy.sansio.reasons import (
    FAILURES,
    LOCAL_ERRNOS,
    Attempt,
    Reason,
    Refusal,
    attempt,
    client_end,
    errno_name,
    failure_of,
    is_local,
    refusal_of,
    reported,
)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.ENOENT, "refused"),
        (errno.ETIMEDOUT, "timed_out"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.ECONNRESET, "reset"),
        (errno.EPIPE, "reset"),
        (errno.ENOTCONN, "reset"),
        (errno.EMFILE, "local"),
        (errno.EADDRNOTAVAIL, "local"),
        (errno.EBADF, "other"),
        (0, "other"),
    ],
)
def test_a_failed_connect_is_of_one_kind(code, failure):
    assert FAILURES[failure_of(code)] == failure


def test_what_is_local_is_counted_as_local():
    codes = set(errno.errorcode)
    assert {code for code in codes if FAILURES[failure_of(code)] == "local"} == {code for code in codes if is_local(code)}
    assert codes >= LOCAL_ERRNOS


@pytest.mark.parametrize("code", sorted(errno.errorcode), ids=errno.errorcode.get)
def test_every_errno_of_a_connect_says_one_thing(code):
    """And the counter, the health check and the session agree on it."""
    found = attempt(code)
    peers = {errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}
    assert found is (Attempt.RESET if code in peers else Attempt.LOCAL if code in LOCAL_ERRNOS else Attempt.FAILED)
    assert (found is Attempt.RESET) == (FAILURES[failure_of(code)] == "reset")
    assert (found is Attempt.LOCAL) == is_local(code)


@pytest.mark.parametrize("code", [0, *sorted(errno.errorcode)])
def test_what_the_network_reports_is_never_an_error_of_this_machines_rights(code):
    """ICMPv6 "administratively prohibited" arrives as EACCES; the same of IPv4 as EHOSTUNREACH."""
    assert reported(code) == (errno.EHOSTUNREACH if code in (errno.EACCES, errno.EPERM) else code)


def test_a_reset_is_the_clients_word_and_everything_else_is_silence():
    assert client_end(errno.ECONNRESET) is client_end(errno.EPIPE) is client_end(errno.ENOTCONN) is Reason.CLIENT_RESET
    assert client_end(errno.ETIMEDOUT) is Reason.CLIENT_GONE


def test_names():
    assert [errno_name(code) for code in (errno.ECONNRESET, 0, 9999)] == ["ECONNRESET", "", "9999"]


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [
        ("certificate verify failed: certificate has expired", Refusal.TLS_CERTIFICATE),
        ("peer did not return a certificate", Refusal.TLS_CERTIFICATE),
        ("tlsv1 alert unknown ca", Refusal.TLS_ALERT),
        ("sslv3 alert bad certificate", Refusal.TLS_ALERT),
        ("http request", Refusal.TLS_NONE),
        ("wrong version number", Refusal.TLS_NONE),
        ("unsupported protocol", Refusal.TLS_VERSION),
        ("tlsv1 alert protocol version", Refusal.TLS_ALERT),
        ("callback failed", Refusal.TLS_NAME),
        ("bad extension", Refusal.TLS_OTHER),
        ("", Refusal.TLS_OTHER),
    ],
)
def test_a_handshake_that_failed_is_counted_by_openssl_s_words(fault, refusal):
    assert refusal_of(fault) is refusal
    assert refusal.is_of_tls
    assert not Refusal.PROXY_LATE.is_of_tls
