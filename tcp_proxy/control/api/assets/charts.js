// The charts of one app, one target or the program, with the last hour from the API, and its new points as they come.

import * as api from "./api.js";
import {Chart} from "./chart.js";
import {byteRate, h, rate, seconds} from "./dom.js";

function chartsOf(mode) {
  const rates = [{name: "sessions_per_second", label: "sessions"}];
  if (mode !== "tcp") rates.push({name: "requests_per_second", label: "requests"});
  const errors = [{name: "errors_per_second", label: "errors"}, {name: "failures_per_second", label: "failed connects"}];
  const bytes = [{name: "bytes_up_per_second", label: "to targets"}, {name: "bytes_down_per_second", label: "to clients"}];
  const percentiles = ["p50", "p90", "p99"].map((name) => ({name, label: name}));
  const found = [
    new Chart({title: "Per second", lines: rates, format: rate}),
    new Chart({title: "Sessions", lines: [{name: "sessions", label: "sessions"}], format: rate}),
    new Chart({title: "Errors per second", lines: errors, format: rate}),
    new Chart({title: "Bytes", lines: bytes, format: byteRate}),
  ];
  if (mode) {
    const title = mode === "http" ? "Time to answer" : "Time to connect";
    found.push(new Chart({title, lines: percentiles, format: seconds}));
  }
  return found;
}

// where: {app, target} or {}. mode: "" of the program.
export class Charts {
  constructor(where, mode) {
    this.where = where;
    this.charts = chartsOf(mode);
    this.at = [];
    this.series = {};
    const text = "There is no room for a history of this target: 1,500 series are kept.";
    this.missing = h("p", {class: "empty", hidden: true}, text);
    this.element = h("div", {class: "charts"}, this.missing, this.charts.map((chart) => chart.element));
    this.asked = -Infinity;
  }

  // Asks when there can be a new point.
  async update() {
    const now = performance.now();
    if (now - this.asked < 10000 && this.at.length) return;
    if (now - this.asked < 2000) return;
    this.asked = now;
    let found;
    try {
      found = await api.get(`history${api.query({...this.where, after: this.at.at(-1) ?? 0})}`);
    } catch {
      return; // Who polls says so, too.
    }
    this.missing.hidden = found.kept;
    const from = found.at.length ? found.at.at(-1) - 3600 : 0;
    const first = this.at.findIndex((at) => at > from);
    const old = first < 0 ? this.at.length : first;
    this.at = [...this.at.slice(old), ...found.at];
    for (const [name, values] of Object.entries(found.series)) {
      this.series[name] = [...(this.series[name] ?? []).slice(old), ...values];
    }
    this.charts.forEach((chart) => chart.update(this));
  }

  close() {
    this.charts.forEach((chart) => chart.close());
  }
}
