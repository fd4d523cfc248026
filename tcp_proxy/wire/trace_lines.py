"""Records of what is traced, on their way from a worker to the exporter: a line of JSON for each, with the record as it is.

Pure. They go by the record pipes as lines of the access log do (wire.log_lines); the supervisor passes them on unread.
"""

import json
from typing import Any

from tcp_proxy.wire.records import REQUEST, Record, RequestRecord, SessionRecord


def _latin(value: Any) -> str:
    """Bytes are what a client has sent."""
    text: str = value.decode("latin-1")
    return text


_encode = json.JSONEncoder(default=_latin, separators=(",", ":")).encode


_OF_REQUEST, _OF_SESSION = RequestRecord._fields.index("trace"), Record._fields.index("trace")


def is_traced(record: SessionRecord) -> bool:
    return bool(record[_OF_REQUEST if record[0] == REQUEST else _OF_SESSION])


def line(record: SessionRecord) -> str:
    return _encode(record) + "\n"


def read(data: bytes) -> Record | RequestRecord:
    """What `line` was made of, with text for bytes, and lists for tuples. Raises ValueError for what is none."""
    fields = json.loads(data)
    kind: Any = RequestRecord if fields and fields[0] == REQUEST else Record
    try:
        found: Record | RequestRecord = kind(*fields)
    except TypeError as error:
        raise ValueError(str(error)) from None
    return found
