// SPDX-License-Identifier: Apache-2.0
// The list of endpoints: figures that filter, a table that stays live, approval, enrolment.

import { api, ask, copyText, dialog, duration, h, notice, shape, until, when, words } from "./lib.js";

const FIGURES = [
  ["online", "Online", ["online"]],
  ["reconnecting", "Reconnecting or stale", ["reconnecting", "stale", "updating"]],
  ["offline", "Offline", ["offline", "powered_off", "missing"]],
  ["pending", "Waiting for approval", ["pending"]],
];
const STATUSES = ["online", "stale", "reconnecting", "offline", "powered_off", "missing", "pending", "never_connected", "updating", "suspended", "revoked"];
const PAGE = 100;
const RANK = { none: 0, viewer: 1, operator: 2, admin: 3 };

const filters = () => new URLSearchParams(location.hash.split("?")[1] ?? "");

function setFilter(key, value) {
  const f = filters();
  if (value) f.set(key, value);
  else f.delete(key);
  const q = f.toString();
  location.hash = `#/endpoints${q ? `?${q}` : ""}`;
}

export function statusCell(e) {
  return [
    h("span", { class: `status s-${e.status}` }, shape(e.status), words(e.status)),
    h("span", { class: "reason" }, e.reason_text, " · since ", when(e.since)),
  ];
}

function outageCell(e) {
  const o = e.last_outage;
  if (!o) return h("span", { class: "hint" }, "none recorded");
  return [
    h("span", { title: o.cause_text }, words(o.cause)),
    h("span", { class: "sub" }, o.restored ? ` ${duration(o.outage_ms)}, ` : " not restored, ", when(o.began),
      o.detected_by ? `, seen by ${o.detected_by} in ${duration(o.detect_ms)}` : ""),
  ];
}

