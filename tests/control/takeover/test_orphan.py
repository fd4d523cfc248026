"""A real process whose parent is not this one."""

import errno
import os
import select
import signal
import subprocess
import sys

import pytest

from kit import procfs
from kit.waiting import PATIENCE
from tcp_proxy.control import process_tree
from tcp_proxy.control.takeover.orphan import start_orphan


@pytest.fixture
def subreaper():
    """As the supervisor is one; not for the tests after it."""
    process_tree.become_subreaper()
    yield
    process_tree.become_subreaper(really=False)


def test_an_orphan_is_nobodys_child_here_and_has_what_it_is_passed(subreaper):
    reads, writes = os.pipe()
    try:
        script = f"import os, sys; os.write({writes}, b'%d %s' % (os.getppid(), os.environb[b'SAID'])); sys.stdin.read()"
        pid, pidfd = start_orphan([sys.executable, "-c", script], {"SAID": "so"}, writes)
    finally:
        os.close(writes)
    with os.fdopen(reads, "rb") as told:
        parent, said = told.read().split()  # until it has ended: nobody else has that descriptor
    assert (int(parent) != os.getpid(), said) == (True, b"so")
    assert pid not in procfs.children(os.getpid())
    assert select.select([pidfd], [], [], PATIENCE)[0], "its end is seen"
    os.close(pidfd)
    left = subprocess.Popen(["sh", "-c", "sleep 60 >/dev/null & echo $!"], stdout=subprocess.PIPE)
    grandchild = int(left.communicate()[0])
    assert grandchild in procfs.children(os.getpid()), "we are a subreaper again"
    os.kill(grandchild, signal.SIGKILL)
    os.waitpid(grandchild, 0)


def test_an_orphan_that_cannot_be_started_is_an_oserror(subreaper, capfd):
    with pytest.raises(OSError, match="it was not started"):
        start_orphan(["/no/such/program"], {}, 1)
    assert capfd.readouterr().err == ""


def test_an_orphan_that_could_not_be_watched_is_ended(subreaper, monkeypatch):
    """Or it would take over from who has said that it was not started."""

    def no_more(_pid):
        raise OSError(errno.EMFILE, "Too many open files")

    reads, writes = os.pipe()
    monkeypatch.setattr(os, "pidfd_open", no_more)
    try:
        with pytest.raises(OSError, match="Too many open files"):
            start_orphan([sys.executable, "-c", "import signal; signal.pause()"], {}, writes)
    finally:
        os.close(writes)
    with os.fdopen(reads, "rb") as told:
        assert told.read() == b""  # it has ended: nobody else has that descriptor
