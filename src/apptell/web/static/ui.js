// Elements, formats and requests that every page uses. Text from data only ever becomes a text node.
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || (value === false && !key.startsWith("aria-"))) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : String(value));
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return element;
}

export function s(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

export const $ = (id) => document.getElementById(id);
export const fill = (element, ...children) => element.replaceChildren(...children.flat(3));

// As `fill`, for what is drawn again every second: an element that stays is changed in place, so that a press, the focus, a selection and the
// place of a screen reader stay with it. Elements are told apart by data-key, without one by their place. One that stays keeps its first
// listeners, so these must depend on its key or place only.
export function refresh(element, ...children) {
  const focused = document.activeElement;
  arrange(element, children.flat(3).filter((each) => each !== null && each !== undefined));
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}
function arrange(element, children) {
  const keyed = new Map([...element.children].filter((each) => "key" in each.dataset).map((each) => [each.dataset.key, each]));
  let place = element.firstChild;
  for (const child of children) {
    const next = child instanceof Node ? child : document.createTextNode(child);
    const key = next.dataset?.key;
    const old = key === undefined ? place : keyed.get(key);
    keyed.delete(key);
    if (old && old.nodeName === next.nodeName && old.dataset?.key === key) {
      if (old === place) place = place.nextSibling; else element.insertBefore(old, place);
      change(old, next);
    } else element.insertBefore(next, place);
  }
  while (place) { const gone = place; place = place.nextSibling; gone.remove(); }
}
function change(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) { old.nodeValue = next.nodeValue; return; }
  for (const name of old.getAttributeNames()) if (!next.hasAttribute(name)) old.removeAttribute(name);
  for (const name of next.getAttributeNames()) {
    if (name === "style") old.style.cssText = next.style.cssText; // the attribute itself is forbidden by the page's policy
    else if (old.getAttribute(name) !== next.getAttribute(name)) old.setAttribute(name, next.getAttribute(name));
  }
  arrange(old, [...next.childNodes]);
}

const whole = new Intl.NumberFormat("en-GB");
export const count = (n) => whole.format(n);
export function short(n) {
  for (const [limit, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (n >= limit) return `${(n / (limit === 1e4 ? 1e3 : limit)).toPrecision(3)} ${unit}`;
  }
  return whole.format(n);
}
export function bytes(n) {
  for (const [limit, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (n >= limit) {
      const value = n / limit;
      return `${value >= 100 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    }
  }
  return `${Math.round(n)} B`;
}
export const bits = (n) => bytes(n).replace("B", "bit/s");
export const percent = (share) => `${(share * 100).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;

const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
const shortDay = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
const isTime = (text) => !Number.isNaN(new Date(text).getTime());
export const moment = (text) => { if (!isTime(text)) return String(text); const date = new Date(text); return `${shortDay.format(date)} ${clock.format(date)}`; };
export const fullMoment = (text) => { if (!isTime(text)) return String(text); const date = new Date(text); return `${day.format(date)} ${clock.format(date)}`; };
export function duration(ms) {
  if (ms < 1000) return `${Math.max(Math.round(ms), 0)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}
export const lasted = (record) => new Date(record.end_time) - new Date(record.time);
export const sum = (record, what) => record[`${what}_to_server`] + record[`${what}_to_client`];

export async function ask(path, parameters, options = {}) {
  const query = parameters && `${parameters}` ? `?${parameters}` : "";
  const answer = await fetch(`${path}${query}`, { headers: { Accept: "application/json" }, ...options });
  if (answer.status === 401) { location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`; }
  let found;
  try { found = await answer.json(); } catch { found = { error: `the server answered ${answer.status}` }; }
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

export function say(fault, id = "fault") {
  const element = $(id);
  element.hidden = !fault;
  element.textContent = fault ? fault.message || String(fault) : "";
}

export const EVIDENCE = {
  name: "Server name", dns: "DNS answer", address: "Address", range: "Address range", model: "Model",
  context: "Context",
};
export const NOBODY = {
  app: "Not named", category: "No category", client: "No client", server: "No server", service: "No service",
  evidence: "No evidence", model: "No model", outcome: "No outcome", protocol: "No protocol",
};
export const GROUPINGS = {
  app: "App", category: "Category", client: "Client", server: "Server", service: "Service",
  evidence: "Evidence", model: "Model", outcome: "Outcome", protocol: "Protocol",
};
export function named(by, key, label) {
  if (key === null || key === undefined || key === "") return NOBODY[by] || "None";
  if (by === "app" && key === "other") return "Background";
  if (label) return label;
  if (by === "evidence") return EVIDENCE[key] || key;
  if (by === "category" || by === "outcome") return key.charAt(0).toUpperCase() + key.slice(1);
  if (by === "protocol") return key.toUpperCase();
  return key;
}

export const serverOf = (r) => r.server_name || r.http_host || r.dns_name || r.server_address;
export const appOf = (r) => r.app_name || r.app || r.service || null;
export function outcomeTag(record) {
  if (record.outcome === "named") return null;
  const kind = record.outcome === "overloaded" ? "bad" : record.outcome === "shared service" ? "" : "warn";
  return h("span", { class: `tag ${kind}` }, record.outcome);
}
export function tile(title, value, note) {
  return h("div", {}, h("dt", {}, title), h("dd", {}, value), note ? h("dd", { class: "note" }, note) : null);
}
export function flowLink(record, base = "/flow") {
  const query = new URLSearchParams({ community_id: record.community_id || "", connection_id: record.connection_id, part: record.part });
  return `${base}${base.includes("?") ? "&" : "?"}${query}`;
}
export function track(share, colour = "c0") {
  const inner = h("div", { class: `fill ${colour}` });
  inner.style.width = `${Math.min(Math.max(share, 0), 1) * 100}%`;
  return h("div", { class: "track" }, inner);
}
