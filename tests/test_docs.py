"""What the documents say is tried: examples load, tables name what there is, commands exist."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from kit.certificates import Authority
from tcp_proxy import cli
from tcp_proxy.config.load import load_file, load_text
from tcp_proxy.ctl import main as ctl
from tcp_proxy.sansio.balance import BALANCERS
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.log_lines import json_line, text_line
from tcp_proxy.wire.records import Record

HOME = pathlib.Path(__file__).parents[1]
DOCUMENTS = [HOME / "README.md", HOME / "CHANGELOG.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").glob("*.md"))]
README = (HOME / "README.md").read_text()
OPERATIONS = (HOME / "docs" / "operations.md").read_text()
DESIGN = (HOME / "docs" / "design.md").read_text()
RULES = (HOME / "docs" / "rules.md").read_text()
SOURCES = [path for folder in ("tcp_proxy", "tests", "benchmarks") for path in (HOME / folder).rglob("*.py")]


def json_blocks():
    for document in DOCUMENTS:
        for n, text in enumerate(re.findall(r"^```json\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)):
            yield pytest.param(text, id=f"{document.name}-{n}")


def rows(text, heading):
    """The first cells of the table under a heading, without their backquotes."""
    part = text.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    cells = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("|")]
    return [cell.strip("`") for cell in cells[2:]]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Stands for /etc/ssl, where the documents have their certificates."""
    folder, authority = tmp_path_factory.mktemp("ssl"), Authority()
    for name in ("shop.example", "other.example", "proxy"):
        authority.issue(name).write(folder, name, "open sesame" if name == "other.example" else None)
    (folder / "password").write_text("open sesame\n")
    for name in ("internal-ca", "client-ca"):
        (folder / f"{name}.pem").write_text(authority.pem)
    (folder / "revoked.pem").write_text(authority.revoke())
    return folder


