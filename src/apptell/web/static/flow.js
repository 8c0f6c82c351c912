// The page of one flow: who, when, how much, what the verdict rests on, and the whole record.
import { h, s, $, fill, ask, say, bytes, count, percent, duration, lasted, fullMoment, sum, serverOf, appOf, outcomeTag, tile, track, EVIDENCE } from "./ui.js";
import { flowTable } from "./flow-table.js";
import { showReason } from "./reason.js";

const query = new URLSearchParams(location.search);
const upload = query.get("upload");
const api = upload ? `/api/uploads/${encodeURIComponent(upload)}` : "/api";
const base = upload ? `/flow?upload=${encodeURIComponent(upload)}` : "/flow";

function sentence(r) {
  const who = r.app ? r.app_name || r.app : r.service;
  const because = {
    name: r.server_name ? `the client asked for the server name ${r.server_name}` : `the client named the host ${r.http_host}`,
    dns: `the client had asked DNS for ${r.dns_name}, and the answer was this server's address`,
    address: `the same address was reached before under a name of ${who}`,
    range: `the server's address lies in a range that only ${who} uses`,
    model: `the model finds its packets most like those of ${who}`,
    context: `the model finds its packets like those of ${who}, and the client's other flows agree`,
  }[r.evidence];
  if (who && because) return `${who}, because ${because}.`;
  const guess = r.best_guess ? ` Its best guess is ${r.best_guess}.` : "";
  return {
    unknown: `The flow looks like none of the apps that the model learned.${guess}`,
    "below threshold": `The model's confidence is below the threshold.${guess}`,
    "unlearned transport": "The model never learned this transport protocol.",
    "shared service": "Its name belongs to a service that many apps use, so it names no app.",
    "unlisted name": "Its name is not in the catalogue.",
    "no evidence": "Nothing is known of this flow: no name, no DNS answer, no known address, and no model was asked.",
    overloaded: "There was no time to identify this flow.",
  }[r.outcome] || r.outcome;
}

function evidence(r) {
  const kinds = [
    ["name", r.server_name || r.http_host, r.server_name ? "in the client's first message" : "in the HTTP request"],
    ["dns", r.dns_name, "the client had asked for this name"],
    ["address", r.evidence === "address" ? r.server_address : null, "reached before under a name"],
    ["range", r.evidence === "range" ? r.server_address : null, "in a range of the app"],
    ["model", r.confidence === null ? null : `${r.best_guess}, ${percent(r.confidence)}`, r.model || ""],
    ["context", r.context_flows === null ? null : `${count(r.context_flows)} other flows`, "of the same client"],
  ];
  const last = kinds.findIndex(([kind]) => kind === r.evidence);
  return kinds.map(([kind, value, note], i) => {
    const decides = r.evidence === kind, isAsked = !["model", "context"].includes(kind) && (last < 0 || i < last);
    const state = decides ? "decides" : value ? "seen" : "";
    return h("li", { class: state }, h("span", { "aria-hidden": "true" }, decides ? "●" : value ? "◐" : "○"),
      h("span", { class: "label" }, EVIDENCE[kind]), h("span", { class: "value" }, value || (isAsked ? "not seen" : "not asked")),
      value ? h("span", { class: "note" }, decides ? `${note}; this decided` : note) : null);
  });
}

function traffic(end, verdict) {
  const rows = [["to server", "to-server", "to_server"], ["to client", "to-client", "to_client"]];
  const most = Math.max(end.bytes_to_server, end.bytes_to_client, 1);
  const width = 480, left = 74, wide = width - left - 10, tall = 40;
  const picture = s("svg", { viewBox: `0 0 ${width} ${tall * 2 + 26}`, role: "img", "aria-label":
    `${bytes(end.bytes_to_server)} to the server and ${bytes(end.bytes_to_client)} to the client` });
  rows.forEach(([title, kind, name], i) => {
    const n = end[`bytes_${name}`], early = verdict ? Math.min(verdict[`bytes_${name}`], n) : 0, y = i * tall + 4;
    picture.append(s("text", { x: 0, y: y + 17 }, title),
      s("rect", { x: left, y, width: Math.max((n / most) * wide, 1), height: 22, rx: 4, class: `${kind}${verdict ? " faint" : ""}` }));
    if (verdict) picture.append(s("rect", { x: left, y, width: Math.max((early / most) * wide, 1), height: 22, rx: 4, class: kind }));
    picture.append(s("text", { x: left, y: y + 35 }, `${bytes(n)} in ${count(end[`packets_${name}`])} packets`));
  });
  if (verdict) picture.append(s("text", { x: left, y: tall * 2 + 20 },
    `Dark: seen when the flow was decided, ${duration(lasted(verdict))} after its start.`));
  return picture;
}

