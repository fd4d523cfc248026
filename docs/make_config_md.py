"""Makes docs/config.md, the configuration reference, from the published schema.

make docs                                write it
python docs/make_config_md.py --check    exit 1 if it is not what would be written
"""

import json
import pathlib
import sys
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE / "config.md"
SCHEMA = HERE.parent / "tcp_proxy" / "config" / "schema.json"

INTRODUCTION = """\
# Configuration

<!-- Made from tcp_proxy/config/schema.json by docs/make_config_md.py. Change the schema, then run that. -->

The program reads one JSON file: `python -m tcp_proxy config.json`. `python -m tcp_proxy --check config.json` says
everything that is wrong with it, with line and column, and starts nothing.

{description}

The smallest file that does something:

```json
{{
  "apps": [
    {{ "name": "web", "ports": [8080], "targets": ["192.0.2.1:80", "192.0.2.2:80"] }}
  ]
}}
```

With `"$schema": "tcp_proxy/config/schema.json"` (a path from the file to the schema) an editor completes and explains
the keys. More files to start from are in the folder `examples`.
"""

Schema = dict[str, Any]


def sections(schema: Schema) -> list[tuple[str, Schema]]:
    """Each object by its title, in the order of the page; docs/make_man.py goes by it, too."""
    defs = schema["$defs"]
    return [
        ("Top level", schema),
        ("log", schema["properties"]["log"]),
        ("api", schema["properties"]["api"]),
        ("tracing", schema["properties"]["tracing"]),
        ("cluster", schema["properties"]["cluster"]),
        ("An app", defs["app"]),
        ("failover", defs["app"]["properties"]["failover"]),
        ("timeouts", defs["app"]["properties"]["timeouts"]),
        ("limits", defs["app"]["properties"]["limits"]),
        ("access", defs["app"]["properties"]["access"]),
        ("accept_proxy", defs["app"]["properties"]["accept_proxy"]),
        ("A route", defs["route"]),
        ("tls of an app", defs["tls"]),
        ("A certificate", defs["certificate"]),
        ("A target", defs["target"]),
        ("send_proxy", defs["target"]["properties"]["send_proxy"]["anyOf"][1]),
        ("tls of a target", defs["target_tls"]),
        ("A health check", defs["check"]),
    ]


def page(schema: Schema) -> str:
    """The whole page."""
    parts = [INTRODUCTION.format(description=schema["description"])]
    for title, part in sections(schema):
        parts += section(title, part)
    return "\n".join(parts)


def section(title: str, schema: Schema) -> list[str]:
    """One object: its heading and the table of its keys."""
    about = [] if title == "Top level" else [schema["description"], ""]
    rows = [row(name, key, name in needed(schema)) for name, key in schema["properties"].items()]
    return [f"## {title}", "", *about, "| key | default | takes | what it is |", "|---|---|---|---|", *rows, ""]


def needed(schema: Schema) -> list[str]:
    """The keys that must be there."""
    found: list[str] = schema.get("required", schema.get("else", {}).get("required", []))
    return found


def row(name: str, key: Schema, required: bool) -> str:
    default = "needed" if required else f"`{json.dumps(key['default'])}`"
    unit = f", in {key['x-unit']}" if "x-unit" in key else ""
    cells = [f"`{name}`", default, takes(key) + unit, key["description"]]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def takes(key: Schema) -> str:
    """The values that a key may have, in a few words."""
    if "x-wanted" in key:
        return str(key["x-wanted"])
    if "enum" in key:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in key["enum"])
    kinds = key["type"] if isinstance(key["type"], list) else [key["type"]]
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    text = words.get(kinds[0], kinds[0])
    if "minimum" in key:
        text += f" from {key['minimum']} to {key['maximum']}"
    return text


def main(arguments: list[str]) -> int:
    made = page(json.loads(SCHEMA.read_bytes()))
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == made:
            return 0
        sys.stderr.write("docs/config.md is not what the schema says: run make docs\n")
        return 1
    if arguments:
        sys.stderr.write("usage: make_config_md.py [--check]\n")
        return 2
    PAGE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
