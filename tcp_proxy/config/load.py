"""A configuration file becomes a Config, or the complete list of what is wrong with it.

The supervisor's process only: no worker imports this file (a test looks). Nothing but ConfigErrors is ever raised for
what a file may contain or for not being able to read it. The steps, each of which goes on after what it can:

    bytes ── decode ──> text ── Scanner ──> nodes ── Folder ──> plain values ── jsonschema ── build ──> Config
"""

import json
import os
from typing import Any

from tcp_proxy.config.build import build, build_target
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.positions import Lines, Malformed, Scanner, shown
from tcp_proxy.config.report import ConfigError, ConfigErrors, Report
from tcp_proxy.config.schema import Folder, load_schema, validate

__all__ = ["ConfigError", "ConfigErrors", "load_file", "load_target", "load_text"]

MAX_SIZE = 64 * 1024 * 1024  # bytes; a file that never ends must not fill the memory


def load_file(path: str) -> Config:
    """The configuration in a file. Raises ConfigErrors."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file") from None
    except IsADirectoryError:
        raise _unreadable(path, "this is a directory; wanted a file") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise _unreadable(path, f"cannot be read: {reason}") from None
    if len(text) > MAX_SIZE:
        raise _unreadable(path, f"this is bigger than {MAX_SIZE} bytes")
    return load_text(text, path)


def load_text(text: bytes, name: str) -> Config:
    """The configuration in a text; `name` is what errors call it. Raises ConfigErrors."""
    decoded, problem = _decode(text)
    # A byte order mark takes no column: editors do not show one.
    marked = decoded.startswith("\ufeff")
    decoded = decoded.removeprefix("\ufeff")
    lines = Lines(decoded)
    report = Report(name, lines)
    if problem:
        report.at(len(decoded), (), problem)
        raise report.errors()
    if marked:
        report.at(0, (), "the file begins with a byte order mark; JSON has none, save it as plain UTF-8")
    scanner = Scanner(decoded, lines)
    try:
        report.root = scanner.document()
    except Malformed as error:
        scanner.faults.append(error.fault)
    for fault in scanner.faults:
        report.fault(fault)
    if report.root is None:
        raise report.errors()
    if not isinstance(report.root.value, dict):
        report.value((), f'found {shown(report.root.value)}; wanted an object with the key "apps"')
        raise report.errors()
    schema = load_schema()
    plain = Folder(report).fold(report.root, schema)
    validate(plain, schema, report)
    config = build(plain, report)
    if report:
        raise report.errors()
    return config


def load_target(entry: Any, app: App) -> Target:
    """One more target for an app, from what would stand in the file's list. Raises ConfigErrors."""
    text = json.dumps([entry])
    lines = Lines(text)
    report = Report("target", lines)
    scanner = Scanner(text, lines)
    try:
        report.root = scanner.document()
    except Malformed as error:
        report.fault(error.fault)
        raise report.errors() from None
    for fault in scanner.faults:
        report.fault(fault)
    schema = load_schema()["properties"]["apps"]["items"]["properties"]["targets"]
    plain = Folder(report).fold(report.root, schema)
    validate(plain, schema, report)
    target = build_target(plain or (), app, report)
    if report or target is None:
        raise report.errors()
    return target


def _decode(text: bytes) -> tuple[str, str]:
    """The text up to the first byte that is not UTF-8, and what is wrong with that byte."""
    try:
        return text.decode(), ""
    except UnicodeDecodeError as error:
        hint = " (this looks like UTF-16)" if text.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        problem = f"the byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8{hint}"
        return text[: error.start].decode(), problem


def _unreadable(path: str, message: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(path, 0, 0, "", message),))
