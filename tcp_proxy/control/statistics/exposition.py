"""Metrics as text, as Prometheus reads it, in its own format or in OpenMetrics'. Pure.

1,000 apps with 20,000 targets are 1.5 million lines: an object for each, as the client library makes them, would take half a
minute. Here a row of labels is made into text once, and lines are nothing but text. test_exposition holds it against the
library, which reads the text again, and by which a client's wish for a format is understood.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from itertools import islice
from operator import itemgetter
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

View = dict[str, Any]
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
AT_ONCE = 250  # texts
END = b"# EOF\n"  # of OpenMetrics
OPEN_METRICS = "application/openmetrics-text"
PLACE = "\n\0"  # stands in no line

number: Callable[[float], str] = lru_cache(4096)(floatToGoString)  # of counters most are small, or zero


class Family:
    """All samples of one name. `texts` are whole lines, one or more each, made as they are written."""

    def __init__(self, kind: str, name: str, documentation: str, texts: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.documentation = documentation
        self.texts = texts

    def __repr__(self) -> str:
        return f"<Family {self.kind} {self.name}>"

    def head(self, is_open: bool) -> str:
        """OpenMetrics calls a counter as it is called without `_total`."""
        name = self.name if is_open or self.kind != COUNTER else f"{self.name}_total"
        return f"# HELP {name} {self.documentation}\n# TYPE {name} {self.kind}\n"


class Row:
    """An owner of counters: `first` is its first label, the app, `rest` the others, behind labels that come between them in
    the order of the alphabet. `is_quiet`: it has counted nothing, as all others of its app that are."""

    __slots__ = ("first", "is_quiet", "rest", "view")

    def __init__(self, view: View, app: str, rest: str = "", is_quiet: bool = False) -> None:
        self.first = label("app", app)
        self.rest = rest
        self.view = view
        self.is_quiet = is_quiet


Write = Callable[[str, str, View], str]  # first, rest, view: the lines of a row


def at(*keys: str) -> Callable[[View], Any]:
    """The value there."""
    if len(keys) == 1:
        return itemgetter(*keys)
    first, second = keys
    return lambda view: view[first][second]


def label(name: str, value: str) -> str:
    return f'{name}="{_escaped(value)}"'


def one(kind: str, name: str, documentation: str, value: float) -> Family:
    """Without labels."""
    return Family(kind, name, documentation, [f"{_sample(kind, name)} {number(value)}\n"])


def some(kind: str, name: str, documentation: str, samples: Iterable[tuple[dict[str, str], float]]) -> Family:
    """A few, each with its labels."""
    sample = _sample(kind, name)
    texts = [
        f"{sample}{{{','.join(label(*pair) for pair in sorted(labels.items()))}}} {number(value)}\n"
        for labels, value in samples
    ]
    return Family(kind, name, documentation, texts)


def of_rows(kind: str, name: str, documentation: str, rows: Iterable[Row], value: Callable[[View], float]) -> Family:
    """One sample for each row."""
    sample = _sample(kind, name)
    texts = (f"{sample}{{{row.first}{row.rest}}} {number(value(row.view))}\n" for row in rows)
    return Family(kind, name, documentation, texts)


def split(
    kind: str,
    name: str,
    documentation: str,
    by: str,
    rows: Iterable[Row],
    parts: Callable[[View], View],
    is_counted: bool = False,
) -> Family:
    """The label `by` says which part of the whole. `is_counted`: those of quiet rows are the same."""
    sample = _sample(kind, name)

    def write(first: str, rest: str, view: View) -> str:
        return "".join([
            f'{sample}{{{first},{by}="{part}"{rest}}} {number(count)}\n' for part, count in parts(view).items()
        ])  # fmt: skip

    texts = _written(rows, write) if is_counted else (write(row.first, row.rest, row.view) for row in rows)
    return Family(kind, name, documentation, texts)


def histogram(name: str, documentation: str, rows: Iterable[Row], value: Callable[[View], Any]) -> Family:
    """Those of quiet rows are the same."""
    return Family(HISTOGRAM, name, documentation, _written(rows, partial(_write_histogram, name, value)))


def encoded(families: Iterable[Family], accept: str) -> tuple[Iterator[bytes], str]:
    """Piece by piece, in the format that `accept` (the header of that name) prefers, and its content type."""
    _, content_type = choose_encoder(accept)
    return _pieces(families, content_type.startswith(OPEN_METRICS)), content_type


def _pieces(families: Iterable[Family], is_open: bool) -> Iterator[bytes]:
    for family in families:
        yield family.head(is_open).encode()
        texts = iter(family.texts)
        while batch := list(islice(texts, AT_ONCE)):
            yield "".join(batch).encode()
    if is_open:
        yield END


def _written(rows: Iterable[Row], write: Write) -> Iterator[str]:
    """Quiet rows of an app are written once, and have their other labels put in."""
    app = ""
    quiet: list[str] = []
    for row in rows:
        if not row.is_quiet:
            yield write(row.first, row.rest, row.view)
            continue
        if row.first != app:
            app, quiet = row.first, write(row.first, PLACE, row.view).split(PLACE)
        yield row.rest.join(quiet)


def _write_histogram(name: str, value: Callable[[View], Any], first: str, rest: str, view: View) -> str:
    known = value(view)
    buckets = [
        f'{name}_bucket{{{first},le="{bound}"{rest}}} {number(count)}\n'
        for bound, count in zip(known["bounds"], known["upto"], strict=True)
    ]
    count = number(known["count"])
    return (
        f'{"".join(buckets)}{name}_bucket{{{first},le="+Inf"{rest}}} {count}\n'
        f"{name}_count{{{first}{rest}}} {count}\n{name}_sum{{{first}{rest}}} {number(known['sum'])}\n"
    )


def _sample(kind: str, name: str) -> str:
    return f"{name}_total" if kind == COUNTER else name


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
