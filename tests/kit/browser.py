"""A real browser, Debian's Chromium, and what a test asks of it. The fixtures are in tests/peers/conftest.py.

What a page asks for is taken from Chromium's own log. Chromium itself, which likes to call home, is given a proxy for all
that is not on loopback: a socket of the test's that never answers. So nothing at all leaves the machine.
"""

import contextlib
import json

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as when
from selenium.webdriver.support.ui import WebDriverWait

from kit import programs

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--no-first-run", "--window-size=1400,2000",
)  # fmt: skip
SECONDS = 30


@contextlib.contextmanager
def started(trap, folder):
    """A browser with a profile in `folder`; all that is not for loopback goes to the socket `trap`."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs.need("chromium")
    for flag in (*FLAGS, f"--proxy-server=127.0.0.1:{trap.getsockname()[1]}", f"--user-data-dir={folder / 'chromium'}"):
        options.add_argument(flag)
    # Its own first page asks other machines, and waits half a minute for the trap to answer.
    options.add_experimental_option("prefs", {"session.restore_on_startup": 4, "session.startup_urls": ["about:blank"]})
    options.accept_insecure_certs = True  # of an authority of a test's
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
