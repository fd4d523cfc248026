"""JSON text as a tree that remembers where everything stands.

Pure: text in, values out. Read by config.load only, in the supervisor's process. The scanner notes the offset of every
key and value while it parses; nothing is ever searched for afterwards, so equal text in two places is never mixed up.

Always true:
- a document that the standard library's `json.loads` takes gives the same values here, except what no configuration
  can mean: a key given twice, NaN, a number too big, half a surrogate pair (test_positions);
- those four are noted in `faults` and reading goes on; anything else that is not JSON raises Malformed, once;
- depth is bounded, so no input can exhaust the stack.
"""

import re
from bisect import bisect_right
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]  # C, and public in all but name
from typing import Any, NamedTuple

MAX_DEPTH = 100  # the schema needs six; a hundred is already nonsense, and far below Python's recursion limit
MAX_DIGITS = 1000  # CPython refuses to convert more than 4,300

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
LINE_END = re.compile(r"\r\n|\n|\r")
SURROGATE = re.compile("[\ud800-\udfff]")
WORD = re.compile(r"[^\W\d]\w*|-Infinity")
PLAIN_KEY = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
CONSTANTS = {"true": True, "false": False, "null": None}
OTHER_SPELLINGS = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false", "nil": "null"}
NOT_NUMBERS = ("NaN", "Infinity", "-Infinity")

Path = tuple[str | int, ...]


class Broken:
    """The value of a node whose text is JSON, or nearly, but means nothing; its fault is in `faults`."""


BROKEN = Broken()


class Member(NamedTuple):
    """A key of an object: where the key stands, and its value."""

    offset: int
    node: "Node"


class Node:
    """A value: a scalar, a list of nodes, a dict of members by key as written, or BROKEN."""

    __slots__ = ("offset", "value")

    def __init__(self, offset: int, value: Any) -> None:
        self.offset = offset
        self.value = value

    def __repr__(self) -> str:
        return f"<Node {shown(self.value)} at {self.offset}>"


class Fault(NamedTuple):
    offset: int
    path: Path
    message: str


