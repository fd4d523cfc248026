"""The dashboard in Chromium, as a person uses it: what it shows, what is done on it, and what a target's name cannot do."""

import json
import os
import pathlib

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from kit.api import TOKEN, Api, api_config, path_of, write_token
from kit.browser import requested, trapped
from kit.dashboard import FAINT, HTML, Page
from kit.etcd import Etcd
from kit.ports import free_port
from kit.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

@pytest.fixture
def program(proxy, service):
    targets = [{"name": HTML, "address": service().address}, {"name": "two", "address": service().address, "weight": 2}]
    return proxy(targets=targets, health={"type": "tcp", "interval": 0.2}, top={"api": api_config()})


@pytest.fixture
def page(browser, program):
    return Page(browser, program)


def test_apps_and_targets_are_shown_and_a_name_like_html_is_text(page, program, browser):
    sessions = [program.connect().send(b"x").expect(b"x") for _ in range(3)]
    page.open()
    assert "serving: 1 app, targets 2 up" in page.until(lambda: page.one("#program").text)
    page.until_row("apps", App="app", Targets="2 up", Mode="tcp", Sessions="3")
    page.one("main td a", "app").click()
    page.until_row("targets of app app", Target=HTML, State="up", Weight="1", Evidence="accepted")
    page.until_row("targets of app app", Target="two", Weight="2", Sessions="2")
    page.until_row("listeners of app app", Listener=f":{program.port}", Sessions="3")
    page.one("main td a", HTML).click()
    assert page.one("h2").text == f"Target {HTML}"
    page.one(".checks .success")
    page.until_row(f"changes of state of target {HTML}", State="up")
    assert page.script("return document.querySelectorAll('main img, main b').length") == 0
    assert page.severe() == []
    asked = requested(browser)
    assert [url for url in asked if not url.startswith((f"{page.origin}/", "data:", "blob:"))] == []
    for session in sessions:
        session.close()


def test_its_policy_lets_no_text_become_html_and_no_script_in(page, trap):
    page.open()
    page.rows("apps", 1)
    html = "try { document.body.innerHTML = '<i>x</i>'; return 'done'; } catch (error) { return error.name; }"
    assert page.script(html) == "TypeError"
    inline = """
        const script = document.createElement("script");
        try { script.textContent = "window.came = 1"; document.body.append(script); } catch { /* trusted types */ }
        const styled = document.createElement("p");
        styled.setAttribute("style", "color: red");
        document.body.append(styled);
        return [window.came ?? null, styled.style.color];
    """
    assert page.script(inline) == [None, ""]
    fetch = "const done = arguments[0]; fetch('http://192.0.2.1/').then(() => done('came'), () => done('refused'))"
    assert page.browser.execute_async_script(fetch) == "refused"
    assert [one for one in trapped(trap) if b"192.0.2.1" in one] == []


def test_charts_say_what_they_show(page, program):
    program.connect().send(b"x").expect(b"x").close()
    page.open("app/app")
    plot = page.one('[role="slider"][aria-label^="Per second"]')
    page.until(lambda: "sessions" in plot.get_attribute("aria-valuetext"), "the first point, ten seconds after the start")
    page.until(lambda: plot.find_element(By.CSS_SELECTOR, "path").get_attribute("d"))
    page.until(lambda: int(plot.get_attribute("aria-valuemax")) >= 1, "the second point")
    last = plot.get_attribute("aria-valuetext")
    page.script("arguments[0].focus()", plot)
    page.keys(Keys.HOME)
    page.until(lambda: plot.get_attribute("aria-valuenow") == "0")
    assert plot.get_attribute("aria-valuetext") != last


def test_an_order_is_confirmed_before_it_is_given(page, program):
    api = Api.of(program)
    admin = lambda: api.get(path_of("app", HTML)).json["admin"]  # noqa: E731
    page.open("app/app")
    page.rows("targets of app app", 2)
    manage = page.one(f"button[aria-label='Manage target {HTML}']")
    manage.click()
    page.press("Drain", "dialog")
    page.until(lambda: f"Drain target {HTML} of app app?" in page.dialog())
    page.keys(Keys.ESCAPE)
    page.until_closed()
    assert admin() == "ready"
    manage.click()
    page.press("Drain", "dialog")
    page.until(lambda: "no new sessions" in page.dialog())
    assert page.focused() == "Cancel", "Enter alone does nothing"
    page.press("Drain", "dialog")
    assert page.until(page.notice) == f"target {HTML} of app app is drain"
    assert admin() == "drain"
    page.until_row("targets of app app", Target=HTML, State="draining", Evidence="said at run time: admin (file: ready)")
    page.open("system")
    page.until_row("overrides", Target=HTML, What="admin", Now="drain")
    page.press_labelled(f"Back to the file for target {HTML}".replace('"', '\\"'))
    page.until(lambda: "Back to the file" in page.dialog())
    page.press("Reset", "dialog")
    wait_until(lambda: admin() == "ready", "it is as the file says")


