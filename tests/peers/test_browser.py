"""The page at /ui/v1/ in Chromium: a call is made on it, its answer is seen, and nothing leaves the machine. A page
of another port changes nothing. And TLS as Chromium speaks it, with a ClientHello of more than one segment.
"""

import contextlib
import functools
import http.server
import json
import ssl
import threading

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as when
from selenium.webdriver.support.ui import WebDriverWait

from kit.api import TOKEN, Api, api_config, write_token
from kit.browser import SECONDS, press, requested, shown, trapped
from kit.certificates import Authority
from kit.waiting import wait_until

pytestmark = pytest.mark.slow

PATH = "/api/v1/apps/{app}"


@pytest.mark.timeout(180)
def test_a_call_is_made_on_the_page_and_nothing_leaves_the_machine(proxy, service, browser, trap, tmp_path):
    write_token(tmp_path / "token")
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


ATTACK = """
const [url, done] = arguments;
const send = (path, how) => fetch(url + path, {mode: "no-cors", ...how}).then(() => "sent", (error) => String(error));
const body = (value) => ({method: "POST", headers: {"Content-Type": "text/plain"}, body: JSON.stringify(value)});
Promise.all([
  send("/api/v1/apps/app/targets", body({name: "evil", address: "127.0.0.66:666", weight: 256})),
  send("/servers", body({url: "http://127.0.0.66:667"})),
  send("/servers", {method: "POST", body: new Blob([JSON.stringify({url: "http://127.0.0.66:668"})])}),
  send("/api/v1/reload", {method: "POST"}),
  send("/api/v1/apps/app/targets/TARGET/sessions", {method: "DELETE", mode: "cors"}),
  send("/api/v1/apps/app/targets", {...body({address: "127.0.0.66:669"}), mode: "cors",
       headers: {"Content-Type": "application/json"}}),
]).then(done);
"""


@contextlib.contextmanager
def pages(folder, text, issued=None):
    """A server whose first page says this; over TLS, if something was issued for it."""
    folder.mkdir()
    (folder / "index.html").write_text(f"<p>{text}")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if issued is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*issued.write(folder).values())
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, name="pages")
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(tmp_path):
    """Where a page of another origin is: the same host, another port."""
    with pages(tmp_path / "pages", "nothing to see") as address:
        yield f"http://{address}/"


@pytest.mark.timeout(180)
def test_a_page_on_another_port_of_this_machine_changes_nothing(proxy, service, browser, page):
    server = service()
    program = proxy(targets=[server], top={"api": api_config()})
    api, stays = Api.of(program), program.connect().send(b"x").expect(b"x")
    browser.get(page)
    browser.set_script_timeout(SECONDS)
    url = f"http://127.0.0.1:{api.where}"
    came = browser.execute_async_script(ATTACK.replace("TARGET", server.address.replace(":", "%3A")), url)
    assert came[:4] == ["sent"] * 4, "they reached it"
    assert [target["name"] for target in api.get("/api/v1/apps/app/targets").json] == [server.address]
    assert [event["kind"] for event in api.get("/api/v1/events").json if event["kind"] in ("administration", "reload")] == []
    stays.send(b"y").expect(b"y")


@pytest.mark.timeout(180)
def test_tls_is_ended_here_for_one_name_and_passed_through_for_another(proxy, browser, tmp_path):
    authority = Authority()
    own = authority.issue("ended.localhost").write(tmp_path)
    with (
        pages(tmp_path / "here", "in clear behind us") as here,
        pages(tmp_path / "there", "over TLS behind us", authority.issue("passed.localhost")) as there,
    ):
        program = proxy(
            targets=[{"name": "here", "address": here}, {"name": "there", "address": there}],
            tls={"certificates": [own]},
            routes=[
                {"sni": "ended.localhost", "targets": ["here"]},
                {"sni": "passed.localhost", "passthrough": True, "targets": ["there"]},
            ],
            health=[],
        )
        program.uncounted = None  # it may open more than it needs
        for name, text in (("ended", "in clear behind us"), ("passed", "over TLS behind us")):
            browser.get(f"https://{name}.localhost:{program.port}/")
            assert shown(browser, browser, "p") == text
        wanted = {("here", "TLSv1.3", "ended.localhost"), ("there",)}
        wait_until(lambda: spoken(program) == wanted, lambda: f"{spoken(program)}")


def spoken(program):
    """To whom sessions went, and the TLS that was ended here for them."""
    found = [(one["target"], one["tls"]) for one in program.records_now() if one["target"]]
    return {(target,) if tls is None else (target, tls["version"], tls["server_name"]) for target, tls in found}
