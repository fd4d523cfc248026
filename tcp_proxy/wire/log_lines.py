"""The lines of the access log: of a session, or of a request of mode http, as text or as JSON. Pure.

Workers write them to their record pipes; the supervisor passes them on as they are (control/access_log). A session's text
is key=value, in a fixed order. A request's is the combined format with more behind it:

    client - - [date] "request line" status bytes "referer" "user agent" app=… target=… host=… id=… answer=…
    seconds=… up=… reason=… error=… peer=… tls=… notes=…

Where apps have access logs of their own, a line of another kind says to which one those behind it belong: SWITCH and the
path of that log in JSON. No other line has that character: whatever comes from outside is escaped.

What tools know of the combined format they find in its place. Whatever a client has sent is escaped as such tools do:
quotes and backslashes by a backslash, bytes that are not ASCII as \\xhh.

A busy app has 20,000 lines a second, so what one line has in common with the last ones is written once (`lru_cache`).
"""

import json
import re
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any

from tcp_proxy.runtime.log import one_line, utc
from tcp_proxy.wire.records import REQUEST, Record, RequestRecord, SessionRecord, Trace

PLAIN = re.compile(rb"[ !#-\[\]-~]*")
SWITCH = "\x01"
REMEMBERED, REMEMBERED_SIZE = 512, 256  # values, and bytes of one
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def switch(path: str) -> str:
    return f"{SWITCH}{json.dumps(path)}\n"


# -- sessions


def text_line(record: Record) -> str:
    """key=value, in a fixed order; "-" stands for nothing. Names are quoted when they hold a space or a quote."""
    tried = ",".join(f"{target}:{error}" for target, error in record.tried)
    return (
        f"{utc(record.ended_at)} id={record.id} app={_word(record.app)} listener={record.listener}"
        f" client={record.client} target={_word(record.target)} tried={_word(tried)}"
        f" connect={_seconds(record.connect_seconds)} seconds={_seconds(record.seconds)}"
        f" up={record.bytes_up} down={record.bytes_down}"
        f" ended_by={record.ended_by} reason={record.reason} errno={record.errno or '-'}"
        f" peer={record.peer or '-'} error={_word(record.error)} tls={_tls_text(record.tls)}"
        f" notes={_word(record.notes)}{_processes(record.processes)}{_traced(record.trace)}\n"
    )


def json_line(record: Record) -> str:
    """One object a line."""
    line: dict[str, Any] = {
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
        "peer": record.peer,
        "error": record.error,
        "tls": _tls_object(record.tls),
        "notes": record.notes,
    }
    if record.processes:
        line["processes"] = list(record.processes)
    if record.trace:
        line["trace"] = record.trace[0]
    return json.dumps(line) + "\n"


def _processes(numbers: tuple[int, ...]) -> str:
    """Of a session that has moved; all others say nothing of them."""
    return f" processes={','.join(map(str, numbers))}" if numbers else ""


def _processes_json(numbers: tuple[int, ...]) -> str:
    return f', "processes": [{", ".join(map(str, numbers))}]'


def _seconds(value: float) -> str:
    return f"{value:.6f}" if value >= 0 else "-"


