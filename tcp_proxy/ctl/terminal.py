"""The terminal, if there is one: how wide it is, whether it has colours, a screen of its own, and which key is pressed.

Owned by the main thread, the only one. Whatever of the terminal is changed is as before when `Keys` or `Screen` is left.
"""

import os
import re
import select
import sys
import termios
import threading
import tty
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

ENTER, LEAVE, REDRAW = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H\x1b[J"
SEQUENCE, UNKNOWN = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]"), "\0"  # of an arrow or a function key: it means nothing here
ESCAPE, BACKSPACE = "\x1b", ("\x7f", "\b")


@dataclass(frozen=True, slots=True)
class Terminal:
    """`width` and `height` are 0 where there is none: then nothing is cut."""

    width: int = 0
    height: int = 0
    colours: bool = False


def of_stdout() -> Terminal:
    """As it is now: people change the size of windows."""
    try:
        if not sys.stdout.isatty():
            return Terminal()
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):  # closed, or no file
        return Terminal()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "dumb") == "dumb"
    return Terminal(_said("COLUMNS", size.columns) or 80, _said("LINES", size.lines) or 24, not plain)


def _said(name: str, known: int) -> int:
    """What the environment says comes first, as in curses."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else known


class Keys:
    """`wait` for one. Where standard input is no terminal of ours there are none, and it waits all the same."""

    def __init__(self) -> None:
        self._fd = -1
        self._before: list[Any] = []
        self._pressed: deque[str] = deque()

    def __enter__(self) -> Self:
        try:
            fd = sys.stdin.fileno()
            if sys.stdout.isatty() and os.tcgetpgrp(fd) == os.getpgrp():  # else it would be stopped for asking
                self._before = termios.tcgetattr(fd)
                tty.setcbreak(fd)
                self._fd = fd
        except (OSError, ValueError, termios.error):  # none, or closed
            pass
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)
            self._before, self._fd = [], -1

    def wait(self, seconds: float) -> str:
        """Which was pressed; "" when the time is over. Whoever types fast has pressed several: one after another."""
        if self._pressed:
            return self._pressed.popleft()
        if self._fd < 0:
            threading.Event().wait(seconds)
            return ""
        found, _, _ = select.select([self._fd], [], [], max(0.0, seconds))
        if not found:
            return ""
        data = os.read(self._fd, 1024)
        if not data:  # nobody types there any more
            self._fd = -1
        self._pressed.extend(SEQUENCE.sub("", data.decode(errors="replace")))
        return self._pressed.popleft() if self._pressed else UNKNOWN


class Screen:
    """One picture in the place of another one; what was there before comes back."""

    def __enter__(self) -> Self:
        sys.stdout.write(ENTER)
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()

    def show(self, lines: list[str], height: int) -> None:
        """As many as there is room for."""
        sys.stdout.write(REDRAW + "\n".join(lines[:height]))
        sys.stdout.flush()
