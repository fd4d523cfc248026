"""The text of a haproxy.cfg: words of a line, sections of a file, times. Pure.

HAProxy's configuration manual, 2.2 (quoting and escaping), 2.5 (times) and 4 (proxies).
"""

import re
from collections.abc import Iterator

from tcp_proxy.config.report import CannotImport
from tcp_proxy.sansio.frozen_dataclass import dataclass

SECTIONS = {
    "global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "userlist", "mailers", "cache", "program",
    "ring", "log-forward", "log-profile", "http-errors", "fcgi-app", "crt-store", "traces", "acme",
}  # fmt: skip
MESSAGES = {".notice", ".warning", ".alert", ".diag"}  # of HAProxy's own start
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_HEX = re.compile(r"x([0-9a-fA-F]{2})")
_TIME = re.compile(r"(\d+)(us|ms|s|m|h|d)?")
_UNITS = {"us": 1, "ms": 1000, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}  # in microseconds


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        """As it is shown: on one line, whatever was escaped in it."""
        return " ".join(word if word.isprintable() else word.encode("unicode_escape").decode() for word in self.words)


@dataclass(frozen=True, slots=True)
class Section:
    """`head`: its first line; `name`: the word behind its kind, "" without one."""

    head: Line
    lines: tuple[Line, ...]

    @property
    def kind(self) -> str:
        return self.head.words[0]

    @property
    def name(self) -> str:
        return self.head.words[1] if len(self.head.words) > 1 else ""


def is_one(text: str) -> bool:
    """Whether it looks like a haproxy.cfg: its first line begins a section."""
    lines = (line.split() for line in text.splitlines())
    first = next((line for line in lines if line and not line[0].startswith("#")), [""])
    return first[0] in SECTIONS and len(first) <= 4 and "=" not in first


def sections(text: str) -> list[Section]:
    """Raises CannotImport for what is no configuration of HAProxy's, and for conditional blocks, which only it can judge."""
    found: list[tuple[Line, list[Line]]] = []
    for number, one in enumerate(text.splitlines(), 1):
        line = Line(number, tuple(words(one, number)))
        if not line.words:
            continue
        if line.words[0] in MESSAGES:
            continue
        if line.words[0].startswith("."):
            raise CannotImport(f"line {number}: {line.words[0]}: conditional blocks are not judged; wanted what holds")
        if line.words[0] in SECTIONS:
            found.append((line, []))
        elif found:
            found[-1][1].append(line)
        else:
            raise CannotImport(f"line {number}: {line.words[0]}: wanted a section first: global, defaults, frontend, listen")
    return [Section(head, tuple(lines)) for head, lines in found]


def words(text: str, number: int) -> Iterator[str]:
    """Of one line, without its comment. Variables in double quotes stay as they are: ours are written the same."""
    word, quote, i = "", "", 0
    is_begun = False
    while i < len(text):
        char = text[i]
        i += 1
        if quote and char == quote:
            quote = ""
        elif char == "\\" and quote != "'" and i < len(text):
            plain, i = _escaped(text, i, bool(quote))
            word, is_begun = word + plain, True
        elif quote:
            word += char
        elif char in "\"'":
            quote, is_begun = char, True
        elif char == "#":
            break
        elif char.isspace():
            if is_begun:
                yield word
            word, is_begun = "", False
        else:
            word, is_begun = word + char, True
    if quote:
        raise CannotImport(f"line {number}: a {quote} is not closed")
    if is_begun:
        yield word


def _escaped(text: str, i: int, is_quoted: bool) -> tuple[str, int]:
    """What the backslash before text[i] makes of it, and where it goes on."""
    if is_quoted and text[i] not in "\\\"'$":
        return "\\" + text[i], i + 1
    coded = _HEX.match(text, i)
    if coded:
        return chr(int(coded[1], 16)), coded.end()
    return _ESCAPES.get(text[i], text[i]), i + 1


def seconds(text: str) -> float | None:
    """A time, in milliseconds where it has no unit; None for what is none."""
    found = _TIME.fullmatch(text)
    return int(found[1]) * _UNITS[found[2] or "ms"] / 1e6 if found else None


def short(number: float) -> float:
    """Whole where it is whole: as a person would write it."""
    return int(number) if number == int(number) else round(number, 6)
