// Certificates; and the program: workers, limits, what was said at run time, a reload with its plan shown first.

import * as api from "./api.js";
import {confirmed, notice, run, told} from "./dialog.js";
import {badge, count, counted, date, definitions, h, NONE, seconds, setHidden, setText, to} from "./dom.js";
import {refresh, store} from "./store.js";
import {Table} from "./table.js";

const EVERY = 10000; // milliseconds
const SOON = 30 * 86400; // seconds

function left(certificate) {
  return certificate.not_after - Date.now() / 1000;
}

function urgency(certificate) {
  return left(certificate) < 0 ? "bad" : left(certificate) < SOON ? "warn" : "good";
}

function leftText(certificate) {
  return left(certificate) < 0 ? "expired" : seconds(left(certificate));
}

// A view that asks for something now and then while it is shown.
class Asking {
  constructor() {
    this.asked = -Infinity;
  }

  update() {
    if (performance.now() - this.asked < EVERY) return;
    this.asked = performance.now();
    this.ask().catch((error) => notice(error.message, true));
  }

  close() {}
}

export class CertificatesView extends Asking {
  constructor() {
    super();
    this.title = "Certificates";
    this.table = new Table({
      caption: "certificates",
      key: (one) => JSON.stringify([one.app, one.target, one.file, one.fingerprint]),
      matches: (one, word) => JSON.stringify([one.app, one.target, one.file, one.names]).toLowerCase().includes(word),
      empty: "No TLS, so no certificates",
      columns: [
        {label: "Names", text: (one) => [...one.names, ...one.addresses].join(", ") || NONE},
        {label: "App", text: (one) => one.app, link: (one) => to("app", one.app), value: (one) => one.app},
        {label: "Shown to", text: (one) => (one.target ? `target ${one.target}` : "clients")},
        {label: "Left", text: leftText, badge: urgency, value: left},
        {label: "Expires", text: (one) => date(one.not_after), value: (one) => one.not_after},
        {label: "Key", text: (one) => one.algorithm},
        {label: "File", wide: true, text: (one) => one.file},
      ],
    });
    this.element = h("section", {}, h("h2", {}, "Certificates"), this.table.element);
  }

  async ask() {
    this.table.update(await api.get("certificates"));
  }
}

function use(label, most) {
  const target = {label: "Target", text: (one) => one.target, link: (one) => to("app", one.app, "target", one.target)};
  return [
    {label: "App", text: (one) => one.app, link: (one) => to("app", one.app), value: (one) => one.app},
    ...(label === "targets" ? [target] : []),
    {label: "Sessions", text: (one) => count(one.sessions), value: (one) => one.sessions, numeric: true},
    {label: "At most", text: (one) => count(one[most]), value: (one) => one[most], numeric: true},
    {label: "Used", text: (one) => `${Math.round((100 * one.sessions) / one[most])} %`, value: (one) => one.sessions / one[most],
      numeric: true},
  ];
}

