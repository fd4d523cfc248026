"""How things look to a person: tables, sizes, times. Pure: values in, text out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
BARS = "▁▂▃▄▅▆▇█"
NARROWEST = 8  # characters that a column of text keeps where a table is cut to fit
SAID = "*"  # behind a value that was said at run time
COLOURS = {"up": "32", "draining": "33", "down": "31", "disabled": "31"}  # of states: ECMA-48, 8.3.117


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of even width. `right` names the columns of numbers, by words of the head; `optional` those that are left out,
    the first first, where the width does not suffice for all. Then the widest columns of text are cut."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: str = ""
    indent: str = ""
    optional: str = ""

    def lines(self, width: int = 0, *, colours: bool = False) -> list[str]:
        """`width` 0: as wide as it is."""
        head, rows = self.fitting(width)
        widths = _widths([head, *rows])
        if width:
            widths = self._cut(head, widths, width)
        return [
            self.indent
            + "  ".join(
                self._cell(name, cell, size, colours=colours and number > 0)
                for name, cell, size in zip(head, row, widths, strict=True)
            ).rstrip()
            for number, row in enumerate([head, *rows])
        ]

    def fitting(self, width: int) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        """Head and rows without the columns that there is no room for."""
        head, rows = self.head, self.rows
        for name in self.optional.split() if width else ():
            if self._size(_widths([head, *rows])) <= width:
                break
            if name in head:
                at = head.index(name)
                head, *rows = ([*row[:at], *row[at + 1 :]] for row in (head, *rows))
        return head, rows

    def _size(self, widths: Sequence[int]) -> int:
        return len(self.indent) + sum(widths) + 2 * (len(widths) - 1)

    def _cut(self, head: Sequence[str], widths: list[int], width: int) -> list[int]:
        texts = [n for n, name in enumerate(head) if name not in self.right.split()]
        while (over := self._size(widths) - width) > 0 and texts:
            widest = max(texts, key=lambda n: widths[n])
            second = max((widths[n] for n in texts if n != widest), default=0)
            if widths[widest] <= NARROWEST:
                break
            widths[widest] = max(NARROWEST, widths[widest] - over, min(second, widths[widest] - 1))
        return widths

    def _cell(self, name: str, cell: str, size: int, *, colours: bool) -> str:
        text = cell if len(cell) <= size else cell[: size - 1] + "…"
        text = text.rjust(size) if name in self.right.split() else text.ljust(size)
        colour = COLOURS.get(cell.partition(" ")[0].rstrip(SAID)) if colours and name == "state" else None
        return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], right: str = "", indent: str = "", optional: str = ""
) -> Table:
    return Table(head, [[clean(str(cell)) for cell in row] for row in rows], right, indent, optional)


def text_of(lines: Iterable["str | Table"], width: int = 0, *, colours: bool = False) -> Iterable[str]:
    for line in lines:
        yield from line.lines(width, colours=colours) if isinstance(line, Table) else [line]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def clean(text: str) -> str:
    """Nothing that a name holds moves the cursor of a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def size(count: float) -> str:
    """1234567 -> 1.2 MB; powers of 1000."""
    for unit in UNITS[:-1]:
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


def duration(seconds: float) -> str:
    """Two units at most: 3 d 4 h, 5 min 6 s, 7.8 s, 9 ms."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, length, part, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length} {unit} {whole % length // smaller} {part}"
    return f"{whole} s"


def moment(unix: float) -> str:
    """In UTC, as in the log."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def state_of(target: Mapping[str, Any]) -> str:
    """The state of a target; what was said of it, where the state does not show that it was: down (drain)."""
    shows = {"ready": target["state"], "drain": "draining", "disabled": "down"}[target["admin"]]
    word = "disabled" if target["admin"] == "disabled" else target["state"]
    return word if target["state"] == shows else f"{word} ({target['admin']})"


def is_said(target: Mapping[str, Any], key: str) -> bool:
    """Whether this value of a target was said at run time."""
    return any(one["key"] == key for one in target["overrides"])


def mark(text: object, *, said: bool) -> str:
    return f"{text}{SAID}" if said else str(text)


def sparkline(values: Sequence[float]) -> str:
    """From nothing to the largest of them."""
    top = max(values, default=0)
    return "".join(BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] if top else BARS[0] for value in values)
