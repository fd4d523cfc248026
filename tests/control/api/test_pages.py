"""What is neither a resource nor weldr's: the specification and the page. The browser's test is in tests/peers."""

import pytest

from kit.api import Api, api_config


@pytest.fixture
def api(proxy, service):
    return Api.of(proxy(targets=[service()], top={"api": api_config()}))


def test_pages(api):
    page = api.get("/ui/v1/")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text, "nothing comes from elsewhere"
    for name, kind in (("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript"), ("start.js", "text/")):
        assert name in page.text
        found = api.get(f"/ui/v1/{name}", headers={"Range": "bytes=x"})
        assert found.headers["content-type"].startswith(kind)
        assert found.body
    assert api.get("/ui/v1", status=307).headers["location"] == "/ui/v1/"
    assert api.get("/spec/v1", status=307).headers["location"] == "/spec/v1/"
    assert api.get("/spec/v1/").json["info"]["title"] == "tcp_proxy management API"
    for name in ("nothing.js", "..%2f__init__.py", "index.html", "../v1/start.js"):
        assert api.get(f"/ui/v1/{name}", status=404).detail
    assert api.get("/healthz").text == "ok\n"
    assert api.get("/readyz").text == "ready\n"
