"""What is seen in a real terminal, Debian's tmux, and which keys do what there."""

import shlex

import pytest

from kit.ctl import PROGRAM, Ctl
from kit.tmux import PROMPT, Tmux

CTL = shlex.join(PROGRAM)
LONG = "a-target-with-quite-a-long-name-that-nobody-wants-to-type"


@pytest.fixture
def program(still):
    return still


@pytest.fixture
def terminal(still, tmp_path):
    """terminal(): tmux with what the command line needs in its environment."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        env = {key: value for key, value in Ctl.of(still).env.items() if key.startswith(("TCP_PROXY", "PYTHON"))}
        yield lambda more=(), **size: stack.enter_context(Tmux(tmp_path, {**env, **dict(more)}, **size))


def test_top_sorts_filters_and_leaves_with_q(terminal):
    shell = terminal(columns=100)
    shell.type(f"{CTL} top --interval 0.1; echo status $?", "Enter")
    assert shell.wait("sorted by file").splitlines()[0].startswith("tcp_proxy ")
    shell.type("Up", "Right", "s", "Down")
    shell.wait("sorted by name")
    shell.type("/", "two")
    shell.wait("filter: two_")
    shell.wait_gone("  one ")
    shell.type("q")
    shell.wait("filter: twoq_")
    shell.type("BSpace", "Enter", "r")
    shell.wait("sorted by name, turned round; filter: two ")
    shell.type("Escape")
    shell.wait("  one ")
    shell.type("q")
    shell.wait("status 0")
    shell.type("echo is it $((40 + 2))", "Enter")
    assert "echo is it" in shell.wait("is it 42"), "what is typed is shown again"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_status_fits(terminal, still, columns):
    ctl = Ctl.of(still)
    ctl("add", "app", "127.0.0.1:1", "--name", LONG)
    try:
        shell = terminal(columns=columns)
        shell.type(f"clear; {CTL} status; echo status $?", "Enter")
        lines = shell.wait("status 0").splitlines()
        head = next(line for line in lines if line.startswith("  target "))
        rows = lines[lines.index(head) + 1 :][:3]
        assert [line.split()[1] for line in rows] == ["up"] * 3
        assert rows[2].startswith("  a-targ")
        assert all("now" in line or line.startswith("  ") for line in [head, *rows])
    finally:
        ctl("remove", "app", LONG)


@pytest.mark.parametrize(("more", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True)])
def test_colours_are_for_terminals_and_for_who_wants_them(terminal, more, is_coloured):
    shell = terminal(more)
    shell.type(f"clear; {CTL} status; echo status $?", "Enter")
    shell.wait("status 0")
    assert ("\x1b[32mup" in shell.screen(colours=True)) is is_coloured


def test_colours_are_not_for_pipes(terminal, still):
    shell = terminal()
    shell.type(f"clear; {CTL} status | cat; echo status $?", "Enter")
    shell.wait("status 0")
    assert "\x1b[32m" not in shell.screen(colours=True)
    assert "\x1b" not in Ctl.of(still)("status").text


def test_watch_changes_and_leaves_with_q(terminal, still):
    shell, ctl = terminal(columns=100), Ctl.of(still)
    shell.type(f"{CTL} status --watch --interval 0.1; echo status $?", "Enter")
    shell.wait("  one ")
    ctl("weight", "app", "one", "77")
    shell.wait(" 77* ")
    ctl("reset", "--all")
    shell.wait_gone(" 77* ")
    shell.type("q")
    assert PROMPT in shell.wait("status 0")


def test_watch_ends_with_ctrl_c_and_the_terminal_is_as_before(terminal):
    shell = terminal()
    shell.type(f"{CTL} sessions --watch --interval 3600; echo status $?", "Enter")
    shell.wait("no sessions")
    shell.type("C-c")
    shell.wait("status 0")
    shell.type("echo is it $((40 + 2))", "Enter")
    assert "echo is it" in shell.wait("is it 42")


def test_without_a_terminal_watch_prints_one_after_another(still):
    import json

    with Ctl.of(still).start("status", "--watch", "--interval", "0.05", "--json") as process:
        assert [json.loads(process.stdout.readline())["status"]["pid"] for _ in range(3)] == [still.pid] * 3
        process.kill()
