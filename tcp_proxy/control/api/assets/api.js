// What is asked of the management API: with the token, if there is one, and the words of its problems when it says no.

const KEY = "tcp_proxy.token"; // in sessionStorage: it survives a reload of the page, and ends with the tab

export class Problem extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

export const token = () => sessionStorage.getItem(KEY);
export const setToken = (text) => sessionStorage.setItem(KEY, text);
export const forgetToken = () => sessionStorage.removeItem(KEY);

// Called when a token is wanted, or another one.
let refused = () => {};
export function whenRefused(call) {
  refused = call;
}

export function path(...parts) {
  return parts.map(encodeURIComponent).join("/");
}

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function send(method, where, {body, headers = {}, signal} = {}) {
  const known = token();
  const all = {...headers};
  if (known) all.Authorization = `Bearer ${known}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  let response;
  try {
    const text = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(`api/v1/${where}`, {method, headers: all, body: text, signal, cache: "no-store"});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the management API does not answer");
  }
  if (response.status === 401) refused();
  if (response.ok || response.status === 304) return response;
  let found = {};
  try {
    found = await response.json();
  } catch {
    // No problem+json: something between us and the API has answered.
  }
  throw new Problem(response.status, found.detail ?? `status ${response.status}`, found.errors);
}

async function parsed(response) {
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export const get = async (where, how) => parsed(await send("GET", where, how));
export const post = async (where, body) => parsed(await send("POST", where, {body}));
export const patch = async (where, body) => parsed(await send("PATCH", where, {body}));
export const remove = async (where) => parsed(await send("DELETE", where));

// null: nothing is newer than `tag`; else [what there is, its tag].
export async function getNewer(where, tag, signal) {
  const response = await send("GET", where, {headers: tag ? {"If-None-Match": tag} : {}, signal});
  return response.status === 304 ? null : [await parsed(response), response.headers.get("ETag")];
}

// Calls heard(event) for each event after number `after`, as they come, until the stream or `signal` ends it.
export async function follow(after, heard, signal) {
  const response = await send("GET", `events/stream?after=${after}`, {signal});
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    const events = [];
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "));
      if (data) events.push(JSON.parse(data.slice(6)));
    }
    if (events.length) heard(events);
  }
}
