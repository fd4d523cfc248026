"""The dashboard's page and its parts, and who gets them at the path that is weldr's, too. In a browser: tests/peers."""

import re

import pytest

from kit.api import TOKEN, Api, api_config, write_token
from tcp_proxy.control.api.dashboard import FOLDER, KINDS, wants_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        (BROWSER, True),
        ("text/html", True),
        ("TEXT/HTML", True),
        ("text/html, application/json;q=0.9", True),
        ("text/html;q=0.5, application/json", False),
        ("text/html, application/json", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_who_gets_the_page(accept, is_page):
    assert wants_page(accept) is is_page


@pytest.fixture
def program(proxy, service, tmp_path):
    write_token(tmp_path / "token")
    return proxy(targets=[service()], top={"api": api_config(token_file="token")})


def test_a_browser_gets_the_page_and_weldr_s_clients_their_index(program):
    strange, known = Api.of(program), Api.of(program, TOKEN)
    page = strange.get("/", headers={"Accept": BROWSER})
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text, "nothing comes from elsewhere"
    assert page.headers["vary"] == "Accept"
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert strange.get("/", 401, headers=headers).detail
        index = known.get("/", headers=headers)
        assert (index.json, index.headers["vary"]) == (known.get("/weldr").json, "Accept")
    assert strange.get("/weldr", 401, headers={"Accept": BROWSER}).detail
    assert strange.ask("POST", "/", headers={"Accept": BROWSER}).status == 401


def test_the_policy_allows_files_of_ours_and_nothing_inline(program):
    policy = Api.of(program).get("/", headers={"Accept": BROWSER}).headers["content-security-policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    assert rules["trusted-types"] == ["'none'"]
    assert "unsafe" not in policy


def test_every_part_is_served_without_a_token_and_nothing_else(program):
    api = Api.of(program)
    names = [path.name for path in FOLDER.iterdir() if path.suffix in KINDS]
    assert len(names) > 10
    for name in names:
        part = api.get(f"/dashboard/{name}")
        assert part.body == (FOLDER / name).read_bytes()
        assert part.headers["content-type"].startswith(KINDS[name[name.rindex(".") :]])
        assert part.headers["x-content-type-options"] == "nosniff"
    for name in ("index.html", "nothing.js", "..%2fapp.py", "../app.py", "%2e%2e/app.py", ".js"):
        assert api.get(f"/dashboard/{name}", 404).detail
    for path in ("/dashboard", "/dashboard/"):
        assert api.get(path, 307).headers["location"] == "/"


def test_all_that_a_part_names_is_there():
    """Modules by their imports, elements by their ids."""
    page = (FOLDER / "index.html").read_text()
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        for module, names in re.findall(r'^import (?:\* as )?(?:\{([^}]*)\}|\w+) from "\./([\w.]+)"', text, re.MULTILINE):
            given = (FOLDER / names).read_text()
            for name in filter(None, (one.strip() for one in module.split(","))):
                export = rf"^export (?:async )?(?:function|const|class|let) {name}\b"
                assert re.search(export, given, re.MULTILINE), (path, name)
                assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{path.name} does not use {name}"
        for name in re.findall(r'getElementById\("([\w-]+)"\)', text):
            assert f'id="{name}"' in page
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|outerHTML", text), path