def _word(text: str) -> str:
    if not text:
        return "-"
    text = one_line(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in text or '"' in text else text


# -- requests


def request_text(record: RequestRecord) -> str:
    (
        _, id, app, _, client, target, line, host, status, up, down, answer, seconds, referer, agent, reason, ended_at,
        error, peer, tls, notes, trace, _, processes,
    ) = record  # fmt: skip
    in_all = f"{seconds:.6f}"
    return (
        f'{_ip(client)} - - [{_date(int(ended_at))}] "{_escaped(line)}" {status or "-"} {down} '
        f"{(_common if len(referer) + len(agent) < REMEMBERED_SIZE else _said)(referer, agent, app, target, host)} id={id}"
        f" answer={in_all if answer == seconds else f'{answer:.6f}' if answer >= 0 else '-'} seconds={in_all}"
        f" up={up} reason={reason} error={_word(error) if error else '-'} peer={peer or '-'}"
        f" tls={_tls_text(tls) if tls else '-'} notes={_word(notes) if notes else '-'}"
        f"{_processes(processes) if processes else ''}{_traced(trace) if trace else ''}\n"
    )


def _said(referer: bytes, agent: bytes, app: str, target: str, host: bytes) -> str:
    """What most lines have in common: what clients say of themselves, and names of ours."""
    return (
        f'"{_escaped(referer) or "-"}" "{_escaped(agent) or "-"}"'
        f" app={_word(app)} target={_word(target)} host={_escaped(host) or '-'}"
    )


_common = lru_cache(REMEMBERED)(_said)


@lru_cache(REMEMBERED)
def _ip(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")


class UsualLines:
    """Lines of requests of which nothing is to be said but what is said of all, as `request_text` writes them, for a fifth
    of its work: what a line has in common with the ones before it is put together once. One thread's.

    `waiting` takes them; `hurry` is called when it has its first, and from so many (`most`) on."""

    __slots__ = ("_date", "_date_at", "_hurry", "_most", "_names", "_seconds", "_seconds_of", "_waiting")

    def __init__(self, waiting: deque[Any], most: int, hurry: Callable[[], Any]) -> None:
        self._waiting, self._most, self._hurry = waiting, most, hurry
        self._date, self._date_at = "", -1
        self._seconds, self._seconds_of = "", -1.0  # of a batch of requests many took the same time: the loop's clock stands
        self._names: dict[str, dict[str, str]] = {}  # what is said of a target, by app and target

    def __repr__(self) -> str:
        return f"<UsualLines, names of {len(self._names)} apps>"

    def said(self, line: bytes, referer: bytes, agent: bytes, host: bytes) -> tuple[str, str, str]:
        """What a request says of itself; whoever remembers the request remembers it."""
        return _escaped(line), f'"{_escaped(referer) or "-"}" "{_escaped(agent) or "-"}"', _escaped(host) or "-"

    def add(
        self, ip: str, said: tuple[str, str, str], app: str, target: str, session: str, number: int, status: int, up: int,
        down: int, seconds: float, reason: str, ended_at: float,
    ) -> None:  # fmt: skip
        """`session`: what the id begins with; `seconds`: to the head of the answer, and to its end."""
        line, client, host = said
        if seconds != self._seconds_of:
            self._seconds, self._seconds_of = f" answer={seconds:.6f} seconds={seconds:.6f} up=", seconds
        if ended_at < self._date_at or ended_at >= self._date_at + 1:
            self._date_at = int(ended_at)
            self._date = f' - - [{_date(self._date_at)}] "'
        names = self._names.get(app)
        words = names.get(target) if names is not None else None
        if words is None:
            words = self._remember(app, target)
        code = str(status) if status else "-"
        waiting = self._waiting
        waiting.append(
            f'{ip}{self._date}{line}" {code} {down} {client}{words}{host} id={session}{number}{self._seconds}{up}'
            f" reason={reason} error=- peer=- tls=- notes=-\n"
        )
        if len(waiting) == 1 or len(waiting) >= self._most:
            self._hurry()

    def _remember(self, app: str, target: str) -> str:
        if len(self._names) > REMEMBERED or len(self._names.get(app, ())) > REMEMBERED:
            self._names.clear()
        words = self._names.setdefault(app, {})[target] = f" app={_word(app)} target={_word(target)} host="
        return words


def request_json(record: RequestRecord) -> str:
    """As json.dumps would write it, in a third of the time."""
    (
        _, id, app, listener, client, target, line, host, status, up, down, answer, seconds, referer, agent, reason,
        ended_at, error, peer, tls, notes, trace, _, processes,
    ) = record  # fmt: skip
    in_all = f"{seconds:.6f}"
    return (
        f'{{"time": "{utc(ended_at)}", "id": "{id}", "app": {_string(app)}, "listener": {_string(listener)},'
        f' "client": "{client}", "target": {_string(target)}, "request": {encode_basestring_ascii(line.decode("latin-1"))},'
        f' "host": {_latin(host)}, "status": {status or "null"}, "bytes_up": {up}, "bytes_down": {down},'
        f' "answer_seconds": {in_all if answer == seconds else f"{answer:.6f}" if answer >= 0 else "null"},'
        f' "seconds": {in_all},'
        f' "referer": {_latin(referer)}, "user_agent": {_latin(agent)}, "reason": "{reason}",'
        f' "error": {encode_basestring_ascii(error)}, "peer": "{peer}",'
        f' "tls": {_tls_json(tls) if tls else "null"}, "notes": {encode_basestring_ascii(notes)}'
        f'{_processes_json(processes) if processes else ""}{_traced_json(trace)}}}\n'
    )


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


_string = lru_cache(REMEMBERED)(encode_basestring_ascii)


@lru_cache(REMEMBERED)
def _remembered_latin(text: bytes) -> str:
    return encode_basestring_ascii(text.decode("latin-1"))


def _latin(text: bytes) -> str:
    return _remembered_latin(text) if len(text) <= REMEMBERED_SIZE else encode_basestring_ascii(text.decode("latin-1"))


# -- both


def _traced(trace: Trace) -> str:
    """What nobody traces says nothing of it."""
    return f" trace={trace[0]}" if trace else ""


def _traced_json(trace: Trace) -> str:
    return f', "trace": "{trace[0]}"' if trace else ""


@lru_cache(REMEMBERED)
def _tls_text(tls: tuple[Any, ...]) -> str:
    """TLSv1.3 TLS_AES_128_GCM_SHA256 resumed sni=a.example subject=CN=client"""
    if not tls:
        return "-"
    version, cipher, is_resumed, name, subject = tls
    said = (version, cipher, is_resumed and "resumed", name and f"sni={name}", subject and f"subject={subject}")
    return _word(" ".join(filter(None, said)))


def _tls_object(tls: tuple[Any, ...]) -> dict[str, Any] | None:
    return dict(zip(("version", "cipher", "resumed", "server_name", "subject"), tls, strict=True)) if tls else None


@lru_cache(REMEMBERED)
def _tls_json(tls: tuple[Any, ...]) -> str:
    return json.dumps(_tls_object(tls))


def _as_text(record: SessionRecord) -> str:
    return request_text(record) if record[0] == REQUEST else text_line(Record(*record))  # type: ignore[arg-type]


def _as_json(record: SessionRecord) -> str:
    return request_json(record) if record[0] == REQUEST else json_line(Record(*record))  # type: ignore[arg-type]


FORMATS: dict[str, Callable[[SessionRecord], str]] = {"text": _as_text, "json": _as_json}