@pytest.fixture(scope="session")
def other_files(tmp_path_factory):
    """Stands for /etc/tcp_proxy: the files that the documents show, each beginning with its path in a comment."""
    folder = tmp_path_factory.mktemp("etc")
    for document in DOCUMENTS:
        for name, text in re.findall(r"^# /etc/tcp_proxy/(\S+)\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE):
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("text", list(json_blocks()))
def test_every_configuration_in_the_documents_is_right(text, certificates, other_files):
    text = text.replace("/etc/ssl", str(certificates)).replace("/etc/tcp_proxy", str(other_files))
    assert load_text(text.encode(), "document", {}).apps


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


def test_every_page_is_in_the_index():
    """`make site` follows the links; here, that none is left out."""
    folder = HOME / "docs"
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", (folder / "index.md").read_text()))
    assert named == {path.name for path in folder.glob("*.md")} - {"index.md"}


def test_every_make_target_that_is_named_exists():
    makefile = (HOME / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    for_work = {"help", "run", "check", "test", "test-plain", "pythons", "bench", "lint", "format", "docs", "clean"}
    assert targets == for_work | {"release", "run-cluster", "site", "test-cluster", "test-upgrades"}
    for document in DOCUMENTS:
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= targets


def test_the_manual_pages_are_those_of_their_sources():
    """After a change of the schema or of a command: make docs."""
    command = [sys.executable, "docs/make_man.py", "--check"]
    done = subprocess.run(command, cwd=HOME, env={"PYTHONPATH": str(HOME)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


TYPED = r"^ *(?:\$ )?((?:tcp-proxy|tcp-proxy-ctl|python -m tcp_proxy) .*)$"


def commands():
    """Lines of blocks that somebody would type, without what the shell does with them."""
    for document in DOCUMENTS:
        for line in re.findall(TYPED, document.read_text(), re.MULTILINE):
            words = shlex.split(re.split(r" > | &$|\[CONFIG\]|\[FILE\]|  +", line)[0], comments=True)
            yield pytest.param(words, id=f"{document.name}: {line}"[:80])


@pytest.mark.parametrize("words", list(commands()))
def test_every_command_in_the_documents_is_one(words):
    """Its options are there, and nothing is missing."""
    if words[0] == "tcp-proxy-ctl":
        ctl.make_parser({}).parse_args(words[1:])
    else:
        cli.make_parser().parse_args(words[3 if words[0] == "python" else 1 :])


def test_every_command_of_the_operator_has_its_row():
    named = set(re.findall(r"^\| `([a-z]+)", (HOME / "docs" / "ctl.md").read_text(), re.MULTILINE))
    assert set(ctl.COMMANDS) <= named


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


# -- docs/design.md


def layers():
    """For each contract of layers between packages in setup.cfg: the names of each layer, from the top. Those within a
    folder of a package, as dataplane/http, are not drawn."""
    for text in re.findall(r"^type = layers\nlayers =\n((?:    .*\n)+)", (HOME / "setup.cfg").read_text(), re.MULTILINE):
        if text.split()[0].count(".") < 3:
            yield [[name.strip().rpartition(".")[2] for name in line.split("|")] for line in text.splitlines()]


def test_every_file_and_package_that_the_design_names_exists():
    named = set(re.findall(r"`([\w./]+/[\w./]*|[\w.]+\.(?:py|cfg|md))`", DESIGN))
    assert len(named) > 60
    assert [name for name in sorted(named) if not any((root / name).exists() for root in (HOME, HOME / "tcp_proxy"))] == []


def test_the_drawing_of_the_packages_has_every_layer_of_the_import_contracts_in_order():
    drawing = DESIGN.split("## Packages", 1)[1].split("```", 2)[1].splitlines()
    found = list(layers())
    assert len(found) == 3
    for column, contract in enumerate(found):  # of all, of control, of dataplane
        lines = [[*line.split("│"), "", ""][column] if column else line for line in drawing]
        above = -1
        for names in contract:
            if names != ["__main__"]:
                at = [n for name in names for n, line in enumerate(lines) if re.search(rf"\b{name}(/|\.py)", line)]
                assert len(at) >= len(names), names
                assert min(at) > above, names
                above = max(at)


# -- docs/rules.md


def rules():
    """The text of each rule by its name, R1, R2, …"""
    return dict(re.findall(r"^## (R\d+)\. (.*?)(?=^## |\Z)", RULES, re.DOTALL | re.MULTILINE))


def named_tests(path):
    return re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)


def test_every_rule_has_a_number_a_reason_and_tests_that_exist():
    assert list(rules()) == [f"R{n + 1}" for n in range(len(rules()))]
    for name, text in rules().items():
        assert "\nWhy: " in text, name
        guards = re.findall(r"^- `(tests/\S+\.py)::(test_\w+)`$", text.split("\nGuarded by:\n", 1)[1], re.MULTILINE)
        assert guards, name
        for path, test in guards:
            assert test in named_tests(HOME / path), f"{name}: {path}::{test}"


def references(text):
    """The rules that a text points to: all of "docs/rules.md, R8, R13" (a comment may break after the comma)."""
    for found in re.findall(r"docs/rules\.md((?:,[\s#]+R\d+)*)", text):
        yield from re.findall(r"R\d+", found) or ["no rule"]


def test_references_to_rules_lead_to_one():
    ours = pathlib.Path(__file__)
    for path in SOURCES:
        if path != ours:
            assert set(references(path.read_text())) <= set(rules()), path
            assert "DESIGN" not in path.read_text(), f"{path}: that page is not here, name a rule of docs/rules.md"


def test_references_are_found():
    text = "a (docs/rules.md, R3).\n# b (docs/rules.md, R8,\n# R13) R5, docs/rules.md"
    assert list(references(text)) == ["R3", "R8", "R13", "no rule"]


def test_tests_that_the_program_names_exist():
    names = {name for path in (HOME / "tests").rglob("*.py") for name in [path.stem, *named_tests(path)]}
    for path in (HOME / "tcp_proxy").rglob("*.py"):
        for name, more in re.findall(r"\b(test_\w+)(…?)", path.read_text()):
            assert name in names or (more and any(other.startswith(name) for other in names)), f"{path}: {name}"
