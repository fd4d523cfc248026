"""The dashboard in a browser: what a test does on it, and what it looks for. Everything waits for what it wants to see."""

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from kit.api import Api
from kit.browser import SECONDS

HTML = '<img src=x onerror="alert(1)"><b>bold</b>'
# Each row of a table, by what its cells are called; null: there is no such table.
ROWS = """
const table = [...document.querySelectorAll("table")].find((one) => one.getAttribute("aria-label") === arguments[0]);
if (!table) return null;
return [...table.querySelectorAll("tbody tr")].map((row) => Object.fromEntries(
    [...row.children].map((cell) => [cell.dataset.label, cell.textContent])));
"""
# Texts whose contrast with what is behind them is less than 4.5 to 1.
FAINT = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = (color) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
const ground = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (rgb(color)[3] === 255) return color;
  }
  return "white";
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
let seen = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest("option, noscript")) continue;
  seen += 1;
  if (element.disabled) continue;
  const style = getComputedStyle(element);
  const [one, other] = [style[element.closest("svg") ? "fill" : "color"], ground(element)].map((color) => light(rgb(color)));
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) found.push([element.textContent, contrast]);
}
return [seen, found];
"""


class Page:
    """Of the program's own API."""

    def __init__(self, browser, program):
        self.browser = browser
        self.origin = f"http://127.0.0.1:{Api.of(program).where}"

    def open(self, where=""):
        self.browser.get(f"{self.origin}/#/{where}")
        return self

    def until(self, condition, what=""):
        wait = WebDriverWait(self.browser, SECONDS, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: condition(), what)

    def rows(self, caption, count=None):
        """When there are so many, or any."""

        def found():
            rows = self.browser.execute_script(ROWS, caption)
            return rows if rows and count in (None, len(rows)) else None

        return self.until(found, f"rows of {caption}")

    def until_row(self, caption, **cells):
        """The first row whose cells hold these texts."""

        def found():
            rows = self.browser.execute_script(ROWS, caption) or []
            return next((row for row in rows if all(text in row[name] for name, text in cells.items())), None)

        return self.until(found, f"a row with {cells} of {caption}")

    def one(self, selector, text=None):
        """The visible element, that has this text, if one is given."""

        def found():
            elements = self.browser.find_elements(By.CSS_SELECTOR, selector)
            return next((one for one in elements if one.is_displayed() and text in (None, one.text)), None)

        return self.until(found, f"{selector} {text or ''}")

    def press(self, text, within="main"):
        """By Enter: where a click goes may have moved away meanwhile, for the lines above it change as counts do."""

        def pressed():
            self.one(f"{within} button", text).send_keys(Keys.ENTER)
            return True

        self.until(pressed)

    def press_labelled(self, label):
        self.one(f'button[aria-label="{label}"]').send_keys(Keys.ENTER)

    def dialog(self):
        """Its text."""
        return self.one("dialog[open]").text

    def until_closed(self):
        self.until(lambda: not self.browser.find_elements(By.CSS_SELECTOR, "dialog"))

    def notice(self):
        return self.one("#notice").text

    def script(self, text, *arguments):
        return self.browser.execute_script(text, *arguments)

    def keys(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self):
        return self.script("return document.activeElement.textContent")

    def severe(self):
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
