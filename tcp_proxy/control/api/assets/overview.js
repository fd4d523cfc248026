// All apps, and the program as a whole.

import {Charts} from "./charts.js";
import {byteRate, count, definitions, h, NONE, rate, seconds, setText, to} from "./dom.js";
import {column, store} from "./store.js";
import {Table} from "./table.js";

const of = (name) => (app) => column(store.rates?.apps[app.name]?.row, name) ?? null;

function states(app) {
  const found = {up: 0, draining: 0, down: 0};
  for (const target of app.targets) found[target.state] += 1;
  return found;
}

function stateText(app) {
  const {up, draining, down} = states(app);
  const parts = [`${up} up`, draining && `${draining} draining`, down && `${down} down`, app.panicking && "panicking"];
  return parts.filter(Boolean).join(", ");
}

function stateClass(app) {
  const {up, draining, down} = states(app);
  return up === 0 || app.panicking ? "bad" : draining || down ? "warn" : "good";
}

function queueText(app) {
  const queue = store.rates?.apps[app.name]?.queue;
  return queue === undefined || queue === null ? NONE : count(queue);
}

export class Overview {
  constructor() {
    this.title = "Apps";
    this.numbers = ["Sessions", "Sessions/s", "Requests/s", "Errors/s", "Up", "Down"].map((name) => [name, h("span", {}, NONE)]);
    const numeric = [
      ["Sessions", "sessions", count], ["Sessions/s", "sessions_per_second", rate], ["Requests/s", "requests_per_second", rate],
      ["Errors/s", "errors_per_second", rate], ["p50", "p50", seconds], ["p99", "p99", seconds],
    ];
    this.table = new Table({
      caption: "apps",
      key: (app) => app.name,
      matches: (app, word) => `${app.name} ${app.mode} ${app.balance} ${app.listeners.join(" ")}`.toLowerCase().includes(word),
      columns: [
        {label: "App", text: (app) => app.name, link: (app) => to("app", app.name), value: (app) => app.name},
        {label: "Targets", text: stateText, badge: stateClass, value: (app) => -states(app).down},
        {label: "Mode", text: (app) => app.mode, value: (app) => app.mode},
        ...numeric.map(([label, name, format]) => {
          return {label, text: (app) => format(of(name)(app)), value: of(name), numeric: true};
        }),
        {label: "Waiting", text: queueText, value: (app) => store.rates?.apps[app.name]?.queue ?? null, numeric: true},
      ],
    });
    this.charts = new Charts({}, "");
    this.element = h("section", {}, h("h2", {}, "Program"), h("div", {class: "tiles"}, definitions(this.numbers)),
      h("h2", {}, "Apps"), this.table.element, h("h2", {}, "Last hour"), this.charts.element);
  }

  update() {
    const row = store.rates?.program;
    const names = ["sessions", "sessions_per_second", "requests_per_second", "errors_per_second", "bytes_up_per_second",
      "bytes_down_per_second"];
    const formats = [count, rate, rate, rate, byteRate, byteRate];
    if (row) this.numbers.forEach(([, place], n) => setText(place, formats[n](column(row, names[n]))));
    this.table.update(store.apps);
    this.charts.update();
  }

  close() {
    this.charts.close();
  }
}
