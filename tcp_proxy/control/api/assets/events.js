// What happened, newest first, as it comes.

import {date, h} from "./dom.js";
import {store} from "./store.js";
import {Table} from "./table.js";

// An event as a sentence.
export function eventText({kind, data}) {
  switch (kind) {
    case "target":
      return `app ${data.app}: target ${data.target} is ${data.state} (was ${data.was}): ${data.why}`;
    case "election":
      return `app ${data.app}: ${data.state}${data.primary ? `, primary ${data.primary}` : ""}${data.why ? `: ${data.why}` : ""}`;
    case "administration":
      return data.target ? `app ${data.app}: target ${data.target} ${data.text}` : data.text;
    case "reload":
      if (!data.ok) return `${data.why}: nothing was changed: ${data.errors.join("; ")}`;
      return `${data.why}: ${data.changes.join("; ") || "nothing is different"}`;
    case "cluster":
      return `node ${data.node} is ${data.state}${data.text ? `: ${data.text}` : ""}`;
    case "panic":
      return `app ${data.app}: panic is ${data.state}: ${data.up} of ${data.of} are up, ` +
        `${data.state === "on" ? "fewer than" : "at least"} ${data.threshold} %`;
    case "worker":
      return `worker ${data.worker} (pid ${data.pid}) is ${data.state}`;
    default:
      return data.text ?? JSON.stringify(data);
  }
}

export class EventsView {
  constructor() {
    this.title = "Events";
    this.kind = h("select", {"aria-label": "Kind"}, h("option", {value: ""}, "all kinds"));
    this.kind.addEventListener("change", () => this.update());
    this.pause = h("input", {type: "checkbox"});
    this.shown = [];
    this.table = new Table({
      caption: "events",
      key: (event) => String(event.number),
      matches: (event, word) => `${event.kind} ${eventText(event)}`.toLowerCase().includes(word),
      empty: "Nothing has happened",
      page: 100,
      columns: [
        {label: "Time", text: (event) => date(event.at)},
        {label: "Kind", text: (event) => event.kind},
        {label: "What", wide: true, text: eventText},
      ],
    });
    const bar = h("p", {class: "filters"}, h("label", {}, "Show ", this.kind), h("label", {}, this.pause, " hold"));
    this.element = h("section", {}, h("h2", {}, "Events"), bar, this.table.element);
  }

  update() {
    const known = new Set([...this.kind.options].map((option) => option.value));
    for (const kind of new Set(store.events.map((event) => event.kind))) {
      if (!known.has(kind)) this.kind.append(h("option", {value: kind}, kind));
    }
    if (!this.pause.checked) this.shown = store.events;
    const wanted = this.kind.value;
    this.table.update(this.shown.filter((event) => !wanted || event.kind === wanted).reverse());
  }

  close() {}
}
