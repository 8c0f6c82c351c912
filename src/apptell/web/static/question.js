// Range, filters, chart, groups and table of flows: the whole state is in the address of the page.
import { h, $, fill, ask, say, count, short, bytes, percent, fullMoment, named, tile, track, GROUPINGS } from "./ui.js";
import { stackedChart, colourOf } from "./charts.js";
import { flowTable } from "./flow-table.js";

const RANGES = { "1h": "1 h", "24h": "24 h", "7d": "7 days", "30d": "30 days", all: "All" };
const MEASURES = { bytes: "Bytes", flows: "Flows" };
const PAGE = 50;
const TOP = 12;

export function questionPage({ api, flowBase, fallback, hasRanges = true, empty }) {
  let state = new URLSearchParams(location.search);
  let turn = 0, isWide = false;
  const chart = stackedChart($("chart"), { bars: true, format: (v) => (measure() === "bytes" ? bytes(v) : short(v)), onzoom: zoom,
    words: "Traffic over time, stacked by group; the table below has the sums" });
  const measure = () => (state.get("measure") === "flows" ? "flows" : "bytes");
  const by = () => (state.get("by") in GROUPINGS ? state.get("by") : "app");
  const range = () => (state.get("from") || state.get("to") ? "" : state.get("last") || fallback());

  function query(more = {}) {
    const asked = new URLSearchParams();
    for (const [name, value] of state) if (name in GROUPINGS || ["q", "from", "to"].includes(name)) asked.append(name, value);
    if (hasRanges && range() && range() !== "all") asked.set("last", range());
    for (const [name, value] of Object.entries(more)) asked.set(name, value);
    return asked;
  }
  function go(change, { keepsPage = false } = {}) {
    change(state);
    if (!keepsPage) state.delete("offset");
    history.pushState(null, "", `?${state}`);
    load();
  }
  const iso = (seconds) => new Date(Math.round(seconds) * 1000).toISOString().replace(".000Z", "Z");
  function zoom(from, to) {
    go((next) => { next.delete("last"); next.set("from", iso(from)); next.set("to", iso(Math.max(to, from + 1))); });
  }
  function toggle(name, key) {
    go((next) => {
      const value = key ?? "", before = next.getAll(name);
      next.delete(name);
      for (const each of before) if (each !== value) next.append(name, each);
      if (!before.includes(value)) next.append(name, value);
    });
  }
  const only = (name, key) => go((next) => { next.delete(name); next.append(name, key ?? ""); });

  function tools() {
    if (hasRanges) {
      fill($("ranges"), Object.entries(RANGES).map(([name, title]) => h("button", { type: "button", "aria-pressed": range() === name,
        onclick: () => go((next) => { next.delete("from"); next.delete("to"); next.set("last", name); }) }, title)));
      const isCustom = Boolean(state.get("from") || state.get("to"));
      $("custom").classList.toggle("is-on", isCustom);
      for (const name of ["from", "to"]) $("custom-form").elements[name].value = (state.get(name) || "").replace(/Z$/, "").slice(0, 19);
    } else {
      $("ranges").hidden = true;
      $("custom").hidden = true;
    }
    fill($("by"), Object.entries(GROUPINGS).map(([name, title]) => h("option", { value: name }, title)));
    $("by").value = by();
    fill($("measures"), Object.entries(MEASURES).map(([name, title]) => h("button", { type: "button", "aria-pressed": measure() === name,
      onclick: () => go((next) => next.set("measure", name), { keepsPage: true }) }, title)));
    $("search").elements.q.value = state.get("q") || "";
    const chips = [];
    for (const [name, value] of state) {
      if (!(name in GROUPINGS)) continue;
      const text = `${GROUPINGS[name]}: ${named(name, value)}`;
      chips.push(h("li", {}, h("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => toggle(name, value) },
        text, h("span", { class: "cross", "aria-hidden": "true" }, "×"))));
    }
    if (state.get("from") || state.get("to")) {
      const text = `${state.get("from") ? fullMoment(state.get("from")) : "…"} – ${state.get("to") ? fullMoment(state.get("to")) : "now"}`;
      chips.push(h("li", {}, h("button", { type: "button", "aria-label": `Remove the time ${text}`, onclick: () => go((next) => { next.delete("from"); next.delete("to"); }) },
        text, h("span", { class: "cross", "aria-hidden": "true" }, "×"))));
    }
    fill($("filters"), chips);
  }

  function overview(found) {
    const total = found.total;
    const nobody = found.groups.some((group) => group.key === null) ? 1 : 0; // counted by the server, and no group
    fill($("tiles"),
      tile("Flows", short(total.flows), `${short(total.packets)} packets`),
      tile("Bytes", bytes(total.bytes), `${bytes(total.bytes_to_server)} sent, ${bytes(total.bytes_to_client)} received`),
      tile("Named", total.flows ? percent(total.named / total.flows) : "–", `${short(total.named)} flows with an app`),
      tile(`${GROUPINGS[by()]} groups`, short(found.n_groups - nobody), found.n_groups > found.groups.length ? `the first ${count(found.groups.length)} are listed` : "all are listed"));
    const series = found.series.filter((each) => each.bytes.some(Boolean) || each.flows.some(Boolean)).map((each) => {
      const i = found.series.indexOf(each);
      return { key: each.key, isRest: each.is_rest, name: each.is_rest ? "All others" : named(by(), each.key, each.label),
        colour: colourOf(i, each.key, each.is_rest), values: each[measure()] };
    });
    chart.show({ times: found.times, step: found.step_s, series });
    fill($("legend"), series.map((each) => h("li", {}, each.isRest
      ? h("span", { class: "plain" }, h("span", { class: `dot ${each.colour}` }), each.name)
      : h("button", { type: "button", onclick: () => only(by(), each.key) },
        h("span", { class: `dot ${each.colour}` }), h("span", { class: "name" }, each.name)))));
    $("groups-title").textContent = `By ${GROUPINGS[by()].toLowerCase()}`;
    const all = Math.max(total[measure()], 1);
    const ordered = [...found.groups].sort((a, b) => b[measure()] - a[measure()]);
    const listed = isWide ? ordered : ordered.slice(0, TOP);
    const colours = new Map(found.series.flatMap((each, i) => (each.is_rest ? [] : [[each.key, colourOf(i, each.key, false)]])));
    fill($("groups"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, GROUPINGS[by()]), h("th", { scope: "col", class: "share" }, h("span", {}, `Share of ${measure()}`)),
        h("th", { scope: "col", class: "num" }, "Bytes"), h("th", { scope: "col", class: "num" }, "Flows"), h("th", { scope: "col", class: "num less" }, "Named"))),
      h("tbody", {}, listed.map((group) => {
        const colour = colours.get(group.key) || "c-rest";
        return h("tr", {},
          h("td", {}, h("button", { class: "pick", type: "button", onclick: () => only(by(), group.key) },
            h("span", { class: `dot ${colour}` }), named(by(), group.key, group.label))),
          h("td", { class: "share" }, track(group[measure()] / all, colour)),
          h("td", { class: "num" }, bytes(group.bytes)), h("td", { class: "num" }, count(group.flows)),
          h("td", { class: "num less" }, percent(group.flows ? group.named / group.flows : 0)));
      })));
    $("more-groups").hidden = ordered.length <= TOP;
    $("more-groups").textContent = isWide ? "Show fewer" : `Show all ${count(ordered.length)}`;
  }

  function flows(found) {
    const sort = state.get("sort") || "time", order = state.get("order") || "desc";
    flowTable($("flows"), found.flows, { sort, order, base: flowBase,
      onsort: (name) => go((next) => { next.set("order", name === sort && order === "desc" ? "asc" : "desc"); next.set("sort", name); }) });
    $("flows-count").textContent = `${count(found.total)} ${found.total === 1 ? "flow" : "flows"}`;
    const first = found.offset + 1, last = found.offset + found.flows.length;
    $("where").textContent = found.flows.length ? `${count(first)} to ${count(last)}` : "";
    $("newer").disabled = found.offset === 0;
    $("older").disabled = last >= found.total;
    $("csv").href = `${api}/flows.csv?${query()}`;
    $("parquet").href = `${api}/flows.parquet?${query()}`;
    $("jsonl").href = `${api}/flows.jsonl?${query()}`;
  }

  async function load() {
    const own = ++turn;
    tools();
    document.body.classList.add("is-busy");
    document.body.setAttribute("aria-busy", "true");
    try {
      const offset = state.get("offset") || "0";
      const asked = query({ sort: state.get("sort") || "time", order: state.get("order") || "desc", offset, limit: PAGE });
      const [sums, table] = await Promise.all([ask(`${api}/overview`, query({ by: by() })), ask(`${api}/flows`, asked)]);
      if (own !== turn) return;
      say(null);
      const isEmpty = sums.total.flows === 0;
      $("results").hidden = isEmpty;
      $("nothing")?.remove();
      if (isEmpty) {
        chart.clear();
        $("question").append(h("div", { id: "nothing", class: "card empty" }, empty(state, () => go((next) => {
          for (const name of [...new Set(next.keys())]) if (name in GROUPINGS || ["q", "from", "to"].includes(name)) next.delete(name);
          next.set("last", "all");
        }))));
      } else { overview(sums); flows(table); }
    } catch (fault) {
      if (own === turn) say(fault);
    } finally {
      if (own === turn) { document.body.classList.remove("is-busy"); document.body.removeAttribute("aria-busy"); }
    }
  }

  $("by").addEventListener("change", () => go((next) => next.set("by", $("by").value)));
  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("search").elements.q.value.trim();
    go((next) => (text ? next.set("q", text) : next.delete("q")));
  });
  $("custom-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { from, to } = event.target.elements;
    go((next) => {
      next.delete("last");
      for (const each of [from, to]) {
        if (each.value) next.set(each.name, `${each.value}${each.value.length === 16 ? ":00" : ""}Z`);
        else next.delete(each.name);
      }
    });
    $("custom").open = false;
  });
  $("more-groups").addEventListener("click", () => { isWide = !isWide; load(); });
  const turnPage = (way) => go((next) => next.set("offset", Math.max(Number(next.get("offset") || 0) + way * PAGE, 0)), { keepsPage: true });
  $("newer").addEventListener("click", () => turnPage(-1));
  $("older").addEventListener("click", () => turnPage(1));
  addEventListener("popstate", () => { state = new URLSearchParams(location.search); load(); });
  load();
}
