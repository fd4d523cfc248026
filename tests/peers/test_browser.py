"""The page at /ui/v1/ in Chromium: a call is made on it, its answer is seen, and nothing leaves the machine.

What the page asks for is taken from Chromium's own log. Chromium itself, which likes to call home, is given a proxy for all
that is not on loopback: a socket of the test's that never answers. So nothing at all leaves the machine.
"""

import json
import socket

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as when
from selenium.webdriver.support.ui import WebDriverWait

from kit import programs
from kit.api import TOKEN, Api, api_config

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run", "--window-size=1400,2000",
)  # fmt: skip
SECONDS = 30
PATH = "/api/v1/apps/{app}"


@pytest.fixture
def trap():
    """Where everything goes that is meant for another machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server


@pytest.fixture
def browser(trap, tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = programs.need("chromium")
    for flag in (*FLAGS, f"--proxy-server=127.0.0.1:{trap.getsockname()[1]}", f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    # Its own first page asks other machines, and waits half a minute for the trap to answer.
    options.add_experimental_option("prefs", {"session.restore_on_startup": 4, "session.startup_urls": ["about:blank"]})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(programs.need("chromedriver")))
    try:
        browser.get("about:blank")
        browser.get_log("performance")  # of the browser's own first page
        yield browser
    finally:
        browser.quit()


def requested(browser):
    """The URLs of everything that the page asked for."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def trapped(trap):
    """What was asked of it."""
    found = []
    while True:
        try:
            sock, _ = trap.accept()
        except BlockingIOError:
            return found
        with sock:
            sock.settimeout(1)
            found.append(sock.recv(1000))


def press(browser, where, selector):
    button = where.find_element(By.CSS_SELECTOR, selector)
    WebDriverWait(browser, SECONDS).until(when.element_to_be_clickable(button)).click()


def shown(browser, where, selector):
    return WebDriverWait(browser, SECONDS).until(lambda _: where.find_element(By.CSS_SELECTOR, selector)).text


@pytest.mark.timeout(180)
def test_a_call_is_made_on_the_page_and_nothing_leaves_the_machine(proxy, service, browser, trap, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    program = proxy(targets=[service()], top={"api": api_config(token_file="token")})
    origin = f"http://127.0.0.1:{Api.of(program).where}"
    browser.get(f"{origin}/ui/v1/")
    wait = WebDriverWait(browser, SECONDS)
    wait.until(when.presence_of_element_located((By.CSS_SELECTOR, ".opblock")))
    assert "management API" in shown(browser, browser, ".info .title")

    press(browser, browser, "button.authorize")
    field = wait.until(when.visibility_of_element_located((By.CSS_SELECTOR, ".auth-container input")))
    field.send_keys(TOKEN)
    press(browser, browser, ".auth-btn-wrapper button.authorize")
    press(browser, browser, ".auth-btn-wrapper button.btn-done")

    call = browser.find_element(By.XPATH, f'//*[@data-path="{PATH}"]/ancestor::div[contains(@class, "opblock-get")]')
    press(browser, call, ".opblock-summary-control")
    wait.until(lambda _: call.find_elements(By.CSS_SELECTOR, ".try-out__btn"))
    press(browser, call, ".try-out__btn")
    wait.until(lambda _: call.find_elements(By.CSS_SELECTOR, "input[placeholder='app']"))
    call.find_element(By.CSS_SELECTOR, "input[placeholder='app']").send_keys("app")
    press(browser, call, "button.execute")
    assert shown(browser, call, ".live-responses-table .response .response-col_status").startswith("200")
    answer = json.loads(shown(browser, call, ".live-responses-table .highlight-code code"))
    assert answer["targets"][0]["state"] == "up"

    asked = requested(browser)
    assert f"{origin}/api/v1/apps/app" in asked
    assert [url for url in asked if not url.startswith((f"{origin}/", "data:", "blob:"))] == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    fetch = "const done = arguments[0]; fetch('http://192.0.2.1/').then(() => done('came'), () => done('refused'))"
    assert browser.execute_async_script(fetch) == "refused", "the page's policy lets it ask nobody else"
    assert [one for one in trapped(trap) if b"192.0.2.1" in one] == []
