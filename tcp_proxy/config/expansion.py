"""What strings of a configuration file stand for: variables of the environment, and secrets that are in files.

The supervisor's process only, in the thread that loads the configuration. Only a file that the operator has written is
expanded, never what comes by the management API (who may use that may not read the environment, or any file he likes), and
once: neither a variable's value nor a file's contents are looked at again.

Always true: no message has a value of a variable whose name says that it is a secret, nor the contents of a file.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from tcp_proxy.config.files import read_file
from tcp_proxy.config.positions import CONSTANTS, NUMBER, Path
from tcp_proxy.config.report import Report
from tcp_proxy.config.secrets import SECRET_NAME

VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
WANTED = 'wanted "${NAME}" or "${NAME:-default}"; "$${" stands for "${" itself'
FILE, NO_FILE = "@", "@@"
MOST_BYTES = 65536  # of a secret

Schema = dict[str, Any]


class Expansion:
    """Of one document, whose faults it reports."""

    def __init__(self, environment: Mapping[str, str], report: Report) -> None:
        self._environment = environment
        self._report = report

    def __repr__(self) -> str:
        return f"<Expansion for {self._report!r}>"

    def value(self, text: str, schema: Schema, path: Path) -> Any:
        """What it stands for at a place with this schema; None for what is reported as wrong."""
        found: Any = self._with_variables(text, path) if "${" in text else text
        if found is None:
            return None
        if schema.get("x-secret") and found.startswith(FILE):
            return found.removeprefix(FILE) if found.startswith(NO_FILE) else self._secret(found.removeprefix(FILE), path)
        return _as_wanted(found, schema) if found is not text and _is_one(text) else found

    def _with_variables(self, text: str, path: Path) -> str | None:
        faults: list[str] = []
        found = VARIABLE.sub(lambda match: self._of_match(match, faults), text)
        for fault in faults:
            self._report.value(path, fault)
        return None if faults else found

    def _of_match(self, match: re.Match[str], faults: list[str]) -> str:
        if match[0] == "$${":
            return "${"
        inside = INSIDE.fullmatch(match[1])
        if inside is None or not match[2]:
            faults.append(f"found {json.dumps(match[0], ensure_ascii=False)}; {WANTED}")
            return ""
        name, default = inside.groups()
        value = self._environment.get(name, "")
        if not value and default is not None:
            return default
        if name not in self._environment:
            faults.append(f'the environment has no {name}; wanted it set, or a default: "${{{name}:-…}}"')
        elif SECRET_NAME.search(name):
            self._report.hide(value)
        try:
            value.encode()
        except UnicodeEncodeError:
            faults.append(f"what the environment has as {name} is not UTF-8")
        return value

    def _secret(self, name: str, path: Path) -> str | None:
        whole = json.dumps(name, ensure_ascii=False)
        try:
            contents = read_file(name, MOST_BYTES + 1)
            text = contents.decode()
        except UnicodeDecodeError:
            self._report.value(path, f"{whole} is not UTF-8")
            return None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self._report.value(path, f'{whole} cannot be read: {reason} ("@@" stands for "@" itself)')
            return None
        if len(contents) > MOST_BYTES:
            self._report.value(path, f"{whole} is bigger than {MOST_BYTES} bytes")
            return None
        self._report.files.append(name)
        text = text.removesuffix("\n").removesuffix("\r")
        self._report.hide(text)
        return text


def _is_one(text: str) -> bool:
    """Whether a variable is all of it."""
    match = VARIABLE.fullmatch(text)
    return match is not None and match[0] != "$${"


def _as_wanted(text: str, schema: Schema) -> Any:
    """Where a number, or true or false, may stand, a variable that says one is one."""
    kinds = {kind for branch in (schema, *schema.get("anyOf", ())) for kind in _kinds(branch)}
    if "boolean" in kinds and text in ("true", "false"):
        return CONSTANTS[text]
    if kinds & {"integer", "number"} and len(text) < 20 and NUMBER.fullmatch(text):
        return json.loads(text)
    return text


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds
