"""What the documents say is tried: examples load, tables name what there is, commands exist."""

import json
import pathlib
import re

import pytest

from tcp_proxy.config.load import load_file, load_text
from tcp_proxy.control.log_lines import json_line, text_line
from tcp_proxy.records import Record
from tcp_proxy.sansio.balance import BALANCERS
from tcp_proxy.sansio.reasons import Reason, Side

HOME = pathlib.Path(__file__).parents[1]
DOCUMENTS = [HOME / "README.md", HOME / "CHANGELOG.md", *sorted((HOME / "docs").glob("*.md"))]
README = (HOME / "README.md").read_text()
OPERATIONS = (HOME / "docs" / "operations.md").read_text()


def json_blocks():
    for document in DOCUMENTS:
        for n, text in enumerate(re.findall(r"^```json\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)):
            yield pytest.param(text, id=f"{document.name}-{n}")


def rows(text, heading):
    """The first cells of the table under a heading, without their backquotes."""
    part = text.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("|")]
    return [cell.strip("`") for cell in cells[2:]]


@pytest.mark.parametrize("text", list(json_blocks()))
def test_every_configuration_in_the_documents_is_right(text):
    assert load_text(text.encode(), "document").apps


@pytest.mark.parametrize("path", [HOME / "config.json", *sorted((HOME / "examples").glob("*.json"))], ids=lambda p: p.name)
def test_every_shipped_configuration_is_right(path):
    assert load_file(str(path)).apps


def test_the_first_screen_has_the_two_commands_and_a_configuration():
    screen = "\n".join(README.splitlines()[:45])
    assert screen.index("make run") < screen.index("make test") < screen.index("```json")


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_every_make_target_that_is_named_exists():
    makefile = (HOME / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    assert targets == {"help", "run", "test", "bench", "lint", "format", "clean"}
    for document in DOCUMENTS:
        assert set(re.findall(r"(?:`|^)make ([a-z]+)", document.read_text(), re.MULTILINE)) <= targets


def test_every_policy_is_in_the_changelog():
    changelog = (HOME / "CHANGELOG.md").read_text()
    assert all(f"`{name}`" in changelog for name in BALANCERS)


def test_every_reason_is_explained():
    assert sorted(rows(OPERATIONS, "### What each reason means")) == sorted(reason.value for reason in Reason)
    assert all(f"`{side.value}`" in OPERATIONS for side in Side)


def test_the_access_log_s_fields_are_those_of_the_table():
    record = Record(
        "69200e71.1-17", "web", "127.0.0.1:8080", "198.51.100.7:4711", "192.0.2.2:80", (("192.0.2.1:80", "ECONNREFUSED"),),
        0.0012, 3.5, 310, 20480, "client", "done", "", 1_795_246_424.123,
    )  # fmt: skip
    assert f"    {text_line(record)}" in OPERATIONS
    text = re.findall(r" ([a-z_]+)=", text_line(record))
    table = OPERATIONS.split("As JSON, one object a line, with these keys:", 1)[1].split("\n\n", 2)[1]
    cells = [[cell.strip().strip("`") for cell in line.split("|")[1:3]] for line in table.splitlines()[2:]]
    assert [cell for cell, _ in cells] == ["(the first word)", *text]
    assert [cell for _, cell in cells] == list(json.loads(json_line(record)))


def test_dependencies_are_those_of_setup_cfg():
    setup = (HOME / "setup.cfg").read_text()
    needed = re.findall(r"^    ([a-z0-9-]+) >=", setup, re.MULTILINE)
    assert needed
    assert all(f"`{name}`" in README for name in needed)


def test_every_request_that_docs_api_md_names_is_in_the_openapi_document():
    document = json.loads((HOME / "tcp_proxy" / "control" / "api" / "openapi.json").read_text())
    named = re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`]*)`", (HOME / "docs" / "api.md").read_text())
    assert len(named) > 20
    assert [(method, path) for method, path in named if method.lower() not in document["paths"].get(path, {})] == []