export class EndpointsView {
  constructor(main, session) {
    this.main = main;
    this.session = session;
    this.rows = new Map();
    this.generation = 0;
    this.figures = h("div", { class: "figures", role: "group", "aria-label": "Filter by status" });
    this.error = h("div");
    this.body = h("tbody");
    this.foot = h("div", { class: "foot", hidden: true });
    this.table = h("div", { class: "panel" },
      h("div", { class: "scroll" },
        h("table", {},
          h("thead", {}, h("tr", {}, ["Status", "Name", "Authorized", "Last seen", "Version", "Last outage", ""].map((t) => h("th", { scope: "col" }, t)))),
          this.body)),
      this.foot);
    this.empty = h("div", { class: "panel empty", hidden: true });
    this.search = h("input", { type: "search", placeholder: "Name, host, version, group or id", "aria-label": "Search" });
    this.status = h("select", { "aria-label": "Status" }, h("option", { value: "" }, "Any status"), STATUSES.map((s) => h("option", { value: s }, words(s))));
    this.authorized = h("select", { "aria-label": "Authorization" }, h("option", { value: "" }, "Any authorization"),
      ["authorized", "pending", "suspended", "revoked"].map((s) => h("option", { value: s }, s)));
    this.search.addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => setFilter("q", this.search.value.trim()), 250);
    });
    this.status.addEventListener("change", () => setFilter("status", this.status.value));
    this.authorized.addEventListener("change", () => setFilter("authorized", this.authorized.value));
    const tools = h("div", { class: "tools" }, this.search, this.status, this.authorized,
      this.may("operator") && h("button", { type: "button", class: "primary push", onclick: () => this.askToken() }, "Enrol a host"));
    main.replaceChildren(h("h1", {}, "Endpoints"), this.figures, tools, this.error, this.table, this.empty);
  }

  may(role) {
    return RANK[this.session.role] >= RANK[role];
  }

  // The address changed or the stream came back: everything anew.
  async show() {
    const f = filters();
    const generation = ++this.generation;
    if (document.activeElement !== this.search) this.search.value = f.get("q") ?? "";
    this.status.value = f.get("status") ?? "";
    if (this.status.selectedIndex < 0) this.status.value = ""; // several at once: the figure shows it
    this.authorized.value = f.get("authorized") ?? "";
    if (this.rows.size === 0) this.skeleton();
    await Promise.all([this.loadFigures(), this.load(generation, null)]);
  }

  skeleton() {
    this.empty.hidden = true;
    this.table.hidden = false;
    this.body.replaceChildren(...[1, 2, 3].map(() => h("tr", { class: "skeleton", "aria-hidden": "true" }, Array.from({ length: 7 }, () => h("td", {}, h("span"))))));
  }

  async loadFigures() {
    let fleet;
    try {
      fleet = await api("GET", "/fleet");
    } catch {
      return; // the list's own error tells
    }
    const active = filters().get("status");
    this.total = fleet.endpoints;
    this.figures.replaceChildren(...FIGURES.map(([status, title, of]) => h("button", {
      type: "button",
      class: "figure",
      "aria-pressed": String(active === of.join(",")),
      onclick: () => setFilter("status", active === of.join(",") ? "" : of.join(",")),
    }, h("b", {}, String(of.reduce((n, s) => n + (fleet.by_status[s] ?? 0), 0))), h("span", { class: `s-${status}` }, shape(status), h("span", {}, title)))));
  }

  async load(generation, after) {
    const f = filters();
    f.set("limit", PAGE);
    if (after) f.set("after", after);
    let page;
    try {
      page = await api("GET", `/endpoints?${f}`);
    } catch (e) {
      if (generation === this.generation) this.fail(e);
      return;
    }
    if (generation !== this.generation) return;
    this.error.replaceChildren();
    if (!after) {
      this.rows.clear();
      this.body.replaceChildren();
    }
    for (const e of page.items) this.put(e, false);
    this.next = page.next;
    this.after();
  }

  fail(e) {
    if (this.rows.size === 0) this.body.replaceChildren();
    this.error.replaceChildren(h("div", { class: "error", role: "alert" }, `The list could not be loaded: ${e.message}.`,
      h("button", { type: "button", onclick: () => this.show() }, "Try again")));
  }

  // What no event tells (last seen of quiet hosts) is fetched again while somebody looks.
  async refresh() {
    const generation = this.generation;
    if (document.hidden || this.rows.size === 0) return;
    const f = filters();
    f.set("limit", Math.min(this.rows.size, 1000));
    let page;
    try {
      page = await api("GET", `/endpoints?${f}`);
    } catch {
      return; // the live mark tells
    }
    if (generation !== this.generation) return;
    for (const e of page.items) {
      if (this.rows.has(e.id)) this.put(e, false);
    }
  }

  // After every change of what is in the table.
  after() {
    const none = this.rows.size === 0;
    this.table.hidden = none;
    this.empty.hidden = !none;
    if (none) this.fillEmpty();
    this.foot.hidden = none;
    this.foot.replaceChildren(`${this.rows.size}${this.next ? " shown, there are more" : this.rows.size === 1 ? " endpoint" : " endpoints"}`,
      ...(this.next ? [h("button", { type: "button", onclick: () => this.load(this.generation, this.next) }, "Show more")] : []));
  }

  fillEmpty() {
    const filtered = [...filters().keys()].length > 0;
    if (filtered) {
      this.empty.replaceChildren(h("h2", {}, "No endpoint matches"), h("p", {}, "Nothing fits the filter. ", h("a", { href: "#/endpoints" }, "Show all endpoints")));
      return;
    }
    this.empty.replaceChildren(
      h("h2", {}, "No endpoints yet"),
      h("ol", {},
        h("li", {}, "Install the Holdfast package on the host."),
        h("li", {}, "Make an enrolment token and run the command it shows, as root, on the host."),
        h("li", {}, "The host appears here within a second. Unless the token approves by itself, press Authorize.")),
      this.may("operator") ? h("button", { type: "button", class: "primary", onclick: () => this.askToken() }, "Make an enrolment token")
        : h("p", { class: "hint" }, "Making a token needs the role operator."));
  }

  matches(e) {
    const f = filters();
    const q = (f.get("q") ?? "").toLowerCase();
    if (f.get("status") && !f.get("status").split(",").includes(e.status)) return false;
    if (f.get("authorized") && e.authorization !== f.get("authorized")) return false;
    return !q || [e.name, e.hostname, e.id, e.version, e.distro, e.group].some((t) => t && t.toLowerCase().includes(q));
  }

  // One endpoint changed (event stream).
  update(e) {
    const known = this.rows.has(e.id);
    clearTimeout(this.figuresTimer);
    this.figuresTimer = setTimeout(() => this.loadFigures(), 200);
    if (this.matches(e)) {
      // An unknown one belongs behind what is shown when there is more to show.
      if (known || !this.next) this.put(e, true);
    } else if (known) {
      this.rows.get(e.id).remove();
      this.rows.delete(e.id);
    }
    this.after();
  }

  put(e, changed) {
    const old = this.rows.get(e.id);
    const row = h("tr", { class: changed && old && old.dataset.status !== e.status ? "changed" : "" },
      h("td", { class: "state" }, statusCell(e)),
      h("td", { class: "name" }, h("b", {}, e.name ?? e.id), h("span", { class: "sub" }, [e.distro ?? e.os, e.kernel, e.arch].filter(Boolean).join(", "))),
      h("td", { class: "auth" }, h("span", { class: `badge b-${e.authorization}`, title: e.authorization_by ? `by ${e.authorization_by}` : "" }, e.authorization)),
      h("td", { class: "seen", "data-label": "Last seen" }, when(e.last_seen)),
      h("td", { class: "version", "data-label": "Version" }, e.version ?? "–", h("span", { class: "sub" }, e.kernel_assist ? ` kernel ${e.kernel_assist}` : "")),
      h("td", { class: "outage", "data-label": "Last outage" }, outageCell(e)),
      h("td", { class: "acts" }, this.buttons(e)));
    row.dataset.status = e.status;
    row.dataset.name = (e.name ?? "").toLowerCase();
    this.rows.set(e.id, row);
    if (old && old.dataset.name === row.dataset.name) {
      // A focused button must not vanish under the finger.
      const focused = old.contains(document.activeElement) ? [...old.querySelectorAll("button")].indexOf(document.activeElement) : -1;
      old.replaceWith(row);
      if (focused >= 0) row.querySelectorAll("button")[focused]?.focus();
      return;
    }
    old?.remove();
    if (!changed) {
      this.body.append(row);
      return;
    }
    const behind = [...this.body.children].find((r) => r.dataset.name > row.dataset.name);
    this.body.insertBefore(row, behind ?? null);
  }

  buttons(e) {
    if (!this.may("operator")) return [];
    const b = (verb, label, cls) => h("button", { type: "button", class: cls, "aria-label": `${label} ${e.name ?? e.id}`, onclick: (ev) => this.act(e, verb, ev.target) }, label);
    switch (e.authorization) {
      case "pending": return [b("authorize", "Authorize", "primary"), " ", this.may("admin") && b("revoke", "Revoke", "quiet")];
      case "authorized": return [b("suspend", "Suspend", "quiet")];
      case "suspended": return [b("authorize", "Authorize", ""), " ", this.may("admin") && b("revoke", "Revoke", "quiet")];
      default: return [];
    }
  }

  async act(e, verb, button) {
    const questions = {
      suspend: [`Suspend ${e.name}?`, "It keeps its connection, but no telemetry is taken from it and no action reaches it. Authorize undoes it.", "Suspend"],
      revoke: [`Revoke ${e.name} for good?`, "Its connection is closed and its certificate refused. The host must be enrolled again to come back.", "Revoke"],
    };
    if (questions[verb] && !(await ask(...questions[verb]))) return;
    button.disabled = true;
    try {
      this.update(await api("POST", `/endpoints/${e.id}/${verb}`));
    } catch (err) {
      button.disabled = false;
      notice(`${words(verb)} ${e.name}: ${err.message}`);
    }
  }

  // ---- enrolment

  askToken() {
    const name = h("input", { maxlength: "63", placeholder: "for example: web servers" });
    const hours = h("select", {}, [["1", "1 hour"], ["24", "24 hours"], ["168", "7 days"]].map(([v, t]) => h("option", { value: v }, t)));
    const uses = h("input", { type: "number", min: "1", max: "1000000", placeholder: "any number" });
    const pre = h("input", { type: "checkbox" });
    hours.value = "24";
    const form = h("form", { method: "dialog" },
      h("h2", {}, "Enrol a host"),
      h("label", {}, "Name of the token", name),
      h("div", { class: "pair" }, h("label", {}, "Valid for", hours), h("label", {}, "Uses", uses)),
      h("label", { class: "check" }, pre, h("span", {}, "Authorize hosts that enrol with it without asking")),
      h("div", { class: "row" }, h("button", { type: "button", onclick: () => d.close() }, "Cancel"), h("button", { class: "primary" }, "Make the token")));
    const d = dialog(form);
    form.addEventListener("submit", async (ev) => {
      ev.preventDefault();
      try {
        const t = await api("POST", "/tokens", { name: name.value, ttl_s: Number(hours.value) * 3600, max_uses: Number(uses.value) || 0, pre_authorize: pre.checked });
        const about = await api("GET", "/about");
        this.showToken(d, t, about.public_url);
      } catch (e) {
        notice(`The token could not be made: ${e.message}`);
      }
    });
  }

  showToken(d, t, url) {
    const command = `holdfast enroll --portal ${url} --token ${t.token}`;
    const copy = h("button", { type: "button" }, "Copy");
    copy.addEventListener("click", () => copyText(command, copy));
    d.replaceChildren(
      h("h2", {}, "Run this on the host, as root"),
      h("div", { class: "copy" }, h("code", {}, command), copy),
      h("p", {}, t.max_uses ? `Good for ${t.max_uses} ${t.max_uses === 1 ? "host" : "hosts"}, ` : "Good for any number of hosts, ",
        `ends ${until(t.expires_at)} (${new Date(t.expires_at).toLocaleString()}). It is shown only now.`),
      h("p", { class: "hint" }, t.pre_authorize ? "Hosts that use it are authorized at once." : "Hosts that use it wait here for your approval."),
      h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: () => d.close() }, "Done")));
  }
}
