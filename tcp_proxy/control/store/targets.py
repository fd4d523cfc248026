"""What is known of each target, as rows of the state file: values, statements, reading.

Pure; control.store.state owns the rows and its thread the file. Text is stored as its bytes, so that every str of Python has
its place. Always true: a row that is read is one that was written (its checksum), or the file is Damaged.
"""

import json
import math
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import astuple, fields
from typing import Any

from tcp_proxy.control.store.database import Damaged, Statement
from tcp_proxy.sansio.frozen_dataclass import dataclass

REMOVED = "removed"  # at run time: it stays away although the file has it
ADMINS = ("", "ready", "drain", "disabled", REMOVED)
VERDICTS = ("", "up", "draining", "down")
ORIGINS = ("file", "api")

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class SavedTarget:
    """One target of one app, as it is to be known again."""

    app: str
    target: str
    admin: str = ""  # ADMINS; "": nothing was said at run time
    weight: int | None = None  # None: that of the configuration
    verdict: str = ""  # VERDICTS; "": no check has had a result. What each check found of each server: SavedServer
    results: int = 0  # in a row, against the verdict
    evidence: str = ""
    at: float = 0.0  # wall time of the last change
    origin: str = "file"  # ORIGINS: where the target was added
    definition: str = ""  # JSON: an added target, or the file's when something was said of it (saved_overrides)

    @property
    def key(self) -> Key:
        return self.app, self.target


NAMES = tuple(field.name for field in fields(SavedTarget))
COLUMNS = ", ".join((*NAMES, "crc"))
PLACES = ", ".join("CAST(? AS TEXT)" if field.type in (str, "str") else "?" for field in fields(SavedTarget))
INSERT = f"INSERT OR REPLACE INTO targets ({COLUMNS}) VALUES ({PLACES}, ?)"
DELETE = "DELETE FROM targets WHERE app = CAST(? AS TEXT) AND target = CAST(? AS TEXT)"


def insert(target: SavedTarget) -> Statement:
    fault = _fault(target)
    if fault:
        raise ValueError(f"{target}: {fault}")
    return INSERT, (*(_stored(value) for value in astuple(target)), _checksum(target))


def delete(key: Key) -> Statement:
    return DELETE, tuple(_stored(part) for part in key)


def _stored(value: Any) -> Any:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _checksum(target: SavedTarget) -> int:
    return zlib.crc32(json.dumps(astuple(target)).encode())


def read(connection: sqlite3.Connection) -> Iterator[SavedTarget]:
    connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    try:
        for *values, crc in connection.execute(f"SELECT {COLUMNS} FROM targets"):
            target = SavedTarget(*values)
            if _fault(target) or _checksum(target) != crc:
                raise Damaged("it is damaged (a row is not what was written)")
            yield target
    except (ValueError, TypeError) as error:
        raise Damaged(f"it is damaged ({error})") from None


def _fault(target: SavedTarget) -> str:
    """What a row can not be."""
    words = ((target.admin, ADMINS), (target.verdict, VERDICTS), (target.origin, ORIGINS))
    if any(word not in known for word, known in words):
        return "an unknown word"
    texts = (target.app, target.target, target.evidence, target.definition)
    numbers = (target.results, target.weight or 0)
    if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
        return "a value of the wrong kind"
    return "" if all(0 <= number < 1 << 31 for number in numbers) else "a number out of range"


def clamped(at: float, now: float) -> float:
    return min(max(0.0, float(at)), max(0.0, now)) if math.isfinite(at) else 0.0
