"""What an errno means, and what a failed connect is counted as."""

import errno

import pytest

from tcp_proxy.sansio.reasons import FAILURES, LOCAL_ERRNOS, Reason, client_end, errno_name, failure_of, is_local


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.ENOENT, "refused"),
        (errno.ETIMEDOUT, "timed_out"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.ECONNRESET, "reset"),
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


def test_a_reset_is_the_clients_word_and_everything_else_is_silence():
    assert client_end(errno.ECONNRESET) is client_end(errno.EPIPE) is Reason.CLIENT_RESET
    assert client_end(errno.ETIMEDOUT) is Reason.CLIENT_GONE


def test_names():
    assert [errno_name(code) for code in (errno.ECONNRESET, 0, 9999)] == ["ECONNRESET", "", "9999"]
