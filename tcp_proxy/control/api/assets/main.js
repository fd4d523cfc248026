// The page: which view is shown, the line about the program, the login. What is known and asked is in store.js.
//
//     LOGIN ──a token that is taken──> SHOWING (a view by the hash of the URL) ──401, or log out──> LOGIN
//     while the tab is hidden nothing is asked

import * as api from "./api.js";
import {AppView, TargetView} from "./app.js";
import {count, counted, h, setAttribute, setHidden, setText, to} from "./dom.js";
import {EventsView} from "./events.js";
import {Overview} from "./overview.js";
import {SessionsView} from "./sessions.js";
import {isRunning, start, stop, store, whenChanged} from "./store.js";
import {CertificatesView, SystemView} from "./system.js";

const VIEWS = [
  ["", "Apps", () => new Overview()],
  ["sessions", "Sessions", (_parts, query) => new SessionsView(query)],
  ["events", "Events", () => new EventsView()],
  ["certificates", "Certificates", () => new CertificatesView()],
  ["system", "System", () => new SystemView()],
];

const main = document.getElementById("main");
const program = document.getElementById("program");
const trouble = document.getElementById("trouble");
const logout = document.getElementById("logout");
const links = VIEWS.map(([name, label]) => h("a", {href: name ? to(name) : "#/"}, label));
document.getElementById("views").append(...links);

let view = null;
let isLogin = false;

function wanted() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  let parts;
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    parts = [""];
  }
  const [first, app, second, target] = parts;
  if (first === "app" && app && second === "target" && target) return ["", () => new TargetView(app, target)];
  if (first === "app" && app) return ["", () => new AppView(app)];
  const found = VIEWS.find(([name]) => name === first) ?? VIEWS[0];
  return [found[0], () => found[2](parts, new URLSearchParams(query))];
}

function show() {
  if (isLogin) return;
  view?.close();
  const [name, make] = wanted();
  view = make();
  links.forEach((link, n) => {
    if (VIEWS[n][0] === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.title = `${view.title} - tcp_proxy`;
  main.replaceChildren(view.element);
  draw();
}

function draw() {
  if (isLogin) return;
  const status = store.status;
  if (status) {
    const {up, draining, down} = status.targets;
    const sessions = store.rates ? `, ${counted(store.rates.program[0], "session")}` : "";
    setText(program, `${status.version}, ${status.state}: ${counted(status.apps, "app")}, targets ${count(up)} up, ` +
      `${count(draining)} draining, ${count(down)} down, ${counted(status.workers, "worker")}${sessions}`);
  }
  setText(trouble, `${store.trouble}; tried again`);
  setHidden(trouble, !store.trouble);
  setHidden(logout, !api.token());
  if (store.status) view.update();
  setAttribute(main, "aria-busy", store.rates ? "false" : "true");
}

// -- the login

function login(text) {
  stop();
  if (isLogin) return;
  isLogin = true;
  api.forgetToken();
  view?.close();
  view = null;
  setHidden(logout, true);
  setHidden(trouble, true);
  document.title = "Log in - tcp_proxy";
  const input = h("input", {type: "password", name: "token", autocomplete: "current-password", required: true});
  const said = h("p", {class: "bad", role: "alert", hidden: !text}, text);
  const form = h("form", {class: "login", "aria-labelledby": "login-title"}, h("h2", {id: "login-title"}, "Log in"),
    h("p", {}, "This API wants the token of its token_file. It is kept until this tab is closed."),
    h("label", {}, "Token ", input), said, h("button", {}, "Log in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fault = await tried(input.value.trim());
    if (fault) {
      setText(said, fault);
      setHidden(said, false);
      input.select();
    }
  });
  main.replaceChildren(form);
  input.focus();
}

// Whether the token opens the API: "" or what is wrong.
async function tried(text) {
  if (!/^[\x21-\x7e]+$/.test(text)) return "A token is one word of ASCII characters.";
  api.setToken(text);
  try {
    await api.get("status");
  } catch (error) {
    api.forgetToken();
    return error.status === 401 ? "This is not the token." : error.message;
  }
  isLogin = false;
  begin();
  return "";
}

// -- while somebody looks

function begin() {
  if (!isLogin && !document.hidden && !isRunning()) start();
  if (!isLogin && !view) show();
}

api.whenRefused(() => login(api.token() ? "The token is not taken any more." : ""));
whenChanged(draw);
logout.addEventListener("click", () => login(""));
addEventListener("hashchange", () => {
  show();
  main.focus();
});
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : begin()));
begin();
