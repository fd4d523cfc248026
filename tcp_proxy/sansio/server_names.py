"""Which entry of a table a host name belongs to: exactly, or else by the longest wildcard. Pure.

Names are compared in lower case and without a final dot. A wildcard of a certificate stands for one label (RFC 6125, 6.4.3),
one of a route for any number of them.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


def bare(name: str) -> str:
    return name.lower().removesuffix(".")


class ServerNames(Generic[Entry]):
    """The first entry that has a name keeps it."""

    def __init__(self, entries: Iterable[tuple[str, Entry]], *, one_label: bool) -> None:
        self._one_label = one_label
        self._exact: dict[str, Entry] = {}
        self._below: dict[str, Entry] = {}  # without "*."
        for name, entry in entries:
            table = self._below if name.startswith("*.") else self._exact
            table.setdefault(bare(name).removeprefix("*."), entry)

    def __repr__(self) -> str:
        return f"<ServerNames: {len(self._exact)} names, {len(self._below)} wildcards>"

    def find(self, name: str) -> Entry | None:
        name = bare(name)
        found = self._exact.get(name)
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = self._below.get(name)
            if self._one_label:
                break
        return found
