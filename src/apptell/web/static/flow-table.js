// The table of flows that several pages show.
import { h, fill, moment, duration, lasted, bytes, percent, sum, serverOf, appOf, outcomeTag, flowLink, EVIDENCE } from "./ui.js";

const COLUMNS = [
  ["time", "Time", "when"], ["app", "App or service", ""], ["client", "Client", "less"], ["server", "Server", ""],
  [null, "Evidence", "less"], ["confidence", "Confidence", "num less"], ["bytes", "Bytes", "num"], ["duration", "Duration", "num less"],
];

export function flowTable(table, flows, { sort = null, order = "desc", onsort = null, base = "/flow", put = fill } = {}) {
  const head = COLUMNS.map(([name, title, kind]) => {
    const isSorted = sort && name === sort;
    const way = isSorted ? (order === "desc" ? " ↓" : " ↑") : "";
    return h("th", { scope: "col", class: kind, "aria-sort": isSorted ? (order === "desc" ? "descending" : "ascending") : undefined },
      onsort && name ? h("button", { type: "button", onclick: () => onsort(name) }, title, h("span", { class: "way", "aria-hidden": "true" }, way)) : title);
  });
  const rows = flows.map((r) => h("tr", { "data-key": `${r.connection_id} ${r.part}` },
    h("td", { class: "when" }, h("a", { href: flowLink(r, base) }, moment(r.time))),
    h("td", {}, appOf(r) || h("span", { class: "soft" }, "–"), h("span", { class: "sub" }, r.category || r.service_kind || "", " ", outcomeTag(r) || "")),
    h("td", { class: "less" }, r.client_address, h("span", { class: "sub" }, `${r.client_port}/${r.protocol}`)),
    h("td", {}, serverOf(r), h("span", { class: "sub" }, serverOf(r) === r.server_address ? `port ${r.server_port}` : `${r.server_address} port ${r.server_port}`)),
    h("td", { class: "evi less" }, r.evidence ? EVIDENCE[r.evidence] || r.evidence : h("span", { class: "soft" }, "none")),
    h("td", { class: "num less" }, r.confidence === null ? h("span", { class: "soft" }, "–") : percent(r.confidence)),
    h("td", { class: "num" }, bytes(sum(r, "bytes"))),
    h("td", { class: "num less" }, duration(lasted(r)))));
  put(table, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}
