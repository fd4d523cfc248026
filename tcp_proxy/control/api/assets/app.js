// One app, and one of its targets: what it is, its charts, what goes on and what can be done.

import * as api from "./api.js";
import {Charts} from "./charts.js";
import {confirmed, run} from "./dialog.js";
import {badge, count, date, definitions, h, rate, seconds, setHidden, setText, time, to} from "./dom.js";
import {appNamed, column, observe, store, wantApp} from "./store.js";
import {Table} from "./table.js";
import {buttons, overridesOf, showPossible, targetTable} from "./targets.js";

export class AppView {
  constructor(name) {
    this.title = `App ${name}`;
    this.name = name;
    this.element = h("section", {}, h("h2", {}, `App ${name}`));
    this.gone = h("p", {class: "empty"}, "There is no such app.");
    this.isMade = false;
  }

  update() {
    const app = appNamed(this.name);
    if (!app) {
      if (store.apps.length && !this.isMade) this.element.append(this.gone);
      return;
    }
    if (!this.isMade) this.#make(app);
    const rates = store.rates?.apps[this.name];
    this.facts.replaceChildren(definitions([
      ["Mode", app.mode], ["Balance", app.balance], ["Retries", String(app.retries)], ["On down", app.on_down],
      ["Panicking", app.panicking ? "yes: too few targets are up, all are used" : null],
      ["Sessions", rates ? count(column(rates.row, "sessions")) : null],
      ["Answers in all", rates?.statuses ? answers(rates.statuses) : null],
      ["Retries/s", rates?.statuses ? rate(column(rates.row, "retries_per_second")) : null],
      ["Connections to targets", rates?.statuses ? count(column(rates.row, "connections")) : null],
      ["Waiting for a place", rates && rates.queue !== null ? count(rates.queue) : null],
      ["Refused in all", rates?.refused ? count(rates.refused) : null],
      ["Removed at run time", app.removed.join(", ")],
    ]));
    this.targets.update(app.targets);
    this.listeners.update(app.listeners.map((address) => ({address, counts: rates?.listeners[address] ?? [0, 0]})));
    this.charts.update();
  }

  #make(app) {
    this.isMade = true;
    wantApp(app.name);
    this.gone.remove();
    this.facts = h("div", {class: "facts"});
    this.targets = targetTable(app);
    this.charts = new Charts({app: app.name}, app.mode);
    this.listeners = new Table({
      caption: `listeners of app ${app.name}`,
      key: (one) => one.address,
      page: 20,
      columns: [
        {label: "Listener", text: (one) => one.address, value: (one) => one.address},
        {label: "Sessions", text: (one) => count(one.counts[0]), value: (one) => one.counts[0], numeric: true},
        {label: "In all", text: (one) => count(one.counts[1]), value: (one) => one.counts[1], numeric: true},
      ],
    });
    const sessions = h("p", {}, h("a", {href: `${to("sessions")}${api.query({app: app.name})}`}, "Its sessions"));
    this.parts = [];
    if (app.primary !== null) this.parts.push(new Election(app.name));
    if (app.sticky !== null) this.parts.push(new Sticks(app.name));
    this.element.append(this.facts, sessions, h("h3", {}, "Targets"), this.targets.element,
      h("h3", {}, "Last hour"), this.charts.element,
      ...this.parts.map((part) => part.element), h("h3", {}, "Listeners"), this.listeners.element);
  }

  close() {
    this.charts?.close();
    this.parts?.forEach((part) => part.close());
    wantApp("");
  }
}

// "30 2xx, 2 4xx, 1 none": kinds of which there was none are left out.
function answers(statuses) {
  const some = Object.entries(statuses).filter(([, many]) => many > 0).map(([kind, many]) => `${count(many)} ${kind}`);
  return [...some.filter((text) => !text.endsWith("none")), ...some.filter((text) => text.endsWith("none"))].join(", ") || "0";
}

// Asked at first and whenever an election says something.
class Election {
  constructor(app) {
    this.app = app;
    this.facts = h("div", {class: "facts"});
    this.element = h("section", {}, h("h3", {}, "Election"), this.facts);
    this.forget = observe((events) => {
      if (events.some((event) => event.kind === "election" && event.data.app === app)) this.ask();
    });
    this.ask();
  }

  async ask() {
    const found = await api.get(api.path("apps", this.app, "election")).catch(() => null);
    if (!found) return;
    this.facts.replaceChildren(definitions([
      ["Primary", found.primary || "none: it is looked for"], ["Phase", found.phase], ["Epoch", count(found.epoch)],
      ["Elections", count(found.elections)], ["Fruitless rounds", count(found.fruitless_rounds)],
      ["The last one took", seconds(found.last_seconds)], ["All together", seconds(found.total_seconds)],
    ]));
  }

  close() {
    this.forget();
  }
}