class Malformed(Exception):
    """The text is not JSON: where, inside of what, and why."""

    def __init__(self, offset: int, path: Path, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(offset, path, message)


class Lines:
    """Turns offsets into lines and columns, both counted from 1. Columns are characters; a tab is one."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(end.end() for end in LINE_END.finditer(text))]

    def __repr__(self) -> str:
        return f"<Lines {len(self._starts)}>"

    def at(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1


def path_text(path: Path) -> str:
    """A path as people read it: $.apps[0].name"""
    return "$" + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" if PLAIN_KEY.fullmatch(step) else f"[{shown(step)}]"
        for step in path
    )


class Scanner:
    """Reads one document. `faults` are the things that did not stop it."""

    def __init__(self, text: str, lines: Lines) -> None:
        self.text = text
        self.lines = lines
        self.faults: list[Fault] = []
        self.path: list[str | int] = []  # to the value that is being read

    def __repr__(self) -> str:
        return f"<Scanner in {path_text(tuple(self.path))}, {len(self.faults)} faults>"

    def document(self) -> Node:
        """The whole text as one node. Raises Malformed."""
        node, end = self._value(self._skip(0))
        end = self._skip(end)
        if end < len(self.text):
            raise self._malformed(end, f"found {self._found(end)} after the end of the document; wanted nothing more")
        return node

    # -- values: each takes the offset where one begins, and returns it and the offset after it

    def _value(self, at: int) -> tuple[Node, int]:
        text = self.text
        char = text[at : at + 1]
        if char == '"':
            string, end = self._string(at)
            return Node(at, BROKEN if SURROGATE.search(string) else string), end
        if char == "{" or char == "[":
            if len(self.path) >= MAX_DEPTH:
                raise Malformed(at, tuple(self.path[:2]), f"nested more than {MAX_DEPTH} levels deep")
            return self._object(at) if char == "{" else self._array(at)
        number = NUMBER.match(text, at)
        if number is not None:
            return self._number(number)
        word = WORD.match(text, at)
        if word is not None:
            return self._word(at, word.group())
        if not char:
            raise self._malformed(at, "the text ends where a value was wanted" if at else "the file is empty")
        raise self._malformed(at, f"found {self._found(at)}; wanted a value")

    def _object(self, start: int) -> tuple[Node, int]:
        text, path = self.text, self.path
        members: dict[str, Member] = {}
        at = self._skip(start + 1)
        if text[at : at + 1] == "}":
            return Node(start, members), at + 1
        while True:
            if text[at : at + 1] != '"':
                raise self._no_key(at, start, first=not members)
            key, end = self._string(at)
            path.append(key)
            colon = self._skip(end)
            if text[colon : colon + 1] != ":":
                raise self._malformed(colon, f'found {self._found(colon)}; wanted ":" after the key {shown(key)}')
            node, end = self._value(self._skip(colon + 1))
            if key in members:
                line, column = self.lines.at(members[key].offset)
                message = f"the key {shown(key)} is here twice; first at line {line}, column {column}"
                self.faults.append(Fault(at, tuple(path), message))
            else:
                members[key] = Member(at, node)
            path.pop()
            more, at = self._separator(end, start, "}")
            if not more:
                return Node(start, members), at

    def _array(self, start: int) -> tuple[Node, int]:
        items: list[Node] = []
        at = self._skip(start + 1)
        if self.text[at : at + 1] == "]":
            return Node(start, items), at + 1
        while True:
            if items and self.text[at : at + 1] == "]":
                raise self._malformed(at, 'found "]" after a comma; wanted another value, or no comma before it')
            if at == len(self.text):
                raise self._truncated(start)
            self.path.append(len(items))
            node, end = self._value(at)
            self.path.pop()
            items.append(node)
            more, at = self._separator(end, start, "]")
            if not more:
                return Node(start, items), at

    def _string(self, at: int) -> tuple[str, int]:
        try:
            string, end = scanstring(self.text, at + 1, True)
        except JSONDecodeError as error:
            if error.msg.startswith("Unterminated"):
                raise self._malformed(at, "this string has no closing quote") from None
            what = 'an escape that JSON does not know; a backslash itself is written "\\\\"'
            if error.msg.startswith("Invalid control"):
                what = f"{self._found(error.pos)} in a string; it is written as an escape, such as \\n"
            raise self._malformed(error.pos, f"found {what}") from None
        if SURROGATE.search(string):
            self.faults.append(Fault(at, tuple(self.path), "half of a surrogate pair; it stands for no character"))
        return string, end

    def _number(self, match: re.Match[str]) -> tuple[Node, int]:
        at, end = match.span()
        whole, fraction, exponent = match.groups()
        following = WORD.match(self.text, end) or NUMBER.match(self.text, end)
        if following is not None or self.text[end : end + 1] in (".", "+"):
            raise self._malformed(at, "not a number as JSON writes one, such as 10, -1 or 0.5 (text needs quotes)")
        if len(whole) <= MAX_DIGITS:
            number = int(whole) if fraction is None and exponent is None else float(match.group())
            if number not in (float("inf"), float("-inf")):
                return Node(at, number), end
        self.faults.append(Fault(at, tuple(self.path), "this number is too big"))
        return Node(at, BROKEN), end

    def _word(self, at: int, word: str) -> tuple[Node, int]:
        if word in CONSTANTS:
            return Node(at, CONSTANTS[word]), at + len(word)
        if word in NOT_NUMBERS:
            self.faults.append(Fault(at, tuple(self.path), f"found {word}; wanted a number that JSON can write"))
            return Node(at, BROKEN), at + len(word)
        if word in OTHER_SPELLINGS:
            raise self._malformed(at, f"found {word}; JSON writes it {OTHER_SPELLINGS[word]}")
        raise self._malformed(at, f"found {shown(word)} without quotes; wanted a value (text is written in quotes)")

    # -- between values

    def _skip(self, at: int) -> int:
        match = SPACE.match(self.text, at)
        assert match is not None
        return match.end()

    def _separator(self, end: int, start: int, closing: str) -> tuple[bool, int]:
        """After a value: is there another, and where does it (or what follows the closing bracket) begin?"""
        at = self._skip(end)
        char = self.text[at : at + 1]
        if char == ",":
            return True, self._skip(at + 1)
        if char == closing:
            return False, at + 1
        if not char:
            raise self._truncated(start)
        raise self._malformed(at, f'found {self._found(at)}; wanted "," or "{closing}"')

    def _no_key(self, at: int, start: int, first: bool) -> Malformed:
        char = self.text[at : at + 1]
        if not char:
            return self._truncated(start)
        if char == "}" and not first:
            return self._malformed(at, 'found "}" after a comma; wanted another key, or no comma before it')
        return self._malformed(at, f"found {self._found(at)}; wanted a key in double quotes")

    def _truncated(self, start: int) -> Malformed:
        line, column = self.lines.at(start)
        kind = "object" if self.text[start] == "{" else "list"
        message = f"the text ends inside the {kind} that begins at line {line}, column {column}"
        return self._malformed(len(self.text), message)

    def _found(self, at: int) -> str:
        """What stands at an offset, for a message."""
        if at >= len(self.text):
            return "the end of the text"
        if self.text.startswith(("//", "/*", "#"), at):
            return "a comment, which JSON does not have"
        word = WORD.match(self.text, at) or NUMBER.match(self.text, at)
        char = self.text[at]
        if word is not None:
            return shown(word.group())
        if char == "'":
            return "a single quote (JSON uses double quotes)"
        return "a quote" if char == '"' else f'"{char}"' if char.isprintable() else f"the character U+{ord(char):04X}"

    def _malformed(self, at: int, message: str) -> Malformed:
        return Malformed(at, tuple(self.path), message)


def shown(value: Any) -> str:
    """A found value as a message shows it: in quotes if it is text, on one line, printable, not too long."""
    if isinstance(value, str):
        text = value if len(value) <= 60 else value[:57] + "..."
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else escaped(c) for c in text) + '"'
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = str(value)
    return text if len(text) <= 30 else text[:27] + "..."


def escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return f"\\u{ord(char):04x}"
