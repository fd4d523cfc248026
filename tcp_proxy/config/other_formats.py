"""Which other format a text is in that is no JSON: said at once, instead of an error at its first character. Pure."""

import re
import tomllib

_SAME = "wanted JSON: the same keys, with braces, brackets and double quotes"
_KEYS = "wanted JSON (docs/config.md has the keys)"
_FIRST = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*([^\n]*)")
_LIST = re.compile(r"\[+\s*(?:[\]{\"0-9-]|$)")  # of JSON; a table of TOML has a name in its brackets
_KINDS = (
    (
        re.compile(r"(?:global|defaults|(?:frontend|backend|listen)\s+\S+)\s*(?:#.*)?$"),
        f"this is HAProxy's configuration; --import makes ours of it, {_KEYS}",
    ),
    (re.compile(r"(?:[a-z_]+\s+[^{;=:]*;|(?:events|http|stream|server)\s*\{)"), f"this is nginx's configuration; {_KEYS}"),
    (re.compile(r"(?:---(?:\s|$)|%YAML|- \S|[\w.\"'-]+\s*:(?:\s|$))"), f"this is YAML; {_SAME}"),
)  # fmt: skip


def recognised(text: str) -> str:
    """What to say of a text that does not begin as JSON does; "" when nothing is known of it."""
    first = _FIRST.match(text)
    line = first.group(1).rstrip() if first else ""
    if not line or line.startswith("{") or _LIST.match(line):
        return ""
    for kind, sentence in _KINDS:
        if kind.match(line):
            return sentence
    return f"this is TOML; {_SAME} (--import takes a configuration of tcpffee)" if _is_toml(text) else ""


def _is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
