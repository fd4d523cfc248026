"""What is wrong with a configuration file: the errors, and the list they are gathered in.

Pure; the supervisor's process only. A Report knows the scanned document, so that whoever finds a fault says which value
it is by its path, and the report finds out where that stands.
"""

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

from tcp_proxy.config.positions import BROKEN, Fault, Lines, Node, Path, path_text
from tcp_proxy.config.secrets import LEAST, WHOLE, hidden

BEHIND = 1 << 32  # offsets of included files lie behind those of any first one


@dataclass(frozen=True, slots=True, order=True)
class ConfigError:
    """One fault. `line` and `column` count from 1; both are 0 where the fault is the file itself."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.message}"
        return f"{self.file}:{self.line}:{self.column}: {self.path}: {self.message}"


class CannotImport(Exception):
    """Another program's configuration cannot become one of ours: one line for the user."""


class ConfigErrors(Exception):
    """Everything that is wrong with one file, in the order of the file."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class _Source(NamedTuple):
    """A file, and which offsets are in it; `depth`: steps of a path to its value."""

    base: int
    file: str
    lines: Lines
    depth: int


class Report:
    """Gathers the faults of one document, and of the files that it includes. The paths it is given have keys as the schema
    spells them."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.root: Node | None = None  # the document, as soon as there is one
        self.files: list[str] = []  # that were read for it, beside its own
        self._sources = [_Source(0, file, lines, 0)]
        self._end = 0  # of the offsets that are an included file's
        self._errors: set[ConfigError] = set()
        self._broken: set[int] = set()
        self._secrets: set[str] = set()

    def __repr__(self) -> str:
        return f"<Report of {self._sources[0].file}: {len(self._errors)} errors>"

    def __bool__(self) -> bool:
        return bool(self._errors)

    def begin(self, file: str, lines: Lines, size: int, path: Path) -> int:
        """Another file is read now, of so many characters, as the value at `path`: its offsets begin at the one returned."""
        self.files.append(file)
        base = max(self._end, BEHIND)
        self._sources.append(_Source(base, file, lines, len(path)))
        self._end = base + size + 1
        return base

    def of_file(self, file: str, message: str) -> None:
        """Note that an included file cannot be read."""
        self._errors.add(ConfigError(file, 0, 0, "", message))

    def fault(self, fault: Fault) -> None:
        """Note what the scanner found."""
        self._broken.add(fault.offset)
        self._note(fault.offset, fault.path, fault.message)

    def value(self, path: Path, message: str) -> None:
        """Note that a value is wrong. One that the scanner has already reported is not mentioned again."""
        written, _, node = self._find(path)
        if node.value is not BROKEN:
            self._note(node.offset, written, message)

    def key(self, path: Path, message: str) -> None:
        """Note that a key is wrong."""
        written, offset, _ = self._find(path)
        self._note(offset, written, message)

    def at(self, offset: int, path: Path, message: str) -> None:
        """Note a fault at an offset that no path leads to."""
        self._note(offset, path, message)

    def where(self, path: Path) -> str:
        """The place of another value, for a message."""
        return self.where_offset(self._find(path)[2].offset)

    def where_offset(self, offset: int) -> str:
        source = self._source(offset)
        line, column = source.lines.at(offset - source.base)
        of = f" of {source.file}" if len(self._sources) > 1 else ""
        return f"line {line}, column {column}{of}"

    def hide(self, secret: str) -> None:
        """No message shows it, nor a word of it, from now on."""
        words = (word for word in secret.split() if len(word) >= WHOLE)
        self._secrets |= {form for form in (secret, *words) if len(form) >= LEAST}

    def errors(self) -> ConfigErrors:
        return ConfigErrors(tuple(sorted(self._errors)))

    def _source(self, offset: int) -> "_Source":
        return self._sources[bisect_right(self._sources, offset, key=lambda source: source.base) - 1]

    def _note(self, offset: int, path: Path, message: str) -> None:
        source = self._source(offset)
        if self._secrets:
            forms = {form for secret in self._secrets for form in (secret, json.dumps(secret, ensure_ascii=False)[1:-1])}
            message = hidden(message, sorted(forms, key=len, reverse=True))
        line, column = source.lines.at(offset - source.base)
        self._errors.add(ConfigError(source.file, line, column, path_text(path[source.depth :]), message))

    def _find(self, path: Path) -> tuple[Path, int, Node]:
        """A path with its keys as they are written, the offset of its last key (or of the value), and its value."""
        assert self.root is not None
        node, offset = self.root, self.root.offset
        written: list[str | int] = []
        for step in path:
            if isinstance(step, int):
                node = node.value[step]
                offset = node.offset
                written.append(step)
            else:
                key = step if step in node.value else next(key for key in node.value if key.lower() == step.lower())
                offset, node = node.value[key]
                written.append(key)
        return tuple(written), offset, node
