// SPDX-License-Identifier: Apache-2.0
// What all views share: elements, times, the API. Text from the portal reaches the page only as text nodes.

export function h(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (v === undefined || v === null || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k in e && typeof v !== "string") e[k] = v;
    else e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.flat().filter((c) => c !== undefined && c !== null && c !== false));
  return e;
}

const SVG = "http://www.w3.org/2000/svg";

// One shape per status, so that colour never carries it alone.
const SHAPES = {
  online: [["circle", { cx: 6, cy: 6, r: 5 }]],
  stale: [["path", { d: "M6 1a5 5 0 0 1 0 10z" }], ["circle", { cx: 6, cy: 6, r: 4.6, class: "ring" }]],
  reconnecting: [["path", { d: "M6 1.2a4.8 4.8 0 1 1-4.2 2.5", class: "ring" }]],
  updating: [["path", { d: "M6 1.2a4.8 4.8 0 1 1-4.2 2.5", class: "ring" }], ["circle", { cx: 6, cy: 6, r: 1.6 }]],
  offline: [["rect", { x: 1, y: 1, width: 10, height: 10 }]],
  missing: [["rect", { x: 1, y: 1, width: 10, height: 10, class: "ring" }], ["path", { d: "M3.5 6h5", class: "ring" }]],
  powered_off: [["rect", { x: 1.5, y: 1.5, width: 9, height: 9, class: "ring" }]],
  pending: [["path", { d: "M6 .8 11.6 11H.4z" }]],
  suspended: [["path", { d: "M3.5 1v10M8.5 1v10", class: "ring" }]],
  revoked: [["path", { d: "M1.5 1.5l9 9M10.5 1.5l-9 9", class: "ring" }]],
  never_connected: [["circle", { cx: 6, cy: 6, r: 4.6, class: "ring" }]],
};

export function shape(status) {
  const s = document.createElementNS(SVG, "svg");
  s.setAttribute("viewBox", "0 0 12 12");
  s.setAttribute("class", "shape");
  s.setAttribute("aria-hidden", "true");
  for (const [tag, attributes] of SHAPES[status] ?? SHAPES.never_connected) {
    const e = document.createElementNS(SVG, tag);
    for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
    s.append(e);
  }
  return s;
}

export const words = (name) => String(name).replaceAll("_", " ");

// ---- times -----------------------------------------------------------------------------------

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// The portal's clock minus ours, so that a laptop's wrong clock does not make hosts look dead.
let skew = 0;
export const now = () => Date.now() + skew;

function ago(at) {
  const ms = now() - at;
  if (ms < 1500) return "just now";
  if (ms < 60000) return `${Math.floor(ms / 1000)} s ago`;
  return `${duration(ms)} ago`;
}

export function until(iso) {
  const ms = Date.parse(iso) - now();
  return ms > 0 ? `in ${duration(ms)}` : "passed";
}

// A relative time that stays true by itself, the absolute one in its title.
export function when(iso) {
  if (!iso) return h("span", {}, "never");
  const at = Date.parse(iso);
  const e = h("time", { datetime: iso, title: new Date(at).toLocaleString() }, ago(at));
  e.dataset.at = at;
  return e;
}

setInterval(() => {
  for (const e of document.querySelectorAll("time[data-at]")) {
    const text = ago(Number(e.dataset.at));
    if (e.textContent !== text) e.textContent = text;
  }
}, 1000);

// ---- API -------------------------------------------------------------------------------------

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? (status ? `HTTP ${status}` : "the portal cannot be reached"));
    this.status = status;
    this.code = problem?.code;
  }
}

let csrf = "";
export const setCsrf = (value) => { csrf = value; };

export async function api(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["Holdfast-CSRF"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let r;
  try {
    r = await fetch(`/api/v1${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0);
  }
  const text = await r.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (!r.ok) throw new ApiError(r.status, value);
  return value;
}

// The portal's time is in what it just changed or made; a session's answer has it.
export function learnTime(iso) {
  const at = Date.parse(iso);
  if (Number.isFinite(at)) skew = Math.abs(at - Date.now()) > 2000 ? at - Date.now() : 0;
}

// ---- notices and questions -------------------------------------------------------------------

let noticeTimer;
export function notice(text) {
  const e = document.getElementById("notice");
  e.textContent = text;
  e.hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => { e.hidden = true; }, 5000);
}

export function dialog(content) {
  const d = h("dialog", {}, content);
  d.addEventListener("close", () => d.remove());
  document.body.append(d);
  d.showModal();
  return d;
}

export function ask(question, detail, verb, danger = true) {
  return new Promise((resolve) => {
    const d = dialog([
      h("h2", {}, question),
      h("p", {}, detail),
      h("div", { class: "row" },
        h("button", { type: "button", onclick: () => { resolve(false); d.close(); } }, "Cancel"),
        h("button", { type: "button", class: danger ? "danger" : "primary", onclick: () => { resolve(true); d.close(); } }, verb)),
    ]);
    d.addEventListener("cancel", () => resolve(false));
  });
}

export async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy by hand";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}