// A page of the table, asked for when it is opened, and again on a press.
class Sticks {
  constructor(app) {
    this.app = app;
    this.facts = h("div", {class: "facts"});
    this.contains = h("input", {type: "search", "aria-label": "Keys that contain", placeholder: "Keys that contain"});
    this.next = h("button", {type: "button", hidden: true, onclick: () => this.ask(this.after)}, "Next page");
    this.table = new Table({
      caption: `stick table of app ${app}`,
      key: (one) => one.key,
      page: 100,
      empty: "No keys",
      columns: [
        {label: "Key", text: (one) => one.key},
        {label: "Target", text: (one) => one.target, link: (one) => to("app", app, "target", one.target)},
        {label: "In use", text: (one) => (one.in_use ? "yes" : "no")},
        {label: "Expires in", text: (one) => seconds(one.expires_in), numeric: true},
        {label: "Actions", text: () => "Forget", name: (one) => `Forget key ${one.key}`, press: (one) => this.#forget(one)},
      ],
    });
    const form = h("form", {class: "filter"}, this.contains, h("button", {}, "Look"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask("");
    });
    this.element = h("section", {}, h("h3", {}, "Stick table"), this.facts, form, this.table.element, h("p", {}, this.next));
    this.ask("");
  }

  async ask(after) {
    const given = {after, contains: this.contains.value.trim(), limit: 100};
    const found = await api.get(`${api.path("apps", this.app, "sticks")}${api.query(given)}`).catch(() => null);
    if (!found) return;
    this.after = found.next;
    setHidden(this.next, found.next === null);
    this.table.update(found.entries);
    this.facts.replaceChildren(definitions([
      ["Keys", `${count(found.known)} of ${count(found.size)}`], ["In use", count(found.in_use)],
      ["Evicted", count(found.evicted)], ["Expires after", seconds(found.expires)],
    ]));
  }

  async #forget(one) {
    const text = h("p", {}, `It belongs to ${one.target}. Its sessions go on; the next one begins anew.`);
    if (!(await confirmed(`Forget key ${one.key} of app ${this.app}?`, text, "Forget"))) return;
    await run(`key ${one.key} is forgotten`, () => api.remove(api.path("apps", this.app, "sticks", one.key)));
    this.ask("");
  }

  close() {}
}

export class TargetView {
  constructor(app, name) {
    this.title = `Target ${name}`;
    Object.assign(this, {app, name});
    this.known = null;
    this.facts = h("div", {class: "facts"});
    this.buttons = buttons(() => this.known);
    this.actions = h("p", {class: "buttons", role: "group", "aria-label": "Actions", hidden: true}, this.buttons);
    this.checks = h("div", {});
    this.changes = new Table({
      caption: `changes of state of target ${name}`,
      key: (one) => String(one.number),
      page: 20,
      empty: "None among the last 1,000 events",
      columns: [
        {label: "Time", text: (one) => date(one.at)},
        {label: "State", text: (one) => one.data.state},
        {label: "Why", wide: true, text: (one) => one.data.why},
      ],
    });
    this.place = h("div", {});
    this.gone = h("p", {class: "empty", hidden: true}, "There is no such target.");
    const back = h("a", {href: to("app", app)}, `App ${app}`);
    const sessions = h("a", {href: `${to("sessions")}${api.query({app, target: name})}`}, "Its sessions");
    this.element = h("section", {}, h("p", {}, back), h("h2", {}, `Target ${name}`), this.gone, this.facts, this.actions,
      h("p", {}, sessions), h("h3", {}, "Last hour"), this.place, h("h3", {}, "Last checks"), this.checks,
      h("h3", {}, "Changes of state"), this.changes.element);
    this.asked = -Infinity;
    this.shown = "";
  }

  update() {
    const app = appNamed(this.app);
    this.known = app?.targets.find((one) => one.name === this.name) ?? null;
    setHidden(this.gone, this.known !== null || !store.apps.length);
    setHidden(this.actions, this.known === null);
    if (!this.known) return;
    if (!this.charts) {
      wantApp(this.app);
      this.charts = new Charts({app: this.app, target: this.name}, app.mode);
      this.place.replaceChildren(this.charts.element);
    }
    this.charts.update();
    showPossible(this.buttons, this.known);
    this.#showFacts(app, this.known);
    const events = store.events.filter(({kind, data}) => kind === "target" && data.app === this.app && data.target === this.name);
    this.changes.update(events.reverse());
    this.#askChecks();
  }

  #showFacts(app, target) {
    const state = [target.state, app.primary === target.name && "primary", target.forced && "forced"].filter(Boolean).join(", ");
    const row = store.rates?.targets[target.name];
    this.facts.replaceChildren(definitions([
      ["State", badge(target.state, state)], ["Evidence", target.why],
      ["Address", target.address], ["Endpoints", target.endpoints.join(", ")],
      ["Weight", String(target.weight)], ["Backup", target.backup ? "yes" : "no"], ["Administration", target.admin],
      ["Sessions", count(column(row, "sessions"))],
      ["Most connections", target.max_connections ? count(target.max_connections) : "no limit"],
      ["p50, p90, p99", row ? ["p50", "p90", "p99"].map((name) => seconds(column(row, name))).join(", ") : null],
      ["At run time", overridesOf(target)],
    ]));
  }

  // Each five seconds, for it asks the health threads.
  async #askChecks() {
    const now = performance.now();
    if (now - this.asked < 5000) return;
    this.asked = now;
    const found = await api.get(api.path("apps", this.app, "targets", this.name, "probes")).catch(() => null);
    const text = JSON.stringify(found);
    if (!found || text === this.shown) return;
    this.shown = text;
    this.checks.replaceChildren(...(found.length ? found.map(checkElement) : [h("p", {class: "empty"}, "It is not checked")]));
  }

  close() {
    this.charts?.close();
    wantApp("");
  }
}

function checkElement({check, port, verdict, probes}) {
  const what = `${check.type}${port ? `, port ${port}` : ""}, each ${seconds(check.interval)}: ${verdict}`;
  const lines = probes.slice(-10).reverse().map((one) => {
    const result = one.success === null ? "error" : one.success ? "success" : "failure";
    const line = h("li", {class: result}, `${time(one.at)} ${result} in ${seconds(one.seconds)}: `);
    const text = h("span", {});
    setText(text, one.text);
    line.append(text);
    return line;
  });
  return h("section", {}, h("h4", {}, what), h("ul", {class: "checks"}, lines));
}
