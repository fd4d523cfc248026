"""What a shell asks: an answer if argcomplete is there, and in no case anything else. In real shells: tests/packaging."""

import os
import subprocess
import sys

import pytest

from kit.ports import free_port
from kit.proxy import PROGRAM, ROOT

CONFIG = '{"apps": [{"name": "a", "ports": [%d], "targets": ["127.0.0.1:1"]}]}'
WITHOUT = "import sys; sys.modules['argcomplete'] = None; from tcp_proxy.cli import main; sys.exit(main())"


def asked(folder, program, line):
    """Its status, and what it has said for the shell and otherwise."""
    offered = folder / "offered"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_SHELL": "bash", "COMP_TYPE": "9", "_ARGCOMPLETE_STDOUT_FILENAME": str(offered),
    }  # fmt: skip
    done = subprocess.run(
        program, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
        check=False,
    )  # fmt: skip
    return done.returncode, offered.read_text() if offered.exists() else "", done.stdout + done.stderr


def test_options_are_offered_and_nothing_is_started(tmp_path):
    pytest.importorskip("argcomplete")
    (tmp_path / "config.json").write_text(CONFIG % free_port())
    status, offered, said = asked(tmp_path, PROGRAM, "tcp-proxy --ch")
    assert (status, said) == (0, "")
    assert "--check" in offered


def test_without_argcomplete_nothing_is_offered_and_nothing_is_started(tmp_path):
    (tmp_path / "config.json").write_text(CONFIG % free_port())
    assert asked(tmp_path, (sys.executable, "-c", WITHOUT), "tcp-proxy ") == (1, "", "")
