// Elements, and what numbers and times look like. Text becomes text nodes and attributes only: nothing here, or anywhere on
// this page, makes HTML of a string, and the page's policy (trusted types) would not let it.

const SVG = "http://www.w3.org/2000/svg";

// h("a", {class: "x", href: "#/", "aria-label": "…", onclick: f}, "text", child, …): undefined, null and false are left out.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// Sets it where it is another one: what a screen reader reads, or a user has selected, stays.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function setHidden(element, isHidden) {
  if (element.hidden !== isHidden) element.hidden = isHidden;
}

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});
const few = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
const clock = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit", second: "2-digit"});
const short = new Intl.DateTimeFormat("en-GB", {hour: "2-digit", minute: "2-digit"});
const day = new Intl.DateTimeFormat("en-CA", {year: "numeric", month: "2-digit", day: "2-digit"});

export const NONE = "–";

export const count = (value) => (isKnown(value) ? whole.format(value) : NONE);
export const counted = (value, what) => `${count(value)} ${what}${value === 1 ? "" : "s"}`;
export const rate = (value) => (!isKnown(value) ? NONE : value >= 1000 ? whole.format(value) : few.format(value));
export const time = (at) => clock.format(at * 1000);
export const minute = (at) => short.format(at * 1000);
export const date = (at) => `${day.format(at * 1000)} ${clock.format(at * 1000)}`;

function isKnown(value) {
  return value !== null && value !== undefined && !Number.isNaN(value);
}

export function bytes(value) {
  if (!isKnown(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let place = 0;
  while (value >= 1000 && place < units.length - 1) [value, place] = [value / 1000, place + 1];
  return `${few.format(value)} ${units[place]}`;
}

export const byteRate = (value) => (isKnown(value) ? `${bytes(value)}/s` : NONE);

// A time that something took, or has left.
export function seconds(value) {
  if (!isKnown(value)) return NONE;
  if (value < 0.0995) return `${few.format(value * 1000)} ms`;
  if (value < 120) return `${few.format(value)} s`;
  if (value < 7200) return `${whole.format(value / 60)} min`;
  return value < 172800 ? `${whole.format(value / 3600)} h` : `${whole.format(value / 86400)} days`;
}

// The link to a view: its name, and the names of what it shows.
export function to(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function definitions(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl", {}, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function badge(state, text = state) {
  return h("span", {class: `badge ${badgeClass(state)}`}, text);
}

const CLASSES = {
  up: "good", serving: "good", ready: "good", draining: "warn", drain: "warn", starting: "warn", down: "bad", disabled: "bad",
};

export function badgeClass(state) {
  return CLASSES[state] ?? "plain";
}
