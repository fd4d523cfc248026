"""Stick entries in the state file: rows of the table `sticks`, one for each key of an app.

`StickStore` keeps nothing: without a state file entries end with the process. `StickFile` has the state file's writer do
what is to be done (control.store.state). Any thread may call.
"""

import math
import sqlite3
from collections.abc import Callable
from typing import Any

from tcp_proxy.sansio.frozen_dataclass import dataclass

Statement = tuple[str, tuple[Any, ...]]

INSERT = "INSERT OR REPLACE INTO sticks (app, key, target, version, at) VALUES (?, ?, ?, ?, ?)"
DELETE = "DELETE FROM sticks WHERE app = ? AND key = ?"
DELETE_APP = "DELETE FROM sticks WHERE app = ?"


@dataclass(frozen=True, slots=True)
class SavedStick:
    """`at`: wall time of the end of the key's last session; 0.0: it has some. Without a target: there is no such entry."""

    app: str
    key: str
    target: str = ""
    version: int = 0
    at: float = 0.0


class StickStore:
    is_kept = False

    def take_all(self) -> dict[str, list[SavedStick]]:
        """What an earlier life has left, by app; once."""
        return {}

    def save(self, sticks: list[SavedStick]) -> None:
        """From now on this is so."""

    def forget_app(self, app: str) -> None:
        """None of its entries is wanted."""

    def wants_all(self) -> bool:
        """Whether the file is a new one, and everything known is to be saved; said once."""
        return False


class StickFile(StickStore):
    """`write(statements)` puts them in the writer's line; `is_renewed()` says once that the file was begun anew."""

    is_kept = True

    def __init__(
        self,
        known: dict[str, list[SavedStick]],
        write: Callable[[list[Statement]], Any],
        is_renewed: Callable[[], bool],
    ) -> None:
        self._known = known
        self._write = write
        self.wants_all = is_renewed  # type: ignore[method-assign]

    def take_all(self) -> dict[str, list[SavedStick]]:
        known, self._known = self._known, {}
        return known

    def save(self, sticks: list[SavedStick]) -> None:
        if sticks:
            self._write([_statement(one) for one in sticks])

    def forget_app(self, app: str) -> None:
        self._write([(DELETE_APP, (_bytes(app),))])


def read(connection: sqlite3.Connection) -> dict[str, list[SavedStick]]:
    """All that make sense; an entry that does not is worth nothing to anybody."""
    found: dict[str, list[SavedStick]] = {}
    for row in connection.execute("SELECT app, key, target, version, at FROM sticks"):
        try:
            app, key, target = map(_text, row[:3])
            one = SavedStick(app, key, target, int(row[3]), float(row[4]))
        except (ValueError, TypeError):
            continue
        if one.target and one.version > 0 and math.isfinite(one.at):
            found.setdefault(one.app, []).append(one)
    return found


def _statement(one: SavedStick) -> Statement:
    if not one.target:
        return DELETE, (_bytes(one.app), one.key)
    return INSERT, (_bytes(one.app), one.key, _bytes(one.target), one.version, one.at)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
