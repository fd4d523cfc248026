"""Apps in files of their own: each file of a folder is scanned as the main one is, and its app put behind those of that.

The supervisor's process only, in the thread that loads the configuration. What is wrong in such a file is said with its name
and the place in it: the report knows which offsets are whose (config.report), and paths begin at its app.
"""

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from tcp_proxy.config.files import read_file
from tcp_proxy.config.positions import Lines, Malformed, Member, Node, Path, Scanner, shown
from tcp_proxy.config.report import Report

ENDING = ".json"
MAX_SIZE = 64 * 1024 * 1024  # bytes; a file that never ends must not fill the memory
INCLUDE, APPS = "include", "apps"


class Text(NamedTuple):
    """Of a file: as far as it is UTF-8, and what is wrong then."""

    decoded: str
    problem: str
    is_marked: bool
    lines: Lines


def text_of(data: bytes) -> Text:
    decoded, problem = _decode(data)
    # A byte order mark takes no column: editors do not show one.
    is_marked = decoded.startswith("\ufeff")
    decoded = decoded.removeprefix("\ufeff")
    return Text(decoded, problem, is_marked, Lines(decoded))


def scan(text: Text, report: Report, base: int = 0, path: Path = ()) -> Node | None:
    """The document, with its faults reported; None if it is none. Its offsets begin at `base`, its paths with `path`."""
    if text.problem:
        report.at(base + len(text.decoded), path, text.problem)
        return None
    if text.is_marked:
        report.at(base, path, "the file begins with a byte order mark; JSON has none, save it as plain UTF-8")
    from tcp_proxy.config.other_formats import recognised  # noqa: PLC0415  a right file needs no tomllib

    other = recognised(text.decoded)
    if other:
        report.at(base, path, other)
        return None
    scanner, root = Scanner(text.decoded, text.lines), None
    try:
        root = scanner.document()
    except Malformed as error:
        scanner.faults.append(error.fault)
    for fault in scanner.faults:
        report.fault(fault._replace(offset=base + fault.offset, path=(*path, *fault.path)))
    if root is not None and base:
        _shift(root, base)
    return root


def include(folder: str, place: Path, root: dict[str, Member], report: Report) -> None:
    """Put the apps of a folder's files behind those of the document."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(ENDING) and not name.startswith("."))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        report.value(place, f"{json.dumps(folder, ensure_ascii=False)} cannot be read: {reason}")
        return
    report.files.append(folder)
    key = next((key for key in root if key.lower() == APPS), None)
    if key is None:
        if not names:
            whole = json.dumps(folder, ensure_ascii=False)
            report.value(place, f"no file in {whole} ends in {ENDING}, and there is no other app")
            return
        key, offset = APPS, root[str(place[-1])].offset
        root[key] = Member(offset, Node(offset, []))
    apps = root[key].node.value
    if isinstance(apps, list):
        apps.extend(_apps(folder, names, len(apps), key, report))


def _apps(folder: str, names: list[str], count: int, key: str, report: Report) -> Iterator[Node]:
    for name in names:
        path: Path = (key, count)
        file = os.path.join(folder, name)
        data = _read(file, report)
        if data is None:
            continue
        text = text_of(data)
        node = scan(text, report, report.begin(file, text.lines, len(text.decoded), path), path)
        if node is None:
            continue
        fault = _fault(node)
        if fault:
            report.at(node.offset, path, fault)
            continue
        node.value.pop("$schema", None)
        count += 1
        yield node


def _fault(node: Node) -> str:
    if not isinstance(node.value, dict):
        return f"found {shown(node.value)}; wanted an object: one app"
    if any(name.lower() == APPS for name in node.value):
        return f'an included file is one app, without "{APPS}" around it'
    return ""


def _read(file: str, report: Report) -> bytes | None:
    try:
        data = read_file(file, MAX_SIZE + 1)
    except OSError as error:
        report.of_file(file, f"cannot be read: {error.strerror or error}")
        return None
    if len(data) > MAX_SIZE:
        report.of_file(file, f"this is bigger than {MAX_SIZE} bytes")
        return None
    return data


def _shift(node: Node, base: int) -> None:
    node.offset += base
    if isinstance(node.value, list):
        for item in node.value:
            _shift(item, base)
    elif isinstance(node.value, dict):
        for key, (offset, inner) in node.value.items():
            node.value[key] = Member(offset + base, inner)
            _shift(inner, base)


def _decode(text: bytes) -> tuple[str, str]:
    """The text up to the first byte that is not UTF-8, and what is wrong with that byte."""
    try:
        return text.decode(), ""
    except UnicodeDecodeError as error:
        hint = " (this looks like UTF-16)" if text.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        problem = f"the byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8{hint}"
        return text[: error.start].decode(), problem
