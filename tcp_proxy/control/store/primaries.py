"""Who was primary last, of each failover app, and in which epoch, as rows of the state file: values, statements, reading.

Pure; control.store.state owns the rows and its thread the file. Always true: a row that is read is one that was written (its
checksum), or the file is Damaged. A row of an app that has left stays: should the app come back, its epochs go on.
"""

import json
import sqlite3
import zlib
from dataclasses import astuple

from tcp_proxy.control.store.database import Damaged, Statement
from tcp_proxy.sansio.frozen_dataclass import dataclass

INSERT = "INSERT OR REPLACE INTO primaries (app, target, epoch, crc) VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, ?)"

PrimaryKey = tuple[str]


@dataclass(frozen=True, slots=True)
class SavedPrimary:
    app: str
    target: str  # the last one that was elected; "": none was
    epoch: int  # the last one that was begun

    @property
    def key(self) -> PrimaryKey:
        return (self.app,)


def insert(saved: SavedPrimary) -> Statement:
    names = (name.encode("utf-8", "surrogatepass") for name in (saved.app, saved.target))
    return INSERT, (*names, saved.epoch, _checksum(saved))


def read(connection: sqlite3.Connection) -> dict[PrimaryKey, SavedPrimary]:
    """Raises Damaged, sqlite3.Error."""
    connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    found = {}
    try:
        for app, target, epoch, crc in connection.execute("SELECT app, target, epoch, crc FROM primaries"):
            saved = SavedPrimary(app, target, epoch)
            if _checksum(saved) != crc or type(epoch) is not int or epoch < 0:
                raise Damaged("it is damaged (a row is not what was written)")
            found[saved.key] = saved
    except (ValueError, TypeError) as error:
        raise Damaged(f"it is damaged ({error})") from None
    return found


def _checksum(saved: SavedPrimary) -> int:
    return zlib.crc32(json.dumps(astuple(saved)).encode())
