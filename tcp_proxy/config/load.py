"""A configuration file becomes a Config, or the complete list of what is wrong with it.

The supervisor's process only: no worker imports this file (a test looks). Nothing but ConfigErrors is ever raised for
what a file may contain or for not being able to read it. The steps, each of which goes on after what it can:

    bytes ── decode ──> text ── Scanner ──> nodes ── Folder, Expansion ──> plain values ── jsonschema ── build ──> Config
                        └──> those of included files

A file in which nothing is wrong goes a straight way to the same Config, without nodes (config.straight).
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from tcp_proxy.config.build import build, build_more_targets
from tcp_proxy.config.expansion import Expansion
from tcp_proxy.config.files import PIPE_WAIT, read_file
from tcp_proxy.config.include import INCLUDE, MAX_SIZE, include, scan, text_of
from tcp_proxy.config.last_file import LastFile
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.positions import Lines, Malformed, Scanner, shown
from tcp_proxy.config.report import ConfigError, ConfigErrors, Report
from tcp_proxy.config.schema import Expand, Folder, load_schema, validate
from tcp_proxy.config.straight import load_straight

__all__ = ["ConfigError", "ConfigErrors", "load_file", "load_target", "load_text"]


def load_file(path: str, last: LastFile | None = None) -> Config:
    """The configuration in a file. `last`: when it was read last; it is changed to what it is now. Raises ConfigErrors."""
    try:
        text = read_file(path, MAX_SIZE + 1, PIPE_WAIT)
    except FileNotFoundError:
        raise _unreadable(path, "there is no such file") from None
    except IsADirectoryError:
        raise _unreadable(path, "this is a directory; wanted a file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"cannot be read: {reason}") from None
    if len(text) > MAX_SIZE:
        raise _unreadable(path, f"this is bigger than {MAX_SIZE} bytes")
    return load_text(text, path, os.environ, os.path.dirname(path), last)


def load_text(
    text: bytes, name: str, environment: Mapping[str, str] | None = None, folder: str | None = None,
    last: LastFile | None = None,
) -> Config:  # fmt: skip
    """The configuration in a text; `name` is what errors call it. Its strings stand for themselves, unless there is an
    `environment` (config.expansion); it includes no files, unless there is a `folder` that their names are relative to.
    `last`: as for `load_file`. Raises ConfigErrors."""
    whole, schema = text_of(text), load_schema()
    if not (whole.problem or whole.is_marked):
        found = load_straight(whole.decoded, environment, schema, last)
        if found is not None:
            return found
    report = Report(name, whole.lines)
    report.root = scan(whole, report)
    if report.root is None:
        raise report.errors()
    root = report.root.value
    if not isinstance(root, dict):
        report.value((), f'found {shown(root)}; wanted an object with the key "apps"')
        raise report.errors()
    expand = None if environment is None else Expansion(environment, report).value
    key = next((key for key in root if key.lower() == INCLUDE), "")
    if key and isinstance(root[key].node.value, str):
        _include(root, key, expand, folder, report)
    plain = Folder(report, expand).fold(report.root, schema)
    validate(plain, schema, report)
    config = build(plain, report)
    if report:
        raise report.errors()
    if last is not None:
        last.files = tuple(report.files)
    return config


def _include(root: dict[str, Any], key: str, expand: Expand | None, folder: str | None, report: Report) -> None:
    if folder is None:
        report.value((key,), "files are included by a file alone, not by what comes by the management API")
        return
    text = root[key].node.value
    wanted = text if expand is None else expand(text, {}, (key,))
    if wanted is not None:
        include(os.path.join(folder, wanted), (key,), root, report)


def load_target(entry: Any, app: App) -> Target:
    """One more target for an app, from what would stand in the file's list. Raises ConfigErrors."""
    return load_targets(json.dumps([entry]), app, "target")[0]


def load_targets(text: str, app: App, name: str) -> list[Target]:
    """The same of a whole list, in JSON; `name` is what errors call it."""
    lines = Lines(text)
    report = Report(name, lines)
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
    targets = build_more_targets(plain, app, report) if isinstance(plain, list) else []
    if report:
        raise report.errors()
    return targets


def _unreadable(path: str, message: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(path, 0, 0, "", message),))
