"""What the kernel says of TLS of its own, where it has it and where not."""

import pathlib
from errno import ENOENT, ENOTCONN, EPERM

import pytest

from tcp_proxy.runtime import kernel_tls


class Socket:
    """Answers as a kernel does."""

    def __init__(self, code):
        self.code, self.asked = code, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def setsockopt(self, *what):
        self.asked.append(what)
        raise OSError(self.code, "no")


@pytest.mark.parametrize(
    ("code", "text"), [(ENOTCONN, ""), (ENOENT, "No such file or directory"), (EPERM, "Operation not permitted")]
)
def test_what_a_kernel_answers(monkeypatch, code, text):
    sock = Socket(code)
    monkeypatch.setattr(kernel_tls, "socket", lambda: sock)
    assert kernel_tls.missing() == text
    assert sock.asked == [(6, 31, b"tls")]


def test_this_kernel():
    """Asking loads the module, so the list is looked at afterwards."""
    why = kernel_tls.missing()
    known = pathlib.Path("/proc/sys/net/ipv4/tcp_available_ulp").read_text().split()
    assert bool(why) == ("tls" not in known)
