// What the page knows, and how it comes to know it: asked while somebody looks, and no more often than anything can be new.
//
//     HIDDEN or refused ──start()──> FOLLOWING: rates each time there can be new ones, events as they come
//        ^                               │
//        └──── stop(): the tab is hidden, the token is wanted ────┘
//
// `apps` is read anew after events that say more than a target's state, and once a minute.

import * as api from "./api.js";

const ANEW = 60; // seconds
const AT_LEAST = 2; // seconds between two questions for all apps
const EACH = 0.01; // the same, for each target
const KEPT = 1000; // events
const STATUS = 10; // seconds

export const store = {
  status: null,
  apps: [], // as /api/v1/apps has them
  rates: null, // as /api/v1/rates has them
  events: [], // oldest first
  app: "", // whose targets' rates are wanted
  trouble: "",
};

let changed = () => {};
export function whenChanged(call) {
  changed = call;
}

const observers = new Set();

// Calls heard(events) with events that come from now on; call the result to end that.
export function observe(heard) {
  observers.add(heard);
  return () => observers.delete(heard);
}

export function appNamed(name) {
  return store.apps.find((app) => app.name === name);
}

// Of a row of rates, by column. Who has none has counted nothing: there are no times of it, and 0 of all else.
export function column(row, name) {
  if (row) return row[store.rates.columns.indexOf(name)];
  return !store.rates || /^p\d/.test(name) ? null : 0;
}

let running = null; // an AbortController
let tag = "";
let wake = () => {};
let appsAt = -Infinity;
let statusAt = -Infinity;
let isStale = true;

export const isRunning = () => running !== null;

export function start() {
  if (running) return;
  running = new AbortController();
  isStale = true;
  tag = "";
  statusAt = -Infinity;
  poll(running.signal);
  listen(running.signal);
}

export function stop() {
  running?.abort();
  running = null;
  wake();
}

// Another app's targets are wanted: at once.
export function wantApp(name) {
  store.app = name;
  tag = "";
  if (store.rates) store.rates = {...store.rates, targets: {}};
  wake();
}

export function refresh() {
  isStale = true;
  appsAt = -Infinity;
  wake();
}

function sleep(seconds) {
  return new Promise((done) => {
    const timer = setTimeout(done, seconds * 1000);
    wake = () => {
      clearTimeout(timer);
      done();
    };
  });
}

async function poll(signal) {
  while (!signal.aborted) {
    const app = store.app;
    try {
      await ask(signal);
      store.trouble = "";
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 404 && store.app === app) store.app = ""; // it has left
      else store.trouble = error.message;
    }
    if (signal.aborted) return;
    changed();
    const isWanted = app !== store.app; // another one's targets, meanwhile
    if (!isWanted) await sleep(store.trouble ? 2 : (store.rates?.every ?? 2));
  }
}

async function ask(signal) {
  const now = performance.now() / 1000;
  if (now - statusAt >= STATUS - 0.5) {
    const status = await api.get("status", {signal});
    if (store.status && status.started !== store.status.started) isStale = true; // another run of the program
    store.status = status;
    statusAt = now;
  }
  const targets = store.apps.reduce((sum, app) => sum + app.targets.length, 0);
  if (now - appsAt >= ANEW || (isStale && now - appsAt >= Math.max(AT_LEAST, targets * EACH))) {
    isStale = false;
    appsAt = now;
    store.apps = await api.get("apps", {signal});
  }
  const app = store.app;
  const newer = await api.getNewer(`rates${api.query({app})}`, tag, signal);
  if (newer && app === store.app) [store.rates, tag] = newer;
}

async function listen(signal) {
  let wait = 1;
  while (!signal.aborted) {
    try {
      await api.follow(store.events.at(-1)?.number ?? 0, heard, signal);
      wait = 1;
    } catch {
      // Who polls says so, too.
    }
    await new Promise((done) => setTimeout(done, wait * 1000));
    wait = Math.min(10, wait * 2);
  }
}

function heard(events) {
  if (store.events.length && events[0].number <= store.events.at(-1).number) store.events = []; // another run of the program
  store.events = [...store.events, ...events].slice(-KEPT);
  for (const event of events) {
    if (event.kind === "target") applyState(event.data);
    else isStale = true;
  }
  observers.forEach((call) => call(events));
  changed();
}

function applyState({app, target, state, why}) {
  const known = appNamed(app)?.targets.find((one) => one.name === target);
  if (known) Object.assign(known, {state, why});
}
