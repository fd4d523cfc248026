"""What comes in as JSON and is not described by a pydantic model, but by the schema of the configuration file.

The supervisor checks it as it checks the file; here it only has to be JSON.
"""

import json
from typing import Any, NoReturn

from tcp_proxy.config.schema import load_schema
from tcp_proxy.control.api.problems import Problem

MOST_VALUES = 5000  # in one body: 64 checks with everything there is to say are fewer


def parse(body: bytes) -> Any:
    """The value. Raises Problem."""
    try:
        found = json.loads(body, parse_constant=_no_number)
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError is one too
        raise Problem(400, f"the body is no JSON: {error}") from None
    if (count := _values(found)) > MOST_VALUES:
        raise Problem(422, f"the body has {count} values; wanted at most {MOST_VALUES}")
    return found


def described(name: str, description: str) -> dict[str, Any]:
    """For openapi_extra: a body that is a component of the document (SCHEMAS)."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"requestBody": {"description": description, "content": content, "required": True}}


def schemas() -> dict[str, Any]:
    """Components of the OpenAPI document that are taken from the schema of the configuration file."""
    target = load_schema()["properties"]["apps"]["items"]["properties"]["targets"]["items"]
    configuration = {"type": "object", "description": "A configuration, as in the file; docs/config.md has every key."}
    return {"NewTarget": {"title": "NewTarget", **target}, "Configuration": {"title": "Configuration", **configuration}}


def _values(found: Any) -> int:
    """How many there are in it, itself among them."""
    count, todo = 0, [found]
    while todo:
        one = todo.pop()
        count += 1
        if isinstance(one, dict):
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return count


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