function probabilities(r) {
  const rest = Math.max(1 - r.confidence - (r.runner_up_confidence || 0), 0);
  const rows = [[r.best_guess, r.confidence, "c0"], [r.runner_up, r.runner_up_confidence, "c1"], ["all others", rest, "c-rest"]];
  return [...rows.filter(([name, share]) => name && share !== null).map(([name, share, colour]) => h("div", { class: "bar-row" },
    h("span", { class: "name" }, name), track(share, colour), h("span", { class: "num" }, percent(share)))),
  h("p", { class: "soft" }, `Threshold ${r.threshold === null ? "none" : percent(r.threshold)}; `
    + `${r.model || "no model"}; after ${count(r.payload_packets_seen)} packets with payload.`
    + (r.p_unknown === null ? "" : ` ${percent(r.p_unknown)} of known flows look more familiar.`)
    + (r.stack === null ? "" : ` The model ${r.stack === "known" ? "knows" : "does not know"} this JA4.`))];
}

function neighbours(r) {
  const at = new Date(r.time).getTime();
  const asked = new URLSearchParams({ client: r.client_address, from: new Date(at - 60_000).toISOString(), to: new Date(at + 60_000).toISOString(), sort: "time", order: "asc", limit: "50" });
  return ask(`${api}/flows`, asked);
}

const asked = new URLSearchParams();
for (const name of ["community_id", "connection_id", "part"]) if (query.get(name)) asked.set(name, query.get(name));
try {
  const { records } = await ask(`${api}/flow`, asked);
  if (!records.length) throw new Error("There is no such flow in the records; it may have been deleted with its file.");
  const end = records.findLast((r) => r.event !== "verdict") || records.at(-1);
  const verdict = records.find((r) => r.event === "verdict" && r.connection_id === end.connection_id && r.part === end.part) || null;
  $("content").hidden = false;
  document.title = `${appOf(end) || "Flow"} – apptell`;
  fill($("who"), appOf(end) || "Not named", " ", outcomeTag(end) || "");
  $("between").textContent = `${end.client_address}:${end.client_port} → ${serverOf(end)}:${end.server_port} (${end.protocol.toUpperCase()})`;
  fill($("tiles"), tile("Start", fullMoment(end.time).split(" ").pop(), fullMoment(end.time).replace(/ [^ ]+$/, "")),
    tile("Duration", duration(lasted(end)), end.end_reason ? `ended: ${end.end_reason}` : "open"),
    tile("Bytes", bytes(sum(end, "bytes")), `${count(sum(end, "packets"))} packets`),
    tile("Confidence", end.confidence === null ? "–" : percent(end.confidence), end.confidence === null ? "no model was needed" : "of the model"),
    tile("Category", end.category || end.service_kind || "–", end.category ? "of the app" : end.service_kind ? "kind of service" : ""));
  $("why").textContent = sentence(end);
  fill($("evidence"), evidence(end));
  fill($("traffic"), traffic(end, verdict));
  if (end.confidence !== null) { $("model-card").hidden = false; fill($("probabilities"), probabilities(end)); }
  fill($("record"), Object.entries(end).filter(([, value]) => value !== null && value !== "").map(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
  if (matchMedia("(min-width: 860px)").matches) $("record").classList.add("columns");
  $("json").href = `${api}/flow?${asked}`;
  $("back").href = upload ? `/try?upload=${encodeURIComponent(upload)}` : `/history?client=${encodeURIComponent(end.client_address)}&last=all`;
  $("back").textContent = upload ? "The capture's flows" : `Flows of ${end.client_address}`;
  const near = await neighbours(end);
  flowTable($("near"), near.flows, { base });
  if (upload || (await ask("/api/status")).has_captures) {
    $("pcapng").href = `${api}/packets.pcapng?${asked}`;
    $("reason-state").textContent = "Reading the flow's packets once more …";
    try { showReason(await ask(`${api}/reason`, asked), end); } catch (fault) { $("reason-state").textContent = `There are no further reasons: ${fault.message}`; }
  }
} catch (fault) {
  $("between").textContent = "";
  say(fault);
}
