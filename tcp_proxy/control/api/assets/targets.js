// What can be done to a target, each with a confirmation that says what it does; and the table of an app's targets.

import * as api from "./api.js";
import {chosen, confirmed, notice, number, run} from "./dialog.js";
import {badgeClass, byteRate, count, h, rate, seconds, to} from "./dom.js";
import {appNamed, column, refresh, store} from "./store.js";
import {Table} from "./table.js";

const ADMIN = {
  drain: ["Drain", "It gets no new sessions; those that go on may end by themselves."],
  disabled: ["Disable", "It gets no new sessions and is not checked; sessions that go on stay."],
  ready: ["Make ready", "It gets sessions again, as its checks say."],
};

const names = (target) => `target ${target.name} of app ${target.app}`;
const place = (target, ...more) => api.path("apps", target.app, "targets", target.name, ...more);

async function setAdmin(target, admin) {
  const [label, what] = ADMIN[admin];
  if (!(await confirmed(`${label} ${names(target)}?`, h("p", {}, what), label))) return;
  await run(`${names(target)} is ${admin}`, () => api.patch(place(target), {admin}));
  refresh();
}

async function setWeight(target) {
  const text = h("p", {}, `It is ${target.weight} now. 0 gets no new sessions.`);
  const field = {label: "Weight, 0 to 256", value: target.weight, min: 0, max: 256};
  const weight = await number(`Another weight of ${names(target)}?`, text, field);
  if (weight === null) return;
  await run(`${names(target)} has the weight ${weight}`, () => api.patch(place(target), {weight}));
  refresh();
}

async function promote(target) {
  const text = h("p", {}, "It is tried first, with its check and the triggers; if it cannot be primary, the others are.");
  if (!(await confirmed(`Make ${names(target)} primary?`, text, "Promote"))) return;
  await run(`${names(target)} is being promoted`, () => api.post(place(target, "promote")));
}

async function closeSessions(target) {
  const text = h("p", {}, "Clients are reset. New ones may come, unless the target is drained or disabled.");
  if (!(await confirmed(`End all sessions of ${names(target)}?`, text, "End them"))) return;
  await run(`the sessions of ${names(target)} are ended`, () => api.remove(place(target, "sessions")));
}

async function check(target) {
  await run(`${names(target)} is being checked`, () => api.post(place(target, "probe")));
}

async function reset(target) {
  const text = target.overrides.map((one) => h("p", {}, `${one.key}: ${one.value}, in the file ${one.file}`));
  if (!(await confirmed(`Back to the file for ${names(target)}?`, text, "Reset"))) return;
  const where = `overrides${api.query({app: target.app, target: target.name})}`;
  await run(`${names(target)} is as the file says`, () => api.remove(where));
  refresh();
}

// value -> [label, what is done, whether it makes sense]
const ORDERS = {
  drain: ["Drain", (one) => setAdmin(one, "drain"), (one) => one.admin !== "drain"],
  disabled: ["Disable", (one) => setAdmin(one, "disabled"), (one) => one.admin !== "disabled"],
  ready: ["Make ready", (one) => setAdmin(one, "ready"), (one) => one.admin !== "ready"],
  weight: ["Weight", setWeight, (one, app) => app.primary === null],
  promote: ["Promote", promote, (one, app) => app.primary !== null && app.primary !== one.name],
  close: ["End its sessions", closeSessions, () => true],
  check: ["Check now", check, (one, app) => app.health.length > 0],
  reset: ["Back to the file", reset, (one) => one.overrides.length > 0],
};

function possible(target) {
  const app = appNamed(target.app);
  return Object.entries(ORDERS).filter(([, [, , makesSense]]) => app && makesSense(target, app));
}

// Buttons for all that can be done to it; `now()` is the target as it is then.
export function buttons(now) {
  return Object.entries(ORDERS).map(([name, [label, order]]) => {
    return h("button", {type: "button", "data-order": name, onclick: () => order(now())}, label);
  });
}

export function showPossible(made, target) {
  const names = new Set(possible(target).map(([name]) => name));
  for (const button of made) button.hidden = !names.has(button.dataset.order);
}

async function manage(target) {
  const orders = possible(target).map(([value, [label]]) => [value, label]);
  const text = h("p", {}, `It is ${target.state}: ${target.why}`);
  const order = await chosen(`Target ${target.name}`, text, orders);
  if (!order) return;
  const now = appNamed(target.app)?.targets.find((one) => one.name === target.name);
  if (now) await ORDERS[order][1](now);
  else notice("it has left meanwhile", true);
}

export function overridesOf(target) {
  const marks = target.overrides.map((one) => `${one.key} (file: ${one.file})`);
  return marks.length ? `said at run time: ${marks.join(", ")}` : "";
}

const of = (name) => (target) => column(store.rates?.targets[target.name], name);

export function targetTable(app) {
  const isHttp = app.mode === "http";
  const numbers = [
    [isHttp ? "Requests" : "Sessions", "sessions", count],
    isHttp ? ["Requests/s", "requests_per_second", rate] : ["Sessions/s", "sessions_per_second", rate],
    ...(isHttp ? [["Connections", "connections", count]] : []),
    ["Up", "bytes_up_per_second", byteRate],
    ["Down", "bytes_down_per_second", byteRate],
    ["Errors/s", "errors_per_second", rate],
    ["p50", "p50", seconds],
    ["p99", "p99", seconds],
  ];
  return new Table({
    caption: `targets of app ${app.name}`,
    key: (target) => target.name,
    matches: (target, word) => `${target.name} ${target.address} ${target.state} ${target.why}`.toLowerCase().includes(word),
    columns: [
      {label: "Target", text: (one) => one.name, link: (one) => to("app", one.app, "target", one.name), value: (one) => one.name},
      {label: "State", text: stateOf, badge: (one) => badgeClass(one.state), value: stateOf},
      {label: "Weight", text: weightOf, value: (one) => one.weight, numeric: true},
      ...numbers.map(([label, name, format]) => {
        return {label, text: (one) => format(of(name)(one) ?? null), value: (one) => of(name)(one) ?? null, numeric: true};
      }),
      {label: "Evidence", wide: true, text: (one) => [one.why, overridesOf(one)].filter(Boolean).join("; ")},
      {label: "Actions", text: () => "Manage", name: (one) => `Manage target ${one.name}`, press: manage},
    ],
  });
}

function stateOf(target) {
  const isPrimary = appNamed(target.app)?.primary === target.name;
  return [target.state, isPrimary && "primary", target.forced && "forced"].filter(Boolean).join(", ");
}

function weightOf(target) {
  return `${target.weight}${target.backup ? " backup" : ""}`;
}
