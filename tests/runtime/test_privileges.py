"""Another user: who that is, what is left, and that there is no way back."""

import ast
import grp
import os
import pwd
import subprocess
import sys

import pytest

from kit.proxy import ROOT
from tcp_proxy.runtime import privileges
from tcp_proxy.runtime.privileges import NET_BIND_SERVICE, CannotBecome, Identity, become, identity

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
# A process of its own becomes somebody and says what has become of it.
LOOK = """
import os, socket, subprocess
from tcp_proxy.runtime import privileges
who = privileges.identity(*{arguments!r})
privileges.become(who)
privileges.become(who)
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
low = socket.socket()
print(dict(
    uids=os.getresuid(), gids=os.getresgid(), groups=tuple(sorted(os.getgroups())),
    capabilities=tuple(int(status[name], 16) for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")),
    back=(refused(os.setuid, 0), refused(os.setgid, 0), refused(os.setgroups, [0])),
    home=os.environ["HOME"], user=os.environ["USER"], logname=os.environ["LOGNAME"],
    low=refused(low.bind, ("127.0.0.78", 82)),
    child=os.popen("grep -h CapEff /proc/self/status").read().split()[1],
))
"""


def after(*arguments, before=()):
    """`before`: a command that starts it."""
    command = [*before, sys.executable, "-c", LOOK.format(arguments=arguments)]
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True)
    return ast.literal_eval(found.stdout)


# -- who it is


def test_a_name_has_its_number_groups_and_home():
    assert identity("nobody") == Identity(
        "nobody", NOBODY.pw_uid, NOBODY.pw_gid, tuple(sorted({NOBODY.pw_gid, *os.getgrouplist("nobody", NOBODY.pw_gid)})),
        NOBODY.pw_dir,
    )  # fmt: skip
    assert identity(str(NOBODY.pw_uid)) == identity("nobody")
    assert str(identity("nobody")) == "nobody"


def test_a_group_takes_the_place_of_the_users_own():
    group = grp.getgrnam("root")
    for name in ("root", "0"):
        found = identity("nobody", name)
        assert found.gid == group.gr_gid
        assert group.gr_gid in found.groups


def test_a_number_that_nobody_has_needs_a_group():
    assert identity("4000000", "4000001") == Identity("", 4000000, 4000001, (4000001,), "/")
    with pytest.raises(CannotBecome, match='no user 4000000; wanted "group" beside'):
        identity("4000000")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("no-such-user",), "this machine has no user no-such-user"),
        (("nobody", "no-such-group"), "this machine has no group no-such-group"),
        (("99999999999", "1"), "this machine has no user 99999999999"),
        (("nobody", "99999999999"), "this machine has no group 99999999999"),
        (("4294967295", "1"), "this machine has no user"),  # -1: as it is
    ],
)
def test_who_is_nobody_is_said(arguments, text):
    with pytest.raises(CannotBecome, match=text):
        identity(*arguments)


# -- becoming


def test_whom_one_is_already_is_nothing_to_do(monkeypatch):
    """Nothing is asked of the system for it."""
    monkeypatch.setattr(privileges.os, "setgroups", lambda *_: pytest.fail("asked"))
    become(Identity("me", os.getuid(), os.getgid(), (), "/"))


@needs_root
def test_there_is_no_way_back():
    found = after("nobody")
    assert found["uids"] == (NOBODY.pw_uid,) * 3
    assert found["gids"] == (NOBODY.pw_gid,) * 3
    assert found["groups"] == identity("nobody").groups
    assert found["back"] == (1, 1, 1)  # EPERM
    assert (found["user"], found["logname"], found["home"]) == ("nobody", "nobody", NOBODY.pw_dir)


@needs_root
def test_the_right_to_low_ports_stays_and_no_other_and_no_child_has_it():
    found = after("4000000", "4000001")
    bit = 1 << NET_BIND_SERVICE
    assert found["capabilities"] == (bit, bit, 0, 0)
    assert found["low"] is None
    assert int(found["child"], 16) == 0
    assert found["groups"] == (4000001,)


@needs_root
def test_a_right_that_was_not_there_does_not_come():
    found = after("nobody", before=("setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"))
    assert found["capabilities"] == (0, 0, 0, 0)
    assert found["low"] == 13  # EACCES


@needs_root
def test_a_plain_user_becomes_nobody_else():
    script = "from tcp_proxy.runtime.privileges import *; import os\nos.setuid(65533)\nbecome(identity('nobody'))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "only root may become nobody in group" in found.stderr
    assert "this is user 65533 in group 0" in found.stderr
