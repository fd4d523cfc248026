"""A request's line in the access log: the combined format with more behind it, or JSON. Pure.

    client - - [date] "request line" status bytes "referer" "user agent" app=… target=… host=… id=… answer=…
    seconds=… up=… reason=…

What tools know of the combined format they find in its place. Whatever a client has sent is escaped as such tools do:
quotes and backslashes by a backslash, bytes that are not ASCII as \\xhh.
"""

import json
import re
import time
from functools import lru_cache

from tcp_proxy.log import utc
from tcp_proxy.records import RequestRecord

PLAIN = re.compile(rb"[ !#-\[\]-~]*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def request_text(record: RequestRecord) -> str:
    answer = f"{record.answer_seconds:.6f}" if record.answer_seconds >= 0 else "-"
    return (
        f'{_ip(record.client)} - - [{_date(int(record.ended_at))}] "{_escaped(record.line.encode("latin-1"))}"'
        f' {record.status or "-"} {record.bytes_down} "{_escaped(record.referer) or "-"}" "{_escaped(record.agent) or "-"}"'
        f" app={_word(record.app)} target={_word(record.target)} host={_escaped(record.host) or '-'} id={record.id}"
        f" answer={answer} seconds={record.seconds:.6f} up={record.bytes_up} reason={record.reason}\n"
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


def _word(text: str) -> str:
    return json.dumps(text) if " " in text or '"' in text else text or "-"
