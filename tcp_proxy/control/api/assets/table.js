// A table of many rows, a page at a time: filtered, sorted, and brought up to date in place, so that focus and selection stay.

import {h, setAttribute, setHidden, setText} from "./dom.js";

const PAGE = 50;

// columns: [{label, text: row => string, value: row => what it is sorted by, numeric, link: row => href,
//            badge: row => class, press: row => called by a button, name: row => that of the button, wide: it is long}]
// key: row => string. matches: (row, word) => boolean, for a filter.
export class Table {
  constructor({caption, columns, key, matches, empty = "Nothing to show", page = PAGE}) {
    Object.assign(this, {columns, key, matches, page});
    this.rows = [];
    this.shown = new Map(); // key -> {tr, cells, row}
    this.sorted = null; // {column, sign}
    this.first = 0;
    this.word = "";
    this.heads = columns.map((column, place) => this.#head(column, place));
    this.body = h("tbody", {role: "rowgroup"});
    this.table = h("table", {role: "table", "aria-label": caption},
      h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, this.heads)), this.body);
    this.empty = h("p", {class: "empty"}, empty);
    this.range = h("span", {role: "status"});
    this.back = h("button", {type: "button", onclick: () => this.#turn(-1)}, "Previous");
    this.on = h("button", {type: "button", onclick: () => this.#turn(1)}, "Next");
    this.pages = h("nav", {class: "pages", "aria-label": `Pages of ${caption}`}, this.back, this.range, this.on);
    this.element = h("div", {class: "table"}, matches && this.#filter(caption), this.table, this.empty, this.pages);
    this.update([]);
  }

  #filter(caption) {
    const input = h("input", {type: "search", placeholder: "Filter", "aria-label": `Filter ${caption}`, autocomplete: "off"});
    input.addEventListener("input", () => {
      this.word = input.value.trim().toLowerCase();
      this.first = 0;
      this.draw();
    });
    return h("p", {class: "filter"}, input);
  }

  #head(column, place) {
    const inside = column.value
      ? h("button", {type: "button", onclick: () => this.#sort(place)}, column.label)
      : column.label;
    const sorted = column.value && "none";
    return h("th", {role: "columnheader", scope: "col", class: column.numeric && "number", "aria-sort": sorted}, inside);
  }

  #sort(place) {
    const column = this.columns[place];
    const first = column.numeric ? -1 : 1;
    if (this.sorted?.column !== column) this.sorted = {column, sign: first};
    else if (this.sorted.sign === first) this.sorted.sign = -first;
    else this.sorted = null;
    this.heads.forEach((head, n) => {
      const sign = this.sorted?.column === this.columns[n] ? this.sorted.sign : 0;
      if (this.columns[n].value) setAttribute(head, "aria-sort", ["descending", "none", "ascending"][sign + 1]);
    });
    this.draw();
  }

  #turn(step) {
    this.first = Math.max(0, this.first + step * this.page);
    this.draw();
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  draw() {
    const rows = this.word ? this.rows.filter((row) => this.matches(row, this.word)) : [...this.rows];
    if (this.sorted) {
      const {column, sign} = this.sorted;
      rows.sort((one, other) => sign * compared(column.value(one), column.value(other)));
    }
    if (this.first >= rows.length) this.first = Math.max(0, Math.floor((rows.length - 1) / this.page) * this.page);
    const last = Math.min(this.first + this.page, rows.length);
    this.#place(rows.slice(this.first, last));
    setHidden(this.empty, rows.length > 0);
    setHidden(this.table, rows.length === 0);
    setHidden(this.pages, rows.length <= this.page);
    setText(this.range, `${this.first + 1} to ${last} of ${rows.length}`);
    this.back.disabled = this.first === 0;
    this.on.disabled = last >= rows.length;
    setAttribute(this.table, "aria-rowcount", String(rows.length + 1));
  }

  #place(rows) {
    const wanted = new Map(rows.map((row) => [this.key(row), row]));
    for (const [key, {tr}] of this.shown) {
      if (!wanted.has(key)) {
        tr.remove();
        this.shown.delete(key);
      }
    }
    let before = this.body.firstChild;
    let number = this.first + 2;
    for (const [key, row] of wanted) {
      const known = this.shown.get(key) ?? this.#made(key);
      known.row = row;
      if (known.tr !== before) this.body.insertBefore(known.tr, before);
      else before = before.nextSibling;
      setAttribute(known.tr, "aria-rowindex", String(number++));
      this.columns.forEach((column, n) => this.#fill(column, known.cells[n], row));
    }
  }

  #made(key) {
    const known = {row: null};
    known.cells = this.columns.map((column) => {
      if (column.press) return h("button", {type: "button", onclick: () => column.press(known.row)});
      return h(column.link ? "a" : "span");
    });
    known.tr = h("tr", {role: "row"}, known.cells.map((inside, n) => {
      const column = this.columns[n];
      const kind = (column.numeric && "number") || (column.wide && "wide");
      return h("td", {role: "cell", "data-label": column.label, class: kind}, inside);
    }));
    this.shown.set(key, known);
    return known;
  }

  #fill(column, inside, row) {
    setText(inside, column.text(row));
    if (column.link) setAttribute(inside, "href", column.link(row));
    if (column.badge) setAttribute(inside, "class", `badge ${column.badge(row)}`);
    if (column.name) setAttribute(inside, "aria-label", column.name(row));
  }
}

function compared(one, other) {
  if (typeof one === "string") return one.localeCompare(other, "en", {numeric: true});
  return (one ?? -Infinity) - (other ?? -Infinity) || 0;
}
