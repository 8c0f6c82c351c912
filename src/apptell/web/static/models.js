// The registry of models: versions, what each is, two side by side, and which one is in use.
import { h, $, fill, ask, say, count, percent, fullMoment } from "./ui.js";
import { confirmed, send } from "./confirm.js";
import { number, sideBySide } from "./sides.js";

const state = new URLSearchParams(location.search);
const HEADLINES = ["accuracy", "macro_f1", "coverage"];
const last = (key) => key.split(".").at(-1);
const isNumber = (value) => typeof value === "number";
const path = (model, version) => `/api/models/${[model, version].map(encodeURIComponent).join("/")}`;
let models = [];
let canChange = false;

function go(change) {
  change(state);
  history.pushState(null, "", state.size ? `?${state}` : location.pathname);
  draw();
}
function headline(row) {
  const keys = Object.keys(row.figures || {});
  const chosen = HEADLINES.map((name) => keys.find((key) => last(key).startsWith(name))).filter(Boolean).slice(0, 2);
  return chosen.map((key) => `${last(key).replaceAll("_", " ")} ${number(row.figures[key])}`).join(" · ") || "–";
}
async function changed(model, what, body, words) {
  await send(`${path(model.model, what)}`, { ...body, instead_of: model.current });
  await load();
  $("done").textContent = words;
  $("done").hidden = false;
}
const follows = "An apptell live that follows this registry uses it within seconds; flows that are already decided keep their app.";
function promote(model, version) {
  confirmed({
    title: `Promote version ${version} of ${model.model}?`,
    words: `${model.current === null ? "No version is in use now." : `It replaces version ${model.current}.`} ${follows}`,
    yes: `Promote version ${version}`,
    act: () => changed(model, "promote", { version }, `Version ${version} of ${model.model} is in use.`),
  });
}
function rollBack(model) {
  confirmed({
    title: `Roll ${model.model} back to version ${model.before}?`,
    words: `Version ${model.current} is no longer used, and is kept. ${follows}`,
    yes: `Roll back to version ${model.before}`,
    act: () => changed(model, "rollback", {}, `Version ${model.before} of ${model.model} is in use again.`),
  });
}
function versionRow(model, row, chosen) {
  const name = `${model.model}/${row.version}`;
  const tags = [row.version === model.current ? h("span", { class: "tag good" }, "in use") : null, row.version === model.challenger ? h("span", { class: "tag" }, "challenger") : null].filter(Boolean);
  if (row.fault) return h("tr", {}, h("td", {}), h("td", {}, row.version, " ", tags), h("td", { colspan: "5" }, h("span", { class: "tag bad" }, "damaged"), " ", row.fault));
  const box = h("input", { type: "checkbox", "aria-label": `Compare ${name}`, onchange: () => go((next) => {
    const others = chosen.filter((each) => each !== name);
    next.delete("compare");
    for (const each of box.checked ? [...others, name].slice(-2) : others) next.append("compare", each);
  }) });
  box.checked = chosen.includes(name);
  return h("tr", {}, h("td", {}, box),
    h("td", {}, h("button", { type: "button", class: "pick link", "aria-pressed": state.get("open") === name, "aria-label": `Open ${name}`, onclick: () => go((next) => next.set("open", name)) }, row.version), " ", tags),
    h("td", {}, row.name, h("span", { class: "sub" }, `${count(row.n_apps)} apps${isNumber(row.flows) ? `, ${count(row.flows)} flows` : ""}`)),
    h("td", { class: "less" }, headline(row)),
    h("td", { class: "less" }, row.updates ? `updated ${row.updates === 1 ? "once" : `${row.updates} times`}` : "trained", row.keeps_rows ? null : h("span", { class: "sub" }, "keeps no rows")),
    h("td", { class: "less when" }, fullMoment(row.created)),
    h("td", { class: "num" }, canChange && row.version !== model.current ? h("button", { type: "button", "aria-label": `Promote ${name}`, onclick: () => promote(model, row.version) }, "Promote") : null));
}
function modelCard(model, chosen) {
  const heads = ["Compare", "Version", "Model"].map((name) => h("th", { scope: "col" }, name));
  const rest = ["Main figures", "Origin", "Created"].map((name) => h("th", { scope: "col", class: "less" }, name));
  return h("section", { class: "card", "aria-label": `Model ${model.model}` },
    h("div", { class: "card-head" }, h("h2", {}, model.model), h("span", { class: "soft" }, model.current === null ? "no version is in use" : `version ${model.current} is in use`),
      canChange && model.before !== null ? h("span", { class: "downloads" }, h("button", { type: "button", onclick: () => rollBack(model) }, `Roll back to version ${model.before}`)) : null),
    model.fault ? h("p", { class: "fault" }, model.fault) : null,
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Versions of ${model.model}` }, h("table", {},
      h("thead", {}, h("tr", {}, heads, rest, h("th", { scope: "col" }, h("span", { class: "unseen" }, "Action")))),
      h("tbody", {}, [...model.versions].reverse().map((row) => versionRow(model, row, chosen))))),
    model.promotions.length ? h("p", { class: "soft" }, `Promoted: ${model.promotions.slice(-5).map((each) => `version ${each.version} (${fullMoment(each.when)})`).join(", ")}`) : null);
}
function field(name, value) { return [h("dt", {}, name), h("dd", {}, value)]; }
function lineageOf(entry) {
  const added = entry.added.map((each) => `${Object.entries(each.flows).map(([app, n]) => `${count(n)} flows of ${app}`).join(", ")} (${each.by} ${each.from})`).join("; ");
  const rows = entry.held_out.map((each) => h("tr", {}, h("td", {}, each.app), h("td", { class: "num" }, isNumber(each.flows) ? count(each.flows) : "–"),
    h("td", { class: "num" }, isNumber(each.before) ? percent(each.before) : "new"), h("td", { class: "num" }, isNumber(each.after) ? percent(each.after) : "–")));
  return [h("h3", {}, `Update of ${fullMoment(entry.when)}`), h("p", { class: "soft" }, `From ${entry.parent}. Added: ${added || "nothing"}.${entry.forced ? " It was forced, although an app lost." : ""}`),
    rows.length ? h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Apps before and after the update of ${entry.when}` }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "App"), ["Held-out flows", "Right before", "Right after"].map((name) => h("th", { scope: "col", class: "num" }, name)))), h("tbody", {}, rows))) : null];
}
async function open() {
  const name = state.get("open");
  $("opened").hidden = !name;
  if (!name) return;
  const cut = name.lastIndexOf("/");
  try {
    const found = await ask(path(name.slice(0, cut), name.slice(cut + 1)));
    if (state.get("open") !== name) return;
    $("opened-title").textContent = `Version ${found.version} of ${found.model}`;
    fill($("about"),
      h("dl", { class: "fields columns" }, field("Model", found.name), field("Created", fullMoment(found.created)), field("Inputs", found.inputs),
        field("Threshold", isNumber(found.threshold) ? number(found.threshold) : "set by whoever runs it"), field("Unknown apps", found.recognises_unknown ? "are recognised" : "are not recognised"), field("Rows for updates", found.keeps_rows ? "kept" : "not kept")),
      found.lineage.length ? h("h3", {}, "Lineage") : null, [...found.lineage].reverse().map(lineageOf),
      h("h3", {}, "Apps"), h("p", {}, found.apps.map((each) => `${each.app}${isNumber(each.flows) ? ` (${count(each.flows)})` : ""}`).join(", ")),
      found.card ? [h("h3", {}, "Card"), h("pre", { class: "text", tabindex: "0", role: "group", "aria-label": "Card of the model" }, found.card)] : null);
  } catch (fault) { fill($("about")); $("opened").hidden = true; say(fault); }
}
function draw() {
  const chosen = state.getAll("compare");
  if (!models.length) {
    fill($("list"), h("div", { class: "card empty" }, h("h2", {}, "There are no models yet"), h("p", {}, "To put one into the registry:"), h("pre", { tabindex: "0" }, "apptell models add model/ registry/phones")));
  } else fill($("list"), models.map((model) => modelCard(model, chosen)));
  const all = models.flatMap((model) => model.versions.filter((row) => !row.fault).map((row) => [`${model.model}/${row.version}`, row]));
  const sides = chosen.map((name) => all.find(([each]) => each === name)).filter(Boolean);
  $("compare").hidden = sides.length !== 2;
  if (sides.length === 2) sideBySide($("sides"), sides.map(([name]) => name), sides.map(([, row]) => row.figures), "These versions have no figure in common.");
  open();
}
async function load() {
  const found = await ask("/api/models");
  models = found.models;
  canChange = found.can_change;
  $("extent").textContent = !models.length ? "" : canChange ? "choose two versions to compare them" : "choose two versions to compare them; to promote or roll back here, start the server with --token-file";
  draw();
}
try {
  addEventListener("popstate", () => location.reload());
  await load();
} catch (fault) { $("extent").textContent = ""; say(fault); }
