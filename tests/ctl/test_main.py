"""The command line as such: its exit statuses, where it finds the API and the token, JSON for every command."""

import json
import re
import subprocess
import sys

import pytest

from kit.api import TOKEN, api_config
from kit.ctl import Ctl, interrupt
from kit.ports import free_port
from tcp_proxy import __version__, build
from tcp_proxy.ctl.main import COMMANDS


def nowhere(tmp_path):
    return Ctl(f"127.0.0.1:{free_port()}", tmp_path)


def test_every_command_is_in_the_help_and_has_its_own(tmp_path):
    ctl = nowhere(tmp_path)
    help_text = ctl("--help").text
    for name, command in COMMANDS.items():
        assert re.search(rf"^    {name} ", help_text, re.MULTILINE), name
        own = " ".join(ctl(name, "--help").text.split())
        assert command.help in own
        assert "--json" in own
    assert ctl("--version").text == f"tcp_proxy {__version__} ({build()})\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["drain"],
        ["drain", "app"],
        ["weight", "app", "one", "many"],
        ["top", "--interval", "0"],
        ["status", "--colour"],
        ["--api", "nonsense", "status"],
        ["--api", "https://127.0.0.1:1", "status"],
        ["--api", "unix:", "status"],
        ["--token-file", "missing", "status"],
        ["plan", "missing.json"],
    ],
)
def test_wrong_usage_is_2(tmp_path, words):
    done = nowhere(tmp_path)(*words, status=2)
    assert done.text == ""
    assert done.errors.splitlines()[-1].startswith("tcp-proxy-ctl")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dran", "app", "one"], "there is no command dran; did you mean drain?"),
        (["nonsense"], "there is no command nonsense; --help lists all"),
        ([], "wanted a command; --help lists all"),
    ],
)
def test_a_word_that_is_no_command_names_the_one_that_is_meant(tmp_path, words, said):
    assert nowhere(tmp_path)(*words, status=2).errors.splitlines()[-1] == f"tcp-proxy-ctl: error: {said}"


@pytest.mark.parametrize("words", [["status"], ["top"], ["events", "--follow"], ["reload", "--json"], ["why", "1.1-1"]])
def test_an_api_that_is_not_there_is_3(tmp_path, words):
    done = nowhere(tmp_path)(*words, status=3)
    assert re.fullmatch(r"tcp-proxy-ctl: cannot reach the management API at \S+: Connection refused\n", done.errors)


def test_a_socket_that_is_not_there_is_3(tmp_path):
    done = Ctl(f"unix:{tmp_path}/none.sock", tmp_path)("status", status=3)
    assert "No such file or directory" in done.errors


@pytest.mark.parametrize("answer", [b"", b"220 mail\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"])
def test_something_else_that_answers_is_3(tmp_path, target, answer):
    other = target()
    with Ctl(other.address, tmp_path).start("status") as process:
        peer = other.accept()
        peer.send(answer).fin()
        _, errors = process.communicate(timeout=20)
        peer.close()
    assert process.returncode == 3, errors
    assert len(errors.splitlines()) == 1


def test_what_the_proxy_refuses_is_1(still):
    ctl = Ctl.of(still)
    assert ctl("status", "nobody", status=1).errors == "tcp-proxy-ctl: there is no app named 'nobody'\n"
    done = ctl("status", "nobody", "--json", status=1)
    assert json.loads(done.text)["status"] == 404


def test_options_stand_before_or_after_the_command(still):
    ctl = Ctl("127.0.0.1:1", still.folder)
    where = f"http://{still.config['api']['listen']}/"
    assert json.loads(ctl("--json", "--api", where, "status").text)["status"]["pid"] == still.pid
    assert json.loads(ctl("status", "--api", where, "--json").text)["status"]["pid"] == still.pid
    assert ctl("--api", "127.0.0.1:2", "status", "--api", where).text.startswith("tcp_proxy ")


def test_a_unix_socket(proxy, service, tmp_path):
    program = proxy(targets=[service()], top={"api": {"listen": f"unix:{tmp_path}/api.sock"}})
    assert Ctl.of(program).json("status")["status"]["pid"] == program.pid


def test_the_token(proxy, service, tmp_path):
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text(f"{TOKEN}\n")
    program = proxy(targets=[service()], top={"api": api_config(token_file=str(file))})
    assert Ctl.of(program, file).json("status")["status"]["pid"] == program.pid
    assert "Authorization" in Ctl.of(program)("status", status=1).errors
    file.write_bytes(b"\xff")
    assert "not ASCII" in Ctl.of(program, file)("status", status=2).errors


def test_a_reader_that_has_seen_enough_is_no_error(still):
    ctl = Ctl.of(still)
    with ctl.start("top", "--json", "--interval", "0.05") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_ctrl_c_ends_what_has_no_end_well(still):
    ctl = Ctl.of(still)
    with ctl.start("events", "--follow", "--after", "0", "--json") as process:
        assert json.loads(process.stdout.readline())["number"] == 1
        assert interrupt(process).status == 0


def test_ctrl_c_before_an_answer_is_130(tmp_path, target):
    silent = target()
    with Ctl(silent.address, tmp_path).start("status") as process:
        peer = silent.accept()
        peer.read_first()
        done = interrupt(process)
        peer.close()
    assert (done.status, done.text, done.errors) == (130, "", "")


def test_the_console_script(still):
    script = [sys.executable, "-c", "from tcp_proxy.ctl.main import main; raise SystemExit(main())"]
    words = ["--api", still.config["api"]["listen"], "status"]
    done = subprocess.run([*script, *words], capture_output=True, text=True, check=True, timeout=20, env=Ctl.of(still).env)
    assert done.stdout.startswith("tcp_proxy ")


def test_no_command_but_top_loads_what_is_slow(tmp_path):
    code = "import sys, tcp_proxy.ctl.main; print(*sorted(set(sys.modules) & {'rich', 'jsonschema', 'fastapi', 'asyncio'}))"
    env = nowhere(tmp_path).env
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env, timeout=20).stdout == b"\n"
