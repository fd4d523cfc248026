"""Somebody who has a fresh clone and has read the README, as a user without any capability: a request that is balanced, the
dashboard, the orders on a terminal, Ctrl-C. In terminals of a network of their own, for the ports are those of config.json.

pip takes what the tests have: nothing is fetched.
"""

import os
import re
import shlex
import sys
import sysconfig

import pytest

from kit.networks import Networks
from kit.programs import need
from kit.tmux import Tmux
from kit.waiting import wait_until
from tests.packaging.conftest import HOME, copy_of_the_tree

PLAIN = "--inh-caps=-all --ambient-caps=-all --bounding-set=-all --no-new-privs"
PIP = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}


@pytest.fixture
def terminals(tmp_path):
    """Two, whose current folder is the clone."""
    tree, bin_folder = copy_of_the_tree(tmp_path / "clone"), tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "python3.11").symlink_to(os.path.realpath(sys.executable))  # whichever runs the tests
    environment = {**PIP, "PYTHONPATH": sysconfig.get_path("purelib"), "PATH": f"{bin_folder}:/usr/bin:/bin:/usr/sbin:/sbin"}
    words = " ".join(f"{key}={shlex.quote(value)}" for key, value in environment.items())
    with Networks() as networks:
        become = f"exec ip netns exec {networks.name('newcomer')} {need('setpriv')} {PLAIN} env {words} sh"
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        with (
            Tmux(tmp_path / "one", {}, columns=150, lines=50) as one,
            Tmux(tmp_path / "two", {}, columns=150, lines=50) as two,
        ):
            for terminal in (one, two):
                terminal.type(become, "Enter")
                terminal.type(f"cd {shlex.quote(str(tree))}; clear; echo in the clone: $((40 + 2))", "Enter")
                terminal.wait("in the clone: 42")
            yield one, two


def first_command():
    """Of the README's first screen, without what is said of it."""
    return re.search(r"^```\n(.+?) *#", (HOME / "README.md").read_text(), re.MULTILINE)[1]


def said(terminal, pattern):
    return re.search(pattern, terminal.screen(), re.MULTILINE)[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_the_readme_says_leads_to_a_balanced_request_and_the_dashboard(terminals):
    one, two = terminals
    one.type(first_command(), "Enter")
    one.wait("ready: 3 apps", 200)
    one.wait("management API on")
    ask = said(one, r"^    (\S+ \S+ ask \S+) +# app five-thousand")
    page, control = said(one, r"^The dashboard: (\S+) "), said(one, r"^    (\S+ -m tcp_proxy.ctl .*?) +#")
    two.type(ask, "Enter")
    wait_until(lambda: len(re.findall(r"^connection \d: this is", two.screen(), re.MULTILINE)) == 6, two.screen)
    assert set(re.findall(r"this is 127\.0\.0\.1:(\d+)", two.screen())) == {"9001", "9002", "9003"}, "balanced"
    two.type(f"clear; curl -s -H 'Accept: text/html' {page}", "Enter")  # what a browser makes of it: tests/peers
    two.wait("<title>tcp_proxy</title>")
    two.type(f"clear; {control}", "Enter")
    two.wait("app six-thousand")
    assert re.search(r"127\.0\.0\.1:9999 +down", two.screen())
    one.type("C-c")
    one.wait("stopped: ")
