"""TAB in bash, zsh and fish, in a real terminal: commands, options, and names that the running proxy knows."""

import contextlib
import os
import shlex

import pytest

from kit.api import api_config
from kit.ports import free_port
from kit.programs import need
from kit.proxy import running
from kit.tmux import Tmux

SHARE = "{prefix}/share"
SHELLS = {
    "bash": ("--norc --noprofile", f"source {SHARE}/bash-completion/completions/tcp-proxy-ctl; "
             f"source {SHARE}/bash-completion/completions/tcp-proxy"),
    "zsh": ("-f", f"fpath=({SHARE}/zsh/site-functions $fpath); autoload -U compinit && compinit -u -D"),
    "fish": ("--no-config --private", f"set -p fish_complete_path {SHARE}/fish/vendor_completions.d"),
}  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    targets = [{"address": f"127.0.0.1:{free_port()}", "name": name} for name in ("first-target", "second-target")]
    apps = [{"name": "shop", "ports": [free_port()], "targets": targets, "health": []}]
    config = {"workers": 1, "api": api_config(), "apps": apps, "shutdown_grace": 1}
    with running(config, tmp_path_factory.mktemp("completion")) as program:
        yield program


@pytest.fixture(params=SHELLS)
def shell(request, program, installed, tmp_path):
    try:
        import argcomplete  # noqa: F401
    except ImportError:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("argcomplete is not installed")
    options, begin = SHELLS[request.param]
    environment = {"PYTHONPATH": installed.environment["PYTHONPATH"], "TCP_PROXY_API": program.config["api"]["listen"]}
    with Tmux(tmp_path, environment, columns=100) as terminal:
        path = shlex.quote(f"{installed.prefix}/bin:/usr/bin:/bin")
        terminal.type(f"PATH={path} exec {need(request.param)} {options}", "Enter")
        terminal.type(begin.format(prefix=installed.prefix), "Enter")
        sum_of = "(math 40 + 2)" if request.param == "fish" else "$((40 + 2))"
        terminal.type(f"clear; echo is it {sum_of}", "Enter")
        terminal.wait("is it 42")
        yield terminal
        with contextlib.suppress(TimeoutError):
            terminal.type("C-c")


def test_commands_options_and_names_are_completed(shell):
    shell.type("tcp-proxy-ctl dra", "Tab")
    shell.wait("tcp-proxy-ctl drain")
    shell.type("sh", "Tab")
    shell.wait("tcp-proxy-ctl drain shop")
    shell.type("sec", "Tab")
    shell.wait("tcp-proxy-ctl drain shop second-target")
    shell.type("--js", "Tab")
    shell.wait("second-target --json")


def test_a_tab_behind_the_program_starts_nothing(shell, program):
    shell.type("tcp-proxy --ch", "Tab")
    shell.wait("tcp-proxy --check")
    assert program.is_running
