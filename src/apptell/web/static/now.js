// Live view: draws what the server sends each second. A click on an app or a client filters the whole page.
import { h, $, fill, refresh, say, short, count, bytes, bits, percent, named, tile, track, GROUPINGS } from "./ui.js";
import { stackedChart, colourOf } from "./charts.js";
import { flowTable } from "./flow-table.js";

const NARROWED = ["client", "app", "category", "service", "outcome"];
let state = new URLSearchParams(location.search);
let stream = null;
const colours = new Map(), former = new Map();
const N_COLOURS = 10;
const MEASURES = { bytes: "Bytes", flows: "Flows" };
let last = null;
const measure = () => (state.get("measure") === "flows" ? "flows" : "bytes");
const chart = stackedChart($("chart"), { format: (value) => (measure() === "bytes" ? bytes(value) : short(value)), height: 280,
  words: "Traffic of each app over the last five minutes; the table of apps has the sums" });

// Each app of the chart has a colour of its own, keeps it while it is there, and gets it back if it is free.
function recolour(keys) {
  for (const key of [...colours.keys()]) if (!keys.includes(key)) colours.delete(key);
  const used = new Set(colours.values());
  for (const key of keys) {
    if (!key || colours.has(key)) continue;
    const free = [former.get(key), ...Array.from({ length: N_COLOURS }, (_, i) => `c${i}`)].filter((each) => each && !used.has(each));
    if (!free.length) continue;
    const own = free.find((each) => each === former.get(key) || ![...former.values()].includes(each)) || free[0];
    colours.set(key, own);
    former.set(key, own);
    used.add(own);
  }
}
const colour = (key) => (key ? colours.get(key) || "c-rest" : "c-none");
function narrow(name, key) {
  if (state.get(name) === key) state.delete(name); else state.set(name, key);
  history.pushState(null, "", state.size ? `?${state}` : location.pathname);
  connect();
}
function measures() {
  $("chart-title").textContent = `${MEASURES[measure()]} by app, the last five minutes`;
  fill($("measures"), Object.entries(MEASURES).map(([name, title]) => h("button", { type: "button", "aria-pressed": measure() === name, onclick: () => {
    if (name === "bytes") state.delete("measure"); else state.set("measure", name);
    history.pushState(null, "", state.size ? `?${state}` : location.pathname);
    measures();
    if (last) show(last);
    [...$("measures").children].find((each) => each.getAttribute("aria-pressed") === "true").focus();
  } }, title)));
}
function chips() {
  const shown = NARROWED.filter((name) => state.has(name)).map((name) => {
    const text = `${GROUPINGS[name]}: ${named(name, state.get(name))}`;
    return h("li", {}, h("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => narrow(name, state.get(name)) },
      text, h("span", { class: "cross", "aria-hidden": "true" }, "×")));
  });
  fill($("filters"), shown);
}
function table(name, rows, all) {
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, GROUPINGS[name]), h("th", { scope: "col", class: "share" }, "Share of bytes"), h("th", { scope: "col", class: "num" }, "Bytes"), h("th", { scope: "col", class: "num" }, "Flows")));
  refresh($(`top-${name}`), head, h("tbody", {}, rows.length ? rows.map((row) => h("tr", { "data-key": row.key ?? "" },
    h("td", {}, h("button", { class: "pick", type: "button", "aria-pressed": state.get(name) === row.key, onclick: () => narrow(name, row.key) },
      h("span", { class: `dot ${name === "app" ? colour(row.key) : "c0"}` }), named(name, row.key, row.label !== row.key ? row.label : null))),
    h("td", { class: "share" }, track(row.bytes / Math.max(all, 1), name === "app" ? colour(row.key) : "c0")),
    h("td", { class: "num" }, bytes(row.bytes)), h("td", { class: "num" }, count(row.flows))))
    : h("tr", {}, h("td", { colspan: "4", class: "soft" }, "Nothing in the last five minutes"))));
}
const seconds = (value) => (value === null ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : `${value} s`);