export class SystemView extends Asking {
  constructor() {
    super();
    this.title = "System";
    this.facts = h("div", {class: "facts"});
    this.reload = h("button", {type: "button", onclick: () => this.#reload()}, "Reload");
    this.workers = new Table({
      caption: "workers",
      key: (one) => String(one.pid),
      columns: [
        {label: "Worker", text: (one) => `Worker ${one.index}`},
        {label: "Process", text: (one) => String(one.pid), numeric: true},
        {label: "State", text: (one) => one.state ?? NONE},
        {label: "Room for sessions", text: (one) => count(one.capacity), numeric: true},
        {label: "Open descriptors", text: (one) => count(one.descriptors), numeric: true},
      ],
    });
    const key = (one) => JSON.stringify([one.app, one.target]);
    this.apps = new Table({caption: "limits of apps", key, columns: use("apps", "limit"), empty: "No app has limits.sessions"});
    this.rates = new Table({
      caption: "limits of rates and by client",
      key: (one) => JSON.stringify([one.app, one.limit]),
      empty: "No app has any",
      columns: [
        {label: "App", text: (one) => one.app, link: (one) => to("app", one.app), value: (one) => one.app},
        {label: "Limit", text: (one) => one.limit},
        {label: "At most", text: (one) => count(one.most), value: (one) => one.most, numeric: true},
        {label: "Above it so far", text: (one) => count(one.refused), value: (one) => one.refused, numeric: true},
      ],
    });
    const matches = (one, word) => `${one.app} ${one.target}`.toLowerCase().includes(word);
    this.targets = new Table({caption: "limits of targets", key, columns: use("targets", "max_connections"), matches,
      empty: "No target has max_connections"});
    this.hasCluster = null; // not known yet
    this.state = h("p", {});
    this.members = new Table({
      caption: "members of the cluster",
      key: (one) => one.node,
      columns: [
        {label: "Node", text: (one) => `${one.node}${one.self ? " (this one)" : ""}`, value: (one) => one.node},
        {label: "Version", text: (one) => one.version},
        {label: "Address", text: (one) => one.address || NONE},
        {label: "API", text: (one) => one.api || NONE},
        {label: "Age", text: (one) => seconds(one.age), value: (one) => one.age, numeric: true},
        {label: "Lag", text: (one) => seconds(one.lag), value: (one) => one.lag, numeric: true},
        {label: "Heard", text: (one) => `${seconds(one.heard)} ago`, value: (one) => one.heard, numeric: true},
        {label: "Leads", text: (one) => one.leads.join(", ") || NONE},
        {label: "Configuration", text: (one) => one.differs.length ? `differs: ${one.differs.join("; ")}` : NONE},
      ],
    });
    this.cluster = h("section", {hidden: true}, h("h3", {}, "Cluster"), this.state, this.members.element);
    this.said = new Table({
      caption: "overrides",
      key: (one) => JSON.stringify([one.app, one.target, one.key]),
      empty: "Nothing was said at run time",
      columns: [
        {label: "App", text: (one) => one.app}, {label: "Target", text: (one) => one.target},
        {label: "What", text: (one) => one.key},
        {label: "Now", text: (one) => String(one.value)}, {label: "In the file", text: (one) => String(one.file)},
        {label: "Actions", text: () => "Back to the file", name: (one) => `Back to the file for target ${one.target}`,
          press: (one) => this.#reset(one)},
      ],
    });
    this.element = h("section", {}, h("h2", {}, "System"), this.facts, h("p", {class: "buttons"}, this.reload),
      this.cluster,
      h("h3", {}, "Workers"), this.workers.element, h("h3", {}, "Limits of apps"), this.apps.element,
      h("h3", {}, "Limits of targets"), this.targets.element, h("h3", {}, "Limits of rates and by client"), this.rates.element,
      h("h3", {}, "Said at run time"), this.said.element);
  }

  update() {
    const status = store.status;
    if (status) {
      this.facts.replaceChildren(definitions([
        ["Version", status.version], ["State", badge(status.state)], ["Process", String(status.pid)],
        ["Started", date(status.started)],
        ["First certificate expires", status.first_expiry && date(status.first_expiry)],
        ["First list of revoked ones is over", status.first_list_end && date(status.first_list_end)],
      ]));
    }
    super.update();
  }

  async ask() {
    const [workers, limits, said] = await Promise.all([api.get("workers"), api.get("limits"), api.get("overrides")]);
    const states = new Map(workers.map((one) => [one.pid, one.state]));
    this.workers.update(limits.workers.map((one) => ({...one, state: states.get(one.pid)})));
    this.apps.update(limits.apps);
    this.targets.update(limits.targets);
    this.rates.update(limits.rates);
    this.said.update(said);
    this.hasCluster ??= Boolean((await api.get("config")).cluster); // once: it is read at the start only
    if (this.hasCluster) this.#showCluster(await api.get("cluster"));
  }

  #showCluster(found) {
    setHidden(this.cluster, false);
    setText(this.state, `Cluster ${found.name}: node ${found.node} is ${found.state} for ${seconds(found.since)}` +
      `${found.text ? `: ${found.text}` : ""}; etcd at ${found.endpoint || NONE}`);
    this.members.update(found.members);
  }

  async #reset(one) {
    const text = h("p", {}, one.text);
    if (!(await confirmed(`Back to the file for target ${one.target} of app ${one.app}?`, text, "Reset"))) return;
    const where = `overrides${api.query({app: one.app, target: one.target})}`;
    await run(`target ${one.target} is as the file says`, () => api.remove(where));
    this.asked = -Infinity;
    refresh();
  }

  async #reload() {
    let plan;
    try {
      plan = await api.get("plan");
    } catch (error) {
      await told("The file cannot be loaded", problemLines(error));
      return;
    }
    const {changes, overrides} = plan;
    const standing = overrides.length
      ? [h("p", {}, "What was said at run time stands, the file notwithstanding:"), lines(overrides)]
      : [];
    if (!changes.length) {
      await told("Nothing would change", [h("p", {}, "The file says what runs."), ...standing]);
      return;
    }
    const title = `Reload: ${counted(changes.length, "change")}?`;
    if (!(await confirmed(title, [lines(changes), ...standing], "Reload"))) return;
    try {
      const done = await api.post("reload");
      notice(`reloaded, ${counted(done.changes.length, "change")}`);
    } catch (error) {
      await told("Nothing was changed", problemLines(error));
    }
    this.asked = -Infinity;
    refresh();
  }
}

function lines(changes) {
  const shown = changes.slice(0, 200).map((one) => h("li", {}, one.text));
  if (changes.length > 200) shown.push(h("li", {}, `and ${count(changes.length - 200)} more`));
  return h("ul", {class: "changes"}, shown);
}

function problemLines(error) {
  const shown = error.errors?.length ? error.errors.map((one) => one.what) : [error.message];
  return h("ul", {class: "changes"}, shown.slice(0, 200).map((text) => h("li", {}, text)));
}
