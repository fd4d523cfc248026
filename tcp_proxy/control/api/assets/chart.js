// Charts of lines over the last hour, in SVG: with a cursor for pointers and keys that says what was at a time.

import {h, minute, setAttribute, setText, svg, time} from "./dom.js";

const HEIGHT = 150;
const LEFT = 58, RIGHT = 8, TOP = 8, BOTTOM = 20;
const SHOWN = 3600, QUARTER = 900; // seconds
const STEPS = [1, 2, 2.5, 5, 10];

// lines: [{name: of the series, label}]. format: value => text.
export class Chart {
  constructor({title, lines, format}) {
    Object.assign(this, {title, lines, format});
    this.at = [];
    this.series = {};
    this.cursor = null; // the number of a point
    this.width = 0;
    this.svg = svg("svg", {height: HEIGHT, "aria-hidden": "true"});
    this.area = h("div", {class: "plot", tabindex: "0", role: "slider", "aria-label": `${title}, by time`, "aria-valuemin": "0"},
      this.svg);
    this.reading = h("output", {class: "reading"});
    const keys = lines.map((line, n) => h("span", {class: `key line${n}`}, line.label));
    this.element = h("figure", {class: "chart"}, h("figcaption", {}, h("strong", {}, title), keys), this.area, this.reading);
    this.area.addEventListener("pointermove", (event) => this.#point(event));
    this.area.addEventListener("pointerleave", () => this.#move(null));
    this.area.addEventListener("keydown", (event) => this.#key(event));
    this.area.addEventListener("blur", () => this.#move(null));
    this.observer = new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.draw();
    });
    this.observer.observe(this.area);
    this.#say();
  }

  close() {
    this.observer.disconnect();
  }

  update({at, series}) {
    const time = this.cursor === null ? null : this.at[this.cursor];
    this.at = at;
    this.series = series;
    this.cursor = time === null || !at.includes(time) ? null : at.indexOf(time);
    this.draw();
  }

  #values(line) {
    return this.series[line.name] ?? [];
  }

  draw() {
    const most = Math.max(0, ...this.lines.flatMap((line) => this.#values(line).filter((value) => value !== null)));
    this.top = nice(most);
    this.end = this.at.at(-1) ?? Date.now() / 1000;
    this.svg.setAttribute("width", Math.max(0, this.width));
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = this.#y(share * this.top);
      parts.push(svg("line", {class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y}));
      parts.push(svg("text", {x: LEFT - 6, y: y + 4, "text-anchor": "end"}, this.format(share * this.top)));
    }
    for (let at = Math.floor(this.end / QUARTER) * QUARTER; at > this.end - SHOWN + 120; at -= QUARTER) {
      const x = Math.min(this.#x(at), this.width - RIGHT - 14);
      parts.push(svg("text", {x, y: HEIGHT - 4, "text-anchor": "middle"}, minute(at)));
    }
    this.lines.forEach((line, n) => parts.push(svg("path", {class: `line line${n}`, d: this.#path(this.#values(line))})));
    this.mark = svg("line", {class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, x1: 0, x2: 0, visibility: "hidden"});
    this.svg.replaceChildren(...parts, this.mark);
    this.#say();
  }

  #x(at) {
    return LEFT + (1 - (this.end - at) / SHOWN) * (this.width - LEFT - RIGHT);
  }

  #y(value) {
    return TOP + (1 - value / this.top) * (HEIGHT - TOP - BOTTOM);
  }

  #path(values) {
    let path = "";
    let isOpen = false;
    values.forEach((value, n) => {
      if (value !== null) path += `${isOpen ? "L" : "M"}${this.#x(this.at[n]).toFixed(1)} ${this.#y(value).toFixed(1)}`;
      if (value !== null && !isOpen && (values[n + 1] ?? null) === null) path += "h1";
      isOpen = value !== null;
    });
    return path;
  }

  #point(event) {
    const share = (event.offsetX - LEFT) / (this.width - LEFT - RIGHT);
    const wanted = this.end - (1 - share) * SHOWN;
    let best = null;
    this.at.forEach((at, n) => {
      if (best === null || Math.abs(at - wanted) < Math.abs(this.at[best] - wanted)) best = n;
    });
    this.#move(best);
  }

  #key(event) {
    const last = this.at.length - 1;
    const now = this.cursor ?? last;
    const steps = {ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 30, PageDown: now + 30, Home: 0, End: last};
    if (!(event.key in steps) || last < 0) return;
    event.preventDefault();
    this.#move(Math.max(0, Math.min(last, steps[event.key])));
  }

  #move(place) {
    this.cursor = place;
    this.#say();
  }

  // What is now, and the most of the hour; or what was at the cursor.
  #say() {
    const last = this.at.length - 1;
    const place = this.cursor ?? last;
    const said = this.lines.map((line) => {
      const value = this.#values(line)[place] ?? null;
      return `${line.label} ${this.format(value)}`;
    });
    const values = this.lines.flatMap((line) => this.#values(line).filter((value) => value !== null));
    const most = values.length ? `most in the hour ${this.format(Math.max(...values))}` : "nothing yet";
    const text = place < 0 ? "nothing yet" : `${time(this.at[place])}: ${said.join(", ")}`;
    setText(this.reading, this.cursor === null && place >= 0 ? `${text}; ${most}` : text);
    setAttribute(this.area, "aria-valuemax", String(Math.max(0, last)));
    setAttribute(this.area, "aria-valuenow", String(Math.max(0, place)));
    setAttribute(this.area, "aria-valuetext", text);
    if (this.mark && this.cursor !== null) {
      const x = this.#x(this.at[this.cursor]);
      this.mark.setAttribute("x1", x);
      this.mark.setAttribute("x2", x);
    }
    this.mark?.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
  }
}

// The next round number.
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.find((step) => step * power >= value * 0.9999) * power;
}