// Nothing moves under a pointer that is pressed.
let isPressed = false;
addEventListener("pointerdown", (event) => { isPressed = event.button === 0; });
for (const name of ["pointerup", "pointercancel", "contextmenu", "blur"]) addEventListener(name, () => { isPressed = false; });

function show(found) {
  last = found;
  const counts = found.counts;
  $("state").textContent = { reading: "live", ended: "the source has ended", starting: "starting", waiting: "waiting for apptell live" }[counts.state];
  $("state").className = `tag ${counts.state === "reading" ? "good" : "warn"}`;
  $("source").textContent = counts.source;
  say(counts.fault || null);
  const drift = counts.drift;
  $("drift").hidden = !drift?.alarms.length;
  if (drift?.alarms.length) $("drift").textContent = `Drift: the model no longer knows ${drift.alarms.map((each) => `${each.app} (disagreement up by ${percent(each.rise)})`).join(", ")} as on held-out flows.`;
  const only = (tiles) => (counts.has_counters ? tiles : []);
  refresh($("tiles"),
    only(tile("Traffic", bits(counts.bytes_per_s * 8), `${short(Math.round(counts.packets_per_s))} packets a second`)),
    tile("Last five minutes", bytes(found.bytes), `${count(found.flows)} ${found.flows === 1 ? "flow" : "flows"}`),
    tile("Named", found.flows ? percent(found.named / found.flows) : "–", `${count(found.background)} background, ${count(found.flows - found.named - found.background)} without an app`),
    only([tile("Open flows", count(counts.open_flows), `${count(counts.waiting_flows)} wait for the model`),
    tile("Decision delay", seconds(counts.delay_p50_s), `99 % within ${seconds(counts.delay_p99_s)}`),
    tile("Dropped packets", count(counts.kernel_drops), `${count(counts.overloaded)} flows without time, ${count(counts.evicted)} evicted`)]),
    drift ? tile("Drift", drift.alarms.length ? `${count(drift.alarms.length)} ${drift.alarms.length === 1 ? "app" : "apps"}` : "no alarm", `${count(drift.apps)} apps, newest ${count(drift.flows)} flows of the model`) : []);
  recolour(found.series.map((each) => each.key));
  const times = Array.from({ length: found.n_steps }, (_, i) => found.start_s + i * found.step_s);
  const series = found.series.map((each) => ({ key: each.key, name: named("app", each.key, each.label), colour: colour(each.key), values: each[measure()] }));
  if (found.rest.some(Boolean)) series.push({ key: "", isRest: true, name: "All others", colour: colourOf(0, "", true), values: measure() === "bytes" ? found.rest : found.rest_flows });
  chart.show({ times, step: found.step_s, series: series.length ? series : [{ key: "", name: "Nothing", colour: "c-none", values: times.map(() => 0) }] });
  refresh($("legend"), series.map((each) => h("li", { "data-key": each.isRest ? "rest" : `app ${each.key}` }, each.isRest ? h("span", { class: "plain" }, h("span", { class: `dot ${each.colour}` }), each.name)
    : h("button", { type: "button", onclick: () => narrow("app", each.key) }, h("span", { class: `dot ${each.colour}` }), h("span", { class: "name" }, each.name)))));
  for (const name of NARROWED) table(name, found.top[name], found.bytes);
  flowTable($("latest"), found.latest, { put: refresh });
}

function connect() {
  chips();
  measures();
  stream?.close();
  const asked = new URLSearchParams([...state].filter(([name]) => NARROWED.includes(name)));
  stream = new EventSource(`/api/now/stream?${asked}`);
  stream.onmessage = (event) => { if (!isPressed) show(JSON.parse(event.data)); };
  stream.onerror = () => { $("state").textContent = "connecting again"; $("state").className = "tag warn"; };
}
addEventListener("popstate", () => { state = new URLSearchParams(location.search); connect(); });
addEventListener("pagehide", () => stream?.close());
connect();
