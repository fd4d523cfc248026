"""What is wrong with a configuration file: the errors, and the list they are gathered in.

Pure; the supervisor's process only. A Report knows the scanned document, so that whoever finds a fault says which value
it is by its path, and the report finds out where that stands.
"""

from dataclasses import dataclass

from tcp_proxy.config.positions import BROKEN, Fault, Lines, Node, Path, path_text


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


class ConfigErrors(Exception):
    """Everything that is wrong with one file, in the order of the file."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__(errors)
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(map(str, self.errors))


class Report:
    """Gathers the faults of one document. The paths it is given have keys as the schema spells them."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.root: Node | None = None  # the document, as soon as there is one
        self._file = file
        self._lines = lines
        self._errors: set[ConfigError] = set()
        self._broken: set[int] = set()

    def __repr__(self) -> str:
        return f"<Report of {self._file}: {len(self._errors)} errors>"

    def __bool__(self) -> bool:
        return bool(self._errors)

    def fault(self, fault: Fault) -> None:
        """Note what the scanner found."""
        self._broken.add(fault.offset)
        self._note(fault.offset, path_text(fault.path), fault.message)

    def value(self, path: Path, message: str) -> None:
        """Note that a value is wrong. One that the scanner has already complained of is not mentioned again."""
        written, _, node = self._find(path)
        if node.value is not BROKEN:
            self._note(node.offset, path_text(written), message)

    def key(self, path: Path, message: str) -> None:
        """Note that a key is wrong."""
        written, offset, _ = self._find(path)
        self._note(offset, path_text(written), message)

    def at(self, offset: int, path: Path, message: str) -> None:
        """Note a fault at an offset that no path leads to."""
        self._note(offset, path_text(path), message)

    def where(self, path: Path) -> str:
        """The place of another value, for a message."""
        return self.where_offset(self._find(path)[2].offset)

    def where_offset(self, offset: int) -> str:
        line, column = self._lines.at(offset)
        return f"line {line}, column {column}"

    def errors(self) -> ConfigErrors:
        return ConfigErrors(tuple(sorted(self._errors)))

    def _note(self, offset: int, path: str, message: str) -> None:
        self._errors.add(ConfigError(self._file, *self._lines.at(offset), path, message))

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