def test_a_weight_is_given_with_the_keyboard_alone(page, program):
    page.open("app/app/target/two")
    button = page.one("[data-order=weight]")
    page.script("arguments[0].focus()", button)
    page.keys(Keys.ENTER)
    page.until(lambda: "It is 2 now" in page.dialog())
    field = page.one("dialog input")
    assert page.script("return document.activeElement === arguments[0]", field)
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "300", Keys.ENTER)
    assert page.script("return document.querySelector('dialog input').matches(':invalid')"), "at most 256"
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "7", Keys.ENTER)
    page.until_closed()
    page.until(lambda: "has the weight 7" in page.notice())
    assert Api.of(program).get(path_of("app", "two")).json["weight"] == 7
    page.until(lambda: page.focused() == "Weight", "the focus is where it was")


def test_sessions_are_filtered_explained_and_ended(page, program):
    stays, goes = (program.connect().send(b"x").expect(b"x") for _ in range(2))
    page.open("sessions")
    page.rows("sessions", 2)
    field = page.one("input[name=client]")
    field.send_keys(goes.address, Keys.ENTER)
    (row,) = page.rows("sessions", 1)
    assert row["Client"] == goes.address
    page.press(row["Session"])
    assert row["Session"] in page.until(lambda: page.dialog())
    assert goes.address in page.dialog()
    page.press("Close", "dialog")
    page.press("End")
    page.until(lambda: f"Client {goes.address}" in page.dialog())
    page.press("End it", "dialog")
    page.until(lambda: "is ended" in page.notice())
    goes.expect_rst()
    page.one("main form:not([role]) input").send_keys(row["Session"], Keys.ENTER)
    page.until(lambda: "is ended" in page.dialog())
    assert "closed_by_admin" in page.dialog()
    page.press("Close", "dialog")
    stays.send(b"y").expect(b"y")


def test_more_sessions_than_a_page_has(page, program):
    for _ in range(130):
        program.connect().send(b"x").expect(b"x")
    page.open("sessions")
    first = {row["Session"] for row in page.rows("sessions", 100)}
    page.press("Next", "main nav.pages:not([hidden])")
    rest = {row["Session"] for row in page.rows("sessions", 30)}
    assert len(first | rest) == 130


def test_events_come_by_themselves_and_states_with_them(page, program, servers):
    page.open("app/app")
    page.until_row("targets of app app", Target="two", State="up")
    servers.close()
    page.until_row("targets of app app", Target="two", State="down", Evidence="refused")
    page.one("nav a", "Events").click()
    page.until_row("events", Kind="target", What="app app: target two is down (was up)")
    page.until_row("events", Kind="target", What=f"target {HTML} is down")


def test_a_reload_shows_its_plan_first(page, program):
    file = pathlib.Path(program.process.args[-1])
    page.open("system")
    page.press("Reload")
    page.until(lambda: "Nothing would change" in page.dialog())
    page.press("Close", "dialog")
    page.until_closed()
    app = program.config["apps"][0]
    file.write_text(json.dumps({**program.config, "apps": [{**app, "retries": 7}]}))
    page.press("Reload")
    page.until(lambda: "Reload: 1 change?" in page.dialog())
    assert "retries" in page.dialog()
    retries = lambda: Api.of(program).get("/api/v1/apps/app").json["retries"]  # noqa: E731
    assert retries() != 7
    page.press("Reload", "dialog")
    page.until(lambda: page.notice() == "reloaded, 1 change")
    assert retries() == 7
    file.write_text("{")
    page.press("Reload")
    page.until(lambda: "The file cannot be loaded" in page.dialog())
    page.press("Close", "dialog")


