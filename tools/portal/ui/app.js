// SPDX-License-Identifier: Apache-2.0
// Session, navigation, the event stream; hands what happens to the view that is shown.

import { api, h, learnTime, now, setCsrf, when } from "./lib.js";
import { EndpointsView } from "./endpoints.js";

// A section without a view says so, and where its data is already to be had.
const SECTIONS = [
  ["fleet", "Fleet", null, "The overview of the whole fleet", "/api/v1/fleet"],
  ["endpoints", "Endpoints", EndpointsView],
  ["outages", "Outages", null, "The outages of all endpoints", "/api/v1/outages"],
  ["events", "Events", null, "The kernel events of all endpoints", "/api/v1/events"],
  ["actions", "Actions", null, "Start, stop, restart, scan and update"],
  ["releases", "Releases", null, "Releases and rollouts"],
  ["settings", "Settings", null, "Tokens, users, policies, alerts and the audit log", "/api/v1/audit"],
];

const main = document.getElementById("main");
const live = document.getElementById("live");
let session = null;
let view = null;
let shown = "";
let stream = null;

let liveSince = 0;
function setLive(state) {
  const on = state === "live";
  live.className = on ? "live" : "live off";
  live.replaceChildren(state, ...(!on && liveSince ? [", data from ", when(new Date(liveSince).toISOString())] : []));
  document.body.classList.toggle("outdated", !on && liveSince > 0);
}

function navigation(current) {
  document.getElementById("nav").replaceChildren(...SECTIONS.map(([id, title, has]) => h("a", {
    href: `#/${id}`,
    class: has ? "" : "later",
    title: has ? "" : "Comes with a later version",
    "aria-current": id === current ? "page" : null,
  }, title)));
}

function later([, title, , what, data]) {
  document.title = `${title} – Holdfast`;
  main.replaceChildren(h("h1", {}, title), h("div", { class: "panel empty" },
    h("h2", {}, "Comes with a later version"),
    h("p", {}, `${what} will be here.`),
    data ? h("p", { class: "hint" }, "The data is there already: ", h("a", { href: data }, data)) : h("p", { class: "hint" }, "This version has nothing behind it yet.")));
}

function route() {
  if (!session) return;
  const id = location.hash.replace(/^#\/?/, "").split(/[?/]/)[0] || "endpoints";
  const section = SECTIONS.find((s) => s[0] === id);
  navigation(id);
  if (!section || !section[2]) {
    view = null;
    shown = id;
    if (section) later(section);
    else main.replaceChildren(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/endpoints" }, "Endpoints")));
    return;
  }
  if (shown !== id || !view) {
    document.title = `${section[1]} – Holdfast`;
    view = new section[2](main, session);
    shown = id;
  }
  view.show();
}

function listen() {
  stream?.close();
  setLive("connecting");
  stream = new EventSource("/api/v1/stream");
  let lost = false;
  stream.addEventListener("hello", () => {
    setLive("live");
    // What happened while we were away is not told again: load anew.
    if (lost) view?.show();
    lost = false;
  });
  stream.addEventListener("endpoint", (m) => view?.update?.(JSON.parse(m.data)));
  stream.addEventListener("error", () => {
    if (!lost) liveSince = now();
    lost = true;
    setLive("reconnecting");
    // A closed stream was refused: perhaps the session ended.
    if (stream.readyState === EventSource.CLOSED) setTimeout(start, 2000);
  });
}

function login(message) {
  stream?.close();
  session = null;
  view = null;
  document.getElementById("top").hidden = true;
  document.title = "Log in – Holdfast";
  const token = h("input", { type: "password", autocomplete: "current-password", required: true, "aria-label": "API token", placeholder: "hfp_…" });
  const wrong = h("p", { class: "wrong", role: "alert", hidden: !message }, message ?? "");
  const button = h("button", { class: "primary" }, "Log in");
  const form = h("form", {}, token, wrong, button);
  form.addEventListener("submit", async (ev) => {
    ev.preventDefault();
    button.disabled = true;
    try {
      await api("POST", "/session", { token: token.value.trim() });
      token.value = "";
      await start();
    } catch (e) {
      wrong.textContent = e.status === 401 ? "This token is not valid here." : `Log in: ${e.message}.`;
      wrong.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
  main.replaceChildren(h("div", { class: "panel login" },
    h("h1", {}, h("img", { src: "/ui/icon.svg", alt: "", width: "24", height: "24" }), "Holdfast"),
    h("p", { class: "hint" }, "Log in with an API token. The first one was written by the portal to ", h("code", {}, "admin.token"), " in its state directory."),
    form));
  token.focus();
}

async function start() {
  try {
    session = await api("GET", "/session");
  } catch (e) {
    if (e.status === 401) login();
    else {
      login(`The portal cannot be reached: ${e.message}.`);
      setTimeout(() => { if (!session) start(); }, 3000);
    }
    return;
  }
  setCsrf(session.csrf);
  learnTime(session.time);
  document.getElementById("top").hidden = false;
  document.getElementById("me").textContent = `${session.name} (${session.role})`;
  shown = "";
  route();
  listen();
}

document.getElementById("logout").addEventListener("click", async () => {
  try {
    await api("DELETE", "/session");
  } finally {
    login();
  }
});
addEventListener("hashchange", route);
setInterval(() => view?.refresh?.(), 15000);
start();
