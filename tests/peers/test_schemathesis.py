"""schemathesis asks whatever the OpenAPI document allows, and what it does not: no answer is an error of the server's, none
is something that the document does not say. The same questions each time.
"""

import itertools
import json

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from kit.api import Api, api_config
from kit.ports import free_port
from kit.proxy import ROOT, running

CHECKS = [
    content_type_conformance, negative_data_rejection, not_a_server_error, response_headers_conformance,
    response_schema_conformance, status_code_conformance,
]  # fmt: skip
MORE_TO_KNOW = {  # where a body or parameter may be wrong in a way that no schema says
    ("post", "/api/v1/apps/{app}/targets"), ("post", "/api/v1/plan"), ("post", "/servers"),
    ("delete", "/servers/{ip}/{port}"), ("get", "/api/v1/sessions"), ("post", "/api/v1/apps/{app}/faults"),
}  # fmt: skip
EXAMPLES = 20  # of each operation
ENDLESS = "/api/v1/events/stream"
DOCUMENT = json.loads((ROOT / "tcp_proxy/control/api/openapi.json").read_text())
OPERATIONS = [(method, path) for path, item in DOCUMENT["paths"].items() for method in item if path != ENDLESS]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    targets = [{"address": f"127.0.0.1:{port}", "name": name} for port, name in ((1, "one"), (2, "two"))]
    apps = [{"name": name, "ports": [free_port()], "targets": targets, "health": []} for name in ("web", "mail")]
    config = {"workers": 1, "api": api_config(), "apps": apps, "shutdown_grace": 1}
    with running(config, tmp_path_factory.mktemp("api")) as program:
        yield program
        Api.of(program).ask("DELETE", "/api/v1/overrides", status=200)  # targets that were added may have semaphores


@pytest.fixture(scope="module")
def document(program):
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{Api.of(program).where}/spec/v1/")


def about_what_there_is(case, number):
    """Of two questions one is about something that exists, unless it would be gone then. Targets are on this machine. What
    is wrong on purpose stays so."""
    right = {place.value for place, part in case.meta.components.items() if part.mode is GenerationMode.POSITIVE}
    target, port = ("two", 2) if case.method == "DELETE" else ("one", 1)
    known = {"app": "web", "target": target, "ip": "127.0.0.1", "port": port} if number % 2 else {}
    for place, values in (("path", case.path_parameters), ("query", case.query)):
        if place in right:
            values.update({name: known[name] for name in values if name in known})
    if "body" in right and isinstance(case.body, dict):
        for key, form in (("address", "127.0.0.1:{}"), ("url", "http://127.0.0.1:{}")):
            if isinstance(case.body.get(key), str):
                case.body[key] = form.format(10 + number)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_answer_is_in_the_document(document, method, path, mode):
    numbers = itertools.count()
    operation = document[path][method]

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case):
        about_what_there_is(case, next(numbers))
        with requests.Session() as session:
            response = case.call(session=session)
            # What is wrong and too big is refused for its size (413) before it is judged.
            checks = [check for check in CHECKS if response.status_code != 413 or check is not negative_data_rejection]
            case.validate_response(response, checks=checks)
        if mode is GenerationMode.POSITIVE and (method, path) not in MORE_TO_KNOW:
            assert response.status_code not in (400, 422)

    try:
        ask()
    except Unsatisfiable:  # there is no wrong way to ask it
        assert mode is GenerationMode.NEGATIVE
