"""The log: one line an event whatever a message holds, text or JSON, and nothing that a broken stderr can break."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.log_model import Log
from tcp_proxy.runtime.log import JsonFormatter, TextFormatter, one_line, utc


def record(message, *args, level=logging.INFO, exc_info=None):
    made = logging.LogRecord("tcp_proxy.some", level, __file__, 1, message, args, exc_info)
    made.created, made.threadName = 1_795_246_424.123, "main"
    return made


def a_failure():
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        return sys.exc_info()


def run(code, config="Log()", redirect=""):
    """What a program of its own leaves on stderr, and its exit status."""
    imports = "import logging, os, sys\nfrom tcp_proxy.config.log_model import Log\nfrom tcp_proxy.runtime import log\n"
    program = f"{imports}log.setup({config})\n{code}\n"
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    return done.returncode, done.stderr.decode()


def test_a_text_line():
    line = TextFormatter().format(record("target %s is up", "t1"))
    assert line == "2026-11-21T07:33:44.123Z INFO    target t1 is up"


def test_a_json_line():
    assert json.loads(JsonFormatter().format(record("target %s is up", "t1"))) == {
        "time": "2026-11-21T07:33:44.123Z", "level": "INFO", "logger": "tcp_proxy.some", "thread": "main",
        "message": "target t1 is up",
    }  # fmt: skip


def test_a_message_of_several_lines_stays_on_one():
    assert TextFormatter().format(record("a\nb\r\tc\x1b[2J")).endswith(r" a\nb\r\tc\x1b[2J")
    assert JsonFormatter().format(record("a\nb")).count("\n") == 0


def test_an_exception_is_in_the_line():
    failure = a_failure()
    text = TextFormatter().format(record("it failed", exc_info=failure))
    assert "\n" not in text
    assert r"it failed\nTraceback" in text
    line = json.loads(JsonFormatter().format(record("it failed", exc_info=failure)))
    assert line["message"] == "it failed"
    assert line["exception"].endswith("ValueError: first\nsecond")


@given(st.text())
def test_any_text_is_one_line(text):
    assert one_line(text).isprintable()
    assert len(JsonFormatter().format(record("%s", text)).splitlines()) == 1
    assert len(TextFormatter().format(record("%s", text)).splitlines()) == 1


@given(st.integers(0, 4_000_000_000_000))
def test_time_is_utc_with_milliseconds(milliseconds):
    text = utc(milliseconds / 1000)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert text.endswith(f"{milliseconds % 1000:03d}Z")


def test_set_up_writes_to_stderr_from_its_level_on():
    status, text = run("logging.getLogger('x').info('no'); logging.getLogger('x').warning('yes')", "Log(level='warning')")
    assert status == 0
    assert re.fullmatch(r"\S+Z WARNING yes\n", text)


def test_set_up_twice_replaces():
    status, text = run("log.setup(Log(format='json')); logging.warning('once')")
    assert status == 0
    assert [json.loads(line)["message"] for line in text.splitlines()] == ["once"]


def test_lone_surrogates_are_written_somehow():
    for config in ("Log()", "Log(format='json')"):
        status, text = run("logging.warning('a\\ud800b')", config)
        assert status == 0
        assert "d800" in text


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("config", ["Log()", "Log(format='json')"])
def test_a_broken_stderr_never_raises(redirect, config):
    """Full, or closed before the start: the program does its work and ends with its own status."""
    status, text = run("logging.warning('x' * 100_000); logging.error('y'); sys.exit(7)", config, redirect)
    assert (status, text) == (7, "")


def test_a_stderr_whose_reader_went_away_never_raises():
    code = """
read_fd, write_fd = os.pipe()
os.dup2(write_fd, 2)
os.close(write_fd)
os.close(read_fd)
logging.warning('x')
logging.error('y')
sys.exit(7)
"""
    assert run(code)[0] == 7


def test_a_message_whose_arguments_do_not_fit_never_raises():
    status, _ = run("logging.warning('%d', 'no number'); logging.warning('next'); sys.exit(7)")
    assert status == 7


def test_a_closed_stderr_s_number_is_never_written_to(tmp_path):
    """Descriptor 2 may be a client's connection when nobody gave us a stderr."""
    path = tmp_path / "precious"
    code = f"assert os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT) == 2\nlogging.warning('x')\nlogging.shutdown()"
    assert run(code, redirect="2>&-")[0] == 0
    assert path.read_bytes() == b""


def test_it_imports_no_more_than_logging():
    code = "print(sorted(n for n in sys.modules if n.startswith('tcp_proxy')), file=sys.stderr)"
    loaded = run(code)[1]
    assert "control" not in loaded
    assert "dataplane" not in loaded
    assert "config.load" not in loaded


def test_level_names_are_those_of_the_configuration():
    for level in ("debug", "info", "warning", "error"):
        assert run("", f"Log(level={level!r})") == (0, "")
    assert Log().level == "info"
