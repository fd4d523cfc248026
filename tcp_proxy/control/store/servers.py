"""What the checks have found out about each server, as rows of the state file: values, statements and their reading.

Pure; control.store.state owns the rows and its thread the file. A target that is no group is one server, with the port 0.
Always true: a row that is read is one that was written (its checksum), or the file is Damaged.
"""

import json
import sqlite3
import zlib
from dataclasses import asdict, astuple
from typing import Any

from tcp_proxy.control.store.database import Damaged, Statement
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.verdict import Known

INSERT = (
    "INSERT OR REPLACE INTO servers (app, target, port, checks, crc)"
    " VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?, CAST(? AS TEXT), ?)"
)
DELETE = "DELETE FROM servers WHERE app = CAST(? AS TEXT) AND target = CAST(? AS TEXT) AND port = ?"

ServerKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class SavedServer:
    """One server of a target, and what each of its checks has found."""

    app: str
    target: str
    port: int
    checks: tuple[Known, ...]

    @property
    def key(self) -> ServerKey:
        return self.app, self.target, self.port


def insert(server: SavedServer) -> Statement:
    checks = json.dumps([asdict(known) for known in server.checks])
    return INSERT, (*_names(server.app, server.target), server.port, checks, _checksum(server))


def delete(key: ServerKey) -> Statement:
    app, target, port = key
    return DELETE, (*_names(app, target), port)


def read(connection: sqlite3.Connection) -> dict[ServerKey, SavedServer]:
    """Raises Damaged, sqlite3.Error."""
    connection.text_factory = lambda data: data.decode("utf-8", "surrogatepass")
    found = {}
    try:
        for app, target, port, checks, crc in connection.execute("SELECT app, target, port, checks, crc FROM servers"):
            server = SavedServer(app, target, port, tuple(_known(plain) for plain in json.loads(checks)))
            if _checksum(server) != crc:
                raise Damaged("it is damaged (a row is not what was written)")
            found[server.key] = server
    except (ValueError, TypeError) as error:
        raise Damaged(f"it is damaged ({error})") from None
    return found


def _known(plain: Any) -> Known:
    known = Known(**plain)
    texts, words = (known.question, known.evidence), (known.is_passing, known.is_proven)
    fits = all(isinstance(text, str) for text in texts) and all(isinstance(word, bool) for word in words)
    if not fits or type(known.opposed) is not int or known.opposed < 0:
        raise TypeError("a verdict with a value of the wrong kind")
    return known


def _names(*names: str) -> tuple[bytes, ...]:
    """Text as its bytes, so that every str of Python has its place."""
    return tuple(name.encode("utf-8", "surrogatepass") for name in names)


def _checksum(server: SavedServer) -> int:
    return zlib.crc32(json.dumps(astuple(server)).encode())
