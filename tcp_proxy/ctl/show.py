"""How things look to a person: tables, sizes, times. Pure: values in, text out."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
BARS = "▁▂▃▄▅▆▇█"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: str = "", indent: str = "") -> list[str]:
    """Columns of even width. `right` names the columns of numbers, by words of the head."""
    cells = [list(head), *([clean(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    to_the_right = [name in right.split() for name in head]
    return [
        indent
        + "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, to_the_right, strict=True)
        ).rstrip()
        for row in cells
    ]


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


def sparkline(values: Sequence[float]) -> str:
    """From nothing to the largest of them."""
    top = max(values, default=0)
    return "".join(BARS[min(len(BARS) - 1, int(value / top * len(BARS)))] if top else BARS[0] for value in values)
