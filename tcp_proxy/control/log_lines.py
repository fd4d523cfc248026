"""The lines of the access log: of a session, or of a request of mode http, as text or as JSON. Pure.

A session's text is key=value, in a fixed order. A request's is the combined format with more behind it:

    client - - [date] "request line" status bytes "referer" "user agent" app=… target=… host=… id=… answer=…
    seconds=… up=… reason=…

What tools know of the combined format they find in its place. Whatever a client has sent is escaped as such tools do:
quotes and backslashes by a backslash, bytes that are not ASCII as \\xhh.
"""

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache

from tcp_proxy.log import one_line, utc
from tcp_proxy.records import REQUEST, Record, RequestRecord, SessionRecord

PLAIN = re.compile(rb"[ !#-\[\]-~]*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


# -- sessions


def text_line(record: Record) -> str:
    """key=value, in a fixed order; "-" stands for nothing. Names are quoted when they hold a space or a quote."""
    tried = ",".join(f"{target}:{error}" for target, error in record.tried)
    return (
        f"{utc(record.ended_at)} id={record.id} app={_word(record.app)} listener={record.listener}"
        f" client={record.client} target={_word(record.target)} tried={_word(tried)}"
        f" connect={_seconds(record.connect_seconds)} seconds={_seconds(record.seconds)}"
        f" up={record.bytes_up} down={record.bytes_down}"
        f" ended_by={record.ended_by} reason={record.reason} errno={record.errno or '-'}\n"
    )


def json_line(record: Record) -> str:
    """One object a line."""
    line = {
        "time": utc(record.ended_at),
        "id": record.id,
        "app": record.app,
        "listener": record.listener,
        "client": record.client,
        "target": record.target,
        "tried": [{"target": target, "error": error} for target, error in record.tried],
        "connect_seconds": round(record.connect_seconds, 6) if record.connect_seconds >= 0 else None,
        "seconds": round(record.seconds, 6),
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "ended_by": record.ended_by,
        "reason": record.reason,
        "errno": record.errno,
    }
    return json.dumps(line) + "\n"


def _seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else "-"


def _word(text: str) -> str:
    if not text:
        return "-"
    text = one_line(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in text or '"' in text else text


# -- requests


def request_text(record: RequestRecord) -> str:
    return (
        f'{_ip(record.client)} - - [{_date(int(record.ended_at))}] "{_escaped(record.line.encode("latin-1"))}"'
        f' {record.status or "-"} {record.bytes_down} "{_escaped(record.referer) or "-"}" "{_escaped(record.agent) or "-"}"'
        f" app={_word(record.app)} target={_word(record.target)} host={_escaped(record.host) or '-'} id={record.id}"
        f" answer={_seconds(record.answer_seconds)} seconds={_seconds(record.seconds)}"
        f" up={record.bytes_up} reason={record.reason}\n"
    )


def request_json(record: RequestRecord) -> str:
    line = {
        "time": utc(record.ended_at),
        "id": record.id,
        "app": record.app,
        "listener": record.listener,
        "client": record.client,
        "target": record.target,
        "request": record.line,
        "host": record.host.decode("latin-1"),
        "status": record.status or None,
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "answer_seconds": round(record.answer_seconds, 6) if record.answer_seconds >= 0 else None,
        "seconds": round(record.seconds, 6),
        "referer": record.referer.decode("latin-1"),
        "user_agent": record.agent.decode("latin-1"),
        "reason": record.reason,
    }
    return json.dumps(line) + "\n"


def _ip(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")


@lru_cache(4)
def _date(at: int) -> str:
    when = time.gmtime(at)
    clock = f"{when.tm_hour:02}:{when.tm_min:02}:{when.tm_sec:02}"
    return f"{when.tm_mday:02}/{_MONTHS[when.tm_mon - 1]}/{when.tm_year:04}:{clock} +0000"


def _escaped(text: bytes) -> str:
    if not text or PLAIN.fullmatch(text):
        return text.decode()
    plain = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return "".join([chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in plain])


# -- both


def _as_text(record: SessionRecord) -> str:
    if record[0] == REQUEST:
        return request_text(RequestRecord(*record))  # type: ignore[arg-type]
    return text_line(Record(*record))  # type: ignore[arg-type]


def _as_json(record: SessionRecord) -> str:
    if record[0] == REQUEST:
        return request_json(RequestRecord(*record))  # type: ignore[arg-type]
    return json_line(Record(*record))  # type: ignore[arg-type]


FORMATS: dict[str, Callable[[SessionRecord], str]] = {"text": _as_text, "json": _as_json}
