// Sessions that go on, a page of the API's at a time; why one is as it is, or has ended; its end.

import * as api from "./api.js";
import {confirmed, run, told} from "./dialog.js";
import {bytes, count, definitions, h, NONE, seconds, setHidden, setText} from "./dom.js";
import {store} from "./store.js";
import {Table} from "./table.js";

const EVERY = 5000; // milliseconds
const LIMIT = 100;
const SESSION = /^[0-9a-z]+\.\d+-\d+$/;
const FILTERS = [["app", "App"], ["target", "Target"], ["client", "Client"], ["listener", "Listener"]];

// The id of a session, or of a request in mode http: what became of it.
export async function showWhy(id) {
  const kind = SESSION.test(id) ? "sessions" : "requests";
  let found;
  try {
    found = await api.get(api.path(kind, id, "why"));
  } catch (error) {
    await told(`${id}`, h("p", {}, error.message));
    return;
  }
  const session = found.session ?? null;
  const facts = session && definitions([
    ["App", session.app], ["Listener", session.listener], ["Client", session.client], ["Peer", session.peer],
    ["Target", session.target ?? NONE], ["Connected after", seconds(session.connect_seconds)],
    ["Lasted", seconds(session.seconds)], ["To the target", bytes(session.bytes_up)], ["To the client", bytes(session.bytes_down)],
    ["Tried", session.tried.map((one) => tried(one)).join(", ")], ["Ended by", session.ended_by], ["Reason", session.reason],
  ]);
  await told(`${id} is ${found.state}`, [h("p", {class: "story"}, found.story), facts].filter(Boolean));
}

function tried(one) {
  return Array.isArray(one) ? one.join(": ") : `${one.target}: ${one.error}`;
}

async function end(session, then) {
  const text = h("p", {}, `Client ${session.client}, target ${session.target ?? NONE}. Both sides are reset.`);
  if (!(await confirmed(`End session ${session.id}?`, text, "End it"))) return;
  await run(`session ${session.id} is ended`, () => api.remove(api.path("sessions", session.id)));
  then();
}

export class SessionsView {
  constructor(given) {
    this.title = "Sessions";
    this.before = []; // of each page that came before this one, what it was asked after
    this.after = "";
    this.next = null;
    this.asked = -Infinity;
    this.inputs = FILTERS.map(([name, label]) => {
      const input = h("input", {name, value: given.get(name) ?? "", autocomplete: "off", list: name === "app" && "app-names"});
      return [name, input, h("label", {}, label, " ", input)];
    });
    this.names = h("datalist", {id: "app-names"});
    this.live = h("input", {type: "checkbox", checked: true});
    const form = h("form", {class: "filters", role: "search", "aria-label": "Sessions"},
      this.inputs.map(([, , label]) => label), this.names, h("button", {}, "Filter"), h("label", {}, this.live, " live"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#first();
    });
    this.id = h("input", {name: "id", autocomplete: "off", required: true});
    const look = h("form", {class: "filters"}, h("label", {}, "Session or request ", this.id), h("button", {}, "Why?"));
    look.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.id.value.trim()) showWhy(this.id.value.trim());
    });
    this.silent = h("p", {class: "bad", hidden: true});
    this.table = this.#table();
    this.back = h("button", {type: "button", onclick: () => this.#back()}, "Previous");
    this.on = h("button", {type: "button", onclick: () => this.#on()}, "Next");
    this.range = h("span", {role: "status"});
    const pages = h("nav", {class: "pages", "aria-label": "Pages of sessions"}, this.back, this.range, this.on);
    this.element = h("section", {}, h("h2", {}, "Sessions"), look, form, this.silent, this.table.element, pages);
    this.#show({sessions: [], next: null, silent: []});
  }

  #table() {
    return new Table({
      caption: "sessions",
      key: (one) => one.id,
      page: LIMIT,
      empty: "No sessions",
      columns: [
        {label: "Session", text: (one) => one.id, name: (one) => `Why session ${one.id}`, press: (one) => showWhy(one.id)},
        {label: "App", text: (one) => one.app, value: (one) => one.app},
        {label: "Client", text: (one) => one.client, value: (one) => one.client},
        {label: "Target", text: (one) => one.target ?? NONE, value: (one) => one.target ?? ""},
        {label: "State", text: (one) => one.state, value: (one) => one.state},
        {label: "Age", text: (one) => seconds(one.seconds), value: (one) => one.seconds, numeric: true},
        {label: "Idle", text: (one) => seconds(one.idle_seconds), value: (one) => one.idle_seconds, numeric: true},
        {label: "Up", text: (one) => bytes(one.bytes_up), value: (one) => one.bytes_up, numeric: true},
        {label: "Down", text: (one) => bytes(one.bytes_down), value: (one) => one.bytes_down, numeric: true},
        {label: "Actions", text: () => "End", name: (one) => `End session ${one.id}`,
          press: (one) => end(one, () => this.#ask())},
      ],
    });
  }

  #first() {
    this.before = [];
    this.after = "";
    this.#ask();
  }

  #back() {
    this.after = this.before.pop() ?? "";
    this.#ask();
  }

  #on() {
    this.before.push(this.after);
    this.after = this.next;
    this.#ask();
  }

  update() {
    this.names.replaceChildren(...store.apps.slice(0, 200).map((app) => h("option", {value: app.name})));
    if (this.live.checked && performance.now() - this.asked >= EVERY) this.#ask();
  }

  async #ask() {
    this.asked = performance.now();
    const filters = Object.fromEntries(this.inputs.map(([name, input]) => [name, input.value.trim()]));
    const after = this.after;
    try {
      const found = await api.get(`sessions${api.query({...filters, after, limit: LIMIT})}`);
      if (after === this.after) this.#show(found);
    } catch (error) {
      setText(this.silent, error.message);
      setHidden(this.silent, false);
    }
  }

  #show(found) {
    this.next = found.next;
    this.table.update(found.sessions);
    setText(this.silent, `Workers ${found.silent.join(", ")} did not answer in time: their sessions are missing.`);
    setHidden(this.silent, found.silent.length === 0);
    const first = this.before.length * LIMIT;
    const all = store.rates ? ` of about ${count(store.rates.program[0])}` : "";
    setText(this.range, found.sessions.length ? `${first + 1} to ${first + found.sessions.length}${all}` : "");
    this.back.disabled = this.before.length === 0;
    this.on.disabled = this.next === null;
  }

  close() {}
}