def test_who_has_the_token_is_let_in_and_stays_in_over_a_reload(proxy, service, browser, tmp_path):
    token = write_token(tmp_path / "token")
    program = proxy(targets=[service()], top={"api": api_config(token_file="token")})
    page = Page(browser, program).open()
    field = page.one("input[type=password]")
    assert page.script("return document.activeElement === arguments[0]", field)
    field.send_keys("not the token", Keys.ENTER)
    page.one("[role=alert]", "A token is one word of ASCII characters.")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, "another-token-it-is", Keys.ENTER)
    page.one("[role=alert]", "This is not the token.")
    field.send_keys(Keys.CONTROL, "a", Keys.NULL, TOKEN, Keys.ENTER)
    page.rows("apps", 1)
    assert page.script("return [sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
    browser.refresh()
    page.rows("apps", 1)
    other = token.with_name("other")
    write_token(other, "a-new-one-since-today")
    os.replace(other, token)
    page.one("input[type=password]").send_keys("a-new-one-since-today", Keys.ENTER)
    page.rows("apps", 1)
    page.one("header button", "Log out").click()
    page.one("input[type=password]")
    assert page.script("return sessionStorage.length") == 0
    assert Api.of(program).get("/servers", status=401).detail


def test_nothing_is_asked_while_the_tab_is_hidden(page, program, browser):
    """Its module says so, and the stream of events, which would stay open for ever, is not."""
    running = "const done = arguments[0]; import('/dashboard/store.js').then((store) => done(store.isRunning()))"
    page.open()
    page.rows("apps", 1)
    assert browser.execute_async_script(running)
    first = browser.current_window_handle
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    say = "document.dispatchEvent(new Event('visibilitychange'))"
    page.script(hide + say, True)
    assert not browser.execute_async_script(running)
    page.script(hide + say, False)
    assert browser.execute_async_script(running)
    browser.switch_to.new_window("tab")
    hidden = browser.current_window_handle
    browser.switch_to.window(first)
    browser.switch_to.window(hidden)
    browser.close()
    browser.switch_to.window(first)
    page.rows("apps", 1)


VIEWS = ("", "app/app", "app/app/target/two", "sessions", "events", "certificates", "system", "app/nobody")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_views_fit_400_pixels_with_enough_contrast(page, program, browser, scheme):
    client = program.connect().send(b"x").expect(b"x")
    size = {"width": 400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for view in VIEWS:
        page.open(view)
        page.until(lambda: page.script("return document.querySelector('main').ariaBusy") == "false")
        page.until(lambda: page.script("return document.querySelector('main h2') !== null"))
        assert page.script("return document.documentElement.scrollWidth") <= 400, view
        seen, faint = page.script(FAINT)
        assert seen > 10, view
        assert faint == [], view
    assert page.script("return matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    assert page.severe() == []
    client.close()


def test_everything_has_a_name_and_can_be_reached_with_keys(page, program):
    """Of each view: every control has a name, every table and region, and Tab comes by all of it."""
    unnamed = """
        const named = (one) => one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
            || one.getAttribute("aria-labelledby");
        return [...document.querySelectorAll("a, button, input, select, table, nav, [role=slider], [role=group], dialog")]
            .filter((one) => one.checkVisibility() && !named(one)).map((one) => one.outerHTML);
    """
    program.connect().send(b"x").expect(b"x").close()
    for view in VIEWS:
        page.open(view)
        page.until(lambda: page.script("return document.querySelector('main').ariaBusy") == "false")
        assert page.script(unnamed) == [], view
        assert page.script("return document.querySelectorAll('h1').length") == 1
        assert page.script("return document.querySelectorAll('[tabindex]:not([tabindex=\"0\"]):not(main)').length") == 0
    page.open("app/app")
    page.rows("targets of app app", 2)
    page.script("document.activeElement.blur(); window.scrollTo(0, 0)")
    stops = []
    for _ in range(60):
        page.keys(Keys.TAB)
        stops.append(page.script("const one = document.activeElement; return one.ariaLabel || one.textContent"))
    wanted = {"To the content", "Apps", "System", "Filter targets of app app", "State", HTML, f"Manage target {HTML}",
              "Per second, by time", "Try the API"}  # fmt: skip
    assert wanted - set(stops) == set()
    head = page.one("th button", "Weight")
    page.script("arguments[0].focus()", head)
    page.keys(Keys.ENTER)
    assert page.script("return arguments[0].parentElement.ariaSort", head) == "descending"
    assert [row["Target"] for row in page.rows("targets of app app", 2)] == ["two", HTML]


def test_a_thousand_targets_are_shown_a_page_at_a_time(proxy, browser):
    targets = [{"name": f"t{n}", "address": f"127.1.{n >> 8}.{n & 255}:9"} for n in range(1000)]
    page = Page(browser, proxy(targets=targets, top={"api": api_config()})).open("app/app")
    assert page.rows("targets of app app", 50)[0]["Target"] == "t0"
    page.press("Next", "main nav.pages:not([hidden])")
    page.until_row("targets of app app", Target="t50")
    assert page.one("main nav.pages [role=status]").text == "51 to 100 of 1000"
    page.one("input[type=search]").send_keys("t77")
    page.rows("targets of app app", 11)
    page.one("th button", "Target").click()
    page.one("th button", "Target").click()
    page.until(lambda: page.rows("targets of app app", 11)[0]["Target"] == "t779")


def test_an_election_and_a_stick_table_are_shown(proxy, service, browser):
    one, two = service(), service()
    health = {"type": "tcp", "interval": 0.2}
    targets = [one.address, two.address]
    apps = [
        {"name": "db", "ports": [free_port()], "balance": "failover", "targets": targets, "health": health},
        {"name": "game", "ports": [free_port()], "targets": [one.address], "sticky": {"expires": 600}, "health": []},
    ]
    program = proxy({"apps": apps}, top={"api": api_config()})
    client = program.connect(apps[1]["ports"][0]).send(b"x").expect(b"x")
    page = Page(browser, program).open("app/game")
    page.until_row("stick table of app game", Key="127.0.0.1", Target=one.address, **{"In use": "yes"})
    page.press_labelled("Forget key 127.0.0.1")
    page.press("Forget", "dialog")
    page.until(lambda: "No keys" in page.one("main").text)
    page.open("app/db")
    page.until_row("targets of app db", Target=one.address, State="up, primary")
    page.press_labelled(f"Manage target {two.address}")
    page.press("Promote", "dialog")
    page.until(lambda: f"Make target {two.address} of app db primary?" in page.dialog())
    page.press("Promote", "dialog")
    page.until_row("targets of app db", Target=two.address, State="up, primary")
    page.until(lambda: f"Primary\n{two.address}" in page.one("main section section .facts").text)
    client.close()


def test_certificates_and_limits_are_shown(proxy, service, browser, tmp_path):
    from kit.certificates import Authority

    issued = Authority().issue("shop.example", days=12).write(tmp_path)
    target = {"address": service().address, "max_connections": 4}
    limits = {"sessions": 10, "queue": 5, "rate": 1000}
    tls = {"certificates": [issued]}
    program = proxy(targets=[target], tls=tls, limits=limits, top={"api": api_config()})
    page = Page(browser, program).open("certificates")
    page.until_row("certificates", Names="shop.example", App="app", Left="12 days")
    assert page.script("return document.querySelector('td .badge').className") == "badge warn"
    page.one("nav a", "System").click()
    page.until_row("limits of apps", App="app", **{"At most": "10", "Used": "0 %"})
    page.until_row("limits of targets", Target=target["address"], **{"At most": "4"})
    page.until_row("limits of rates and by client", App="app", Limit="rate", **{"At most": "1,000", "Above it so far": "0"})
    page.until_row("workers", State="serving")


def test_a_proxy_that_ends_is_said_and_found_again(page, program, proxy, service, browser):
    page.open()
    page.rows("apps", 1)
    api = program.config["api"]
    program.stop()
    assert "does not answer" in page.one("#trouble").text
    proxy(targets=[service()], name="again", top={"api": api})
    page.until_row("apps", App="again")
    page.until(lambda: not browser.find_element(By.ID, "trouble").is_displayed())


def test_an_app_that_panics_says_so(proxy, service, browser):
    targets = [{"name": "up", "address": service().address}, {"name": "dead", "address": f"127.0.0.1:{free_port()}"}]
    health = {"type": "tcp", "interval": 0.2}
    page = Page(browser, proxy(targets=targets, health=health, panic=60, top={"api": api_config()})).open()
    page.until_row("apps", App="app", Targets="1 up, 1 down, panicking")
    page.open("app/app")
    page.until_row("targets of app app", Target="dead", State="down, forced")
    page.until(lambda: "too few targets are up, all are used" in page.one(".facts").text)
    page.open("events")
    page.until_row("events", Kind="panic", What="app app: panic is on: 1 of 2 are up, fewer than 60 %")


@pytest.fixture
def etcd(tmp_path):
    with Etcd(tmp_path) as one:
        yield one


def test_the_members_of_a_cluster_are_shown(etcd, proxy, service, browser):
    cluster = {"endpoints": etcd.urls, "node": HTML}
    page = Page(browser, proxy(targets=[service()], top={"cluster": cluster, "api": api_config()})).open("system")
    page.until_row("members of the cluster", Node=f"{HTML} (this one)", API="127.0.0.1:")
    page.until(lambda: f"node {HTML} is joined" in page.one("main").text)
    page.open("events")
    page.until_row("events", Kind="cluster", What=f"node {HTML} is joined")
