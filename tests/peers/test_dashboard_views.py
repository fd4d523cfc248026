"""The dashboard: what its views say of mode http and of what has counted nothing, their tables, each order to a target."""

import pytest

from kit.api import Api, api_config, path_of
from kit.dashboard import Page
from kit.origin import Origin
from kit.peer import connect
from kit.ports import free_port
from kit.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

# Words of table cells that are on two lines, where the longest that a column has to hold is 30 characters.
BROKEN = """
const found = [];
for (const cell of document.querySelectorAll("td, th")) {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const word of walker.currentNode.textContent.matchAll(/[^\\s-]+/g)) {
      const range = document.createRange();
      range.setStart(walker.currentNode, word.index);
      range.setEnd(walker.currentNode, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((one) => Math.round(one.top)));
      if (lines.size > 1 && word[0].length <= 30) found.push(word[0]);
    }
  }
}
return found;
"""


# Tables that do not fit.
HIDDEN = """
return [...document.querySelectorAll(".table")].filter((one) => one.scrollWidth > one.clientWidth)
  .map((one) => one.querySelector("table").getAttribute("aria-label"));
"""


def get(port, host=b"Host: x\r\n"):
    with connect(port) as client:
        client.send(b"GET / HTTP/1.1\r\n%bConnection: close\r\n\r\n" % host)
        client.read_to_end()


@pytest.fixture
def program(proxy, service):
    with Origin() as origin:
        dead = free_port()
        targets = [
            {"name": "shop-server-number-one", "address": f"127.0.0.1:{origin.port}"},
            {"name": "dead", "address": f"127.0.0.1:{dead}"},
        ]
        apps = [
            {"name": "shop-of-example", "mode": "http", "ports": [free_port()], "targets": targets},
            {"name": "db", "ports": [free_port()], "targets": [service().address], "balance": "failover"},
        ]
        health = {"type": "tcp", "interval": 0.2}
        program = proxy({"apps": [{**app, "health": health} for app in apps]}, top={"api": api_config()})
        program.uncounted = None
        yield program


@pytest.fixture
def page(browser, program):
    return Page(browser, program)


def test_answers_of_an_app_in_mode_http_are_told_by_kind(page, program):
    port = program.config["apps"][0]["ports"][0]
    get(port)
    get(port)
    get(port, host=b"")  # which is a 400
    page.open("app/shop-of-example")
    page.until(lambda: "Answers in all\n2 2xx, 1 4xx" in page.one(".facts").text)
    assert "Retries/s" in page.one(".facts").text
    assert "Connections to targets" in page.one(".facts").text
    page.open("app/db")
    page.until(lambda: "Balance\nfailover" in page.one(".facts").text)
    assert "Answers" not in page.one(".facts").text


def test_words_are_whole_where_there_is_room(page, program, browser):
    """As wide as a notebook's browser; in half a window a table may scroll, and its words are whole all the same."""
    program.wait_log("is down")  # why is told then
    client = program.connect(program.config["apps"][1]["ports"][0]).send(b"x").expect(b"x")
    get(program.config["apps"][0]["ports"][0])
    dead = "app/shop-of-example/target/dead"
    for view in ("", "app/shop-of-example", "app/db", dead, "sessions", "events", "system"):
        be_wide(browser, 1200)
        page.open(view)
        page.until(lambda: page.script("return document.querySelector('main').ariaBusy") == "false")
        page.until(lambda: page.script("return document.querySelector('main tbody td') !== null"))
        assert page.script(BROKEN) == [], view
        assert page.script(HIDDEN) == [], f"{view}: what does not fit is behind a scroll bar"
        be_wide(browser, 800)
        assert page.script(BROKEN) == [], view
    client.close()


def be_wide(browser, width):
    how = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", how)


def test_charts_of_what_has_counted_nothing_are_of_this_hour(page, program):
    page.open("app/shop-of-example/target/dead")
    quarter = """
        const at = new Date();
        at.setMinutes(Math.floor(at.getMinutes() / 15) * 15);
        return at.toTimeString().slice(0, 5);
    """

    def is_there():
        texts = [one.get_attribute("textContent") for one in page.one(".plot").find_elements("css selector", "text")]
        return page.script(quarter) in texts

    page.until(is_there, "the last quarter of an hour")


def test_each_order_to_a_target(page, program):
    """Those that test_dashboard.py does not give."""
    api, db = Api.of(program), program.config["apps"][1]
    target = db["targets"][0]
    client = program.connect(db["ports"][0]).send(b"x").expect(b"x")
    page.open(f"app/db/target/{target}")
    page.press("End its sessions")
    page.until(lambda: "Clients are reset" in page.dialog())
    page.press("End them", "dialog")
    page.until(lambda: f"the sessions of target {target} of app db are ended" == page.notice())
    client.expect_rst()
    page.press("Check now")
    page.until(lambda: page.notice() == f"target {target} of app db is being checked")
    page.open("app/shop-of-example/target/shop-server-number-one")
    admin = lambda: api.get(path_of("shop-of-example", "shop-server-number-one")).json["admin"]  # noqa: E731
    for label, what, wanted in (
        ("Disable", "not checked", "disabled"),
        ("Make ready", "It gets sessions again", "ready"),
    ):
        page.press(label)
        page.until(lambda what=what: what in page.dialog())
        page.press(label, "dialog")
        wait_until(lambda wanted=wanted: admin() == wanted, "it is so")
        page.until_closed()
