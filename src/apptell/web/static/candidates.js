// Candidates that discover found: what tells them apart, a name for each, and an update of a model with them.
import { h, $, fill, refresh, ask, say, count, percent, fullMoment } from "./ui.js";
import { confirmed, send } from "./confirm.js";

const KINDS = { domain: "Domain", dns: "DNS name", certificate: "Name in certificates", service: "Service", ja4: "JA4", port: "Port" };
const STATES = { running: ["running", ""], added: ["added", "good"], refused: ["refused", "warn"], failed: ["failed", "bad"], cancelled: ["cancelled", "warn"] };
let versions = [];
let timer = 0;

function origin(one) {
  const by = { catalogue: `the catalogue gives ${count(one.named_flows)} of its flows to this app`, domain: "named after its first domain", certificate: "named after the first domain in certificates", number: "nothing suggests a name" }[one.named_by] || "";
  return one.known_to_model ? `${by}; the model has an app of this name, but did not recognise these flows` : by;
}
function evidenceOf(one) {
  return h("details", { class: "more" }, h("summary", {}, one.evidence.length ? `${KINDS[one.evidence[0].kind] || one.evidence[0].kind} ${one.evidence[0].value}` : "no evidence"),
    h("table", {}, h("caption", { class: "unseen" }, `Evidence of candidate ${one.candidate}`),
      h("thead", {}, h("tr", {}, ["Kind", "Value"].map((name) => h("th", { scope: "col" }, name)), ["Flows", "Other traffic", "Lift"].map((name) => h("th", { scope: "col", class: "num" }, name)))),
      h("tbody", {}, one.evidence.map((each) => h("tr", {}, h("td", {}, KINDS[each.kind] || each.kind), h("td", {}, h("code", {}, each.value)), h("td", { class: "num" }, count(each.flows)), h("td", { class: "num" }, count(each.others)), h("td", { class: "num" }, each.lift.toFixed(1)))))));
}
function foundCard(found, canUpdate) {
  if (found.fault) return h("section", { class: "card", "aria-label": found.name }, h("h2", {}, found.name), h("p", { class: "fault" }, found.fault));
  const boxes = new Map();
  const names = new Map();
  const title = found.name === "." ? "This folder" : found.name;
  const rows = found.candidates.map((one) => {
    const box = h("input", { type: "checkbox", "aria-label": `Take candidate ${one.candidate} in`, disabled: !one.has_rows });
    const name = h("input", { type: "text", class: "name", value: one.name, maxlength: "256", "aria-label": `Name of candidate ${one.candidate}`, oninput: () => { if (one.has_rows) box.checked = true; } });
    boxes.set(one.candidate, box);
    names.set(one.candidate, name);
    const examples = new URLSearchParams({ found: found.name, candidate: one.candidate });
    return h("tr", {}, canUpdate ? h("td", {}, box) : null,
      h("td", {}, `${one.candidate}`),
      h("td", {}, canUpdate ? name : one.name, h("span", { class: "sub" }, origin(one)), one.has_rows ? null : h("span", { class: "sub" }, "found in records, so it cannot be learned: discover it in captures")),
      h("td", { class: "num" }, count(one.flows)), h("td", { class: "num" }, count(one.clients)),
      h("td", { class: "less when" }, one.first ? [fullMoment(one.first), h("span", { class: "sub" }, `to ${fullMoment(one.last)}`)] : "–"),
      h("td", { class: "less" }, Object.entries(one.guesses).slice(0, 3).map(([app, n]) => `${app} (${count(n)})`).join(", ")),
      h("td", {}, evidenceOf(one), one.has_examples ? h("a", { class: "sub", href: `/api/candidates/examples?${examples}` }, "example packets") : null));
  });
  const head = [canUpdate ? "Take in" : null, "", canUpdate ? "Name" : "Proposed as"].filter((name) => name !== null).map((name) => h("th", { scope: "col" }, name || h("span", { class: "unseen" }, "Number")));
  const select = h("select", { "aria-label": "Model to update" }, versions.map(({ model, version, isCurrent }) => h("option", { value: JSON.stringify([model, version]), selected: isCurrent }, `${model} ${version}${isCurrent ? " (in use)" : ""}`)));
  return h("section", { class: "card", "aria-label": title },
    h("div", { class: "card-head" }, h("h2", {}, title), h("span", { class: "soft" }, `${found.model} did not recognise ${count(found.strange)} of ${count(found.flows)} flows · ${fullMoment(found.written)}`)),
    found.candidates.length ? h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Candidates of ${title}` }, h("table", { class: "candidates" },
      h("thead", {}, h("tr", {}, head, ["Flows", "Clients"].map((name) => h("th", { scope: "col", class: "num" }, name)), ["Seen", "Likeliest apps of the model"].map((name) => h("th", { scope: "col", class: "less" }, name)), h("th", { scope: "col" }, "Evidence"))),
      h("tbody", {}, rows))) : h("p", { class: "soft" }, "No candidate was found."),
    canUpdate && rows.length ? (versions.length
      ? h("div", { class: "tools send" }, h("label", { class: "choice" }, "Update ", select), h("button", { type: "button", class: "primary", onclick: () => sendOff(found, boxes, names, select) }, "Send to update"))
      : h("p", { class: "soft" }, "No version of the registry keeps its rows, so none can be updated. Train one with --keep-rows.")) : null);
}
function sendOff(found, boxes, names, select) {
  const candidates = [...boxes].filter(([, box]) => box.checked).map(([candidate]) => ({ candidate, app: names.get(candidate).value.trim() }));
  const empty = candidates.find((each) => !each.app);
  if (!candidates.length || empty) { say(new Error(empty ? `Candidate ${empty.candidate} has no name.` : "Choose the candidates to take in.")); $("fault").scrollIntoView({ block: "center" }); return; }
  say(null);
  const [model, version] = JSON.parse(select.value);
  confirmed({
    title: `Update version ${version} of ${model}?`,
    words: `It is trained again with ${candidates.map((each) => `candidate ${each.candidate} as ${each.app}`).join(", ")}. Version ${version} is kept. The result is a new version that is not promoted, unless an app would lose.`,
    yes: "Update",
    act: async () => { await send("/api/updates", { model, version, found: found.name, candidates }); await follow(); $("updates").scrollIntoView({ block: "center" }); },
  });
}
function resultOf(one) {
  const rows = one.result.apps.map((each) => h("tr", { class: each.lost ? "lost" : undefined },
    h("td", {}, each.app, each.lost ? [" ", h("span", { class: "tag bad" }, "loses")] : null), h("td", { class: "num" }, count(each.flows)), h("td", { class: "num" }, count(one.result.added[each.app] || 0)),
    h("td", { class: "num" }, each.before === null ? "new" : percent(each.before)), h("td", { class: "num" }, percent(each.after))));
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Apps of update ${one.number}` }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "App"), ["Held-out flows", "New flows", "Right before", "Right after"].map((name) => h("th", { scope: "col", class: "num" }, name)))), h("tbody", {}, rows)));
}
function wordsOf(one) {
  if (one.state === "running") return one.words;
  if (one.state === "added") return [`It is version ${one.result.version}, and not promoted: see `, h("a", { href: `/models?${new URLSearchParams({ open: `${one.model}/${one.result.version}` })}` }, "Models"), "."];
  if (one.state === "refused") return `Nothing was written: ${one.result.refused}.`;
  return one.fault || "Nothing was written.";
}
function jobOf(one) {
  const [word, kind] = STATES[one.state];
  const label = `Update ${one.number}: ${one.model} ${one.version} with ${one.apps.join(", ")}`;
  return h("div", { class: "job", "data-key": one.number }, h("div", { class: "card-head" }, h("h3", {}, label), h("span", { class: `tag ${kind}` }, word),
    one.state === "running" ? h("span", { class: "downloads" }, h("button", { type: "button", onclick: () => send(`/api/updates/${one.number}/cancel`, {}).then(follow, say) }, "Cancel the update")) : null),
    one.state === "running" ? h("progress", { max: "1", value: one.share, "aria-label": label }) : null,
    h("p", { class: one.state === "refused" || one.state === "failed" ? "" : "soft" }, wordsOf(one)),
    one.notes.map((note) => h("p", { class: "soft" }, note)), one.result ? resultOf(one) : null);
}
async function follow() {
  clearTimeout(timer);
  const { updates } = await ask("/api/updates");
  $("updates").hidden = !updates.length;
  refresh($("jobs"), updates.map(jobOf));
  if (updates.some((one) => one.state === "running")) timer = setTimeout(() => follow().catch(say), 1000);
}
try {
  const { found, can_update: canUpdate } = await ask("/api/candidates");
  if (canUpdate) {
    const { models } = await ask("/api/models");
    versions = models.flatMap((model) => model.versions.filter((row) => row.keeps_rows).map((row) => ({ model: model.model, version: row.version, isCurrent: row.version === model.current })));
    await follow();
  }
  $("extent").textContent = !found.length ? "" : canUpdate ? "name those that are apps, and update a model with them" : "to take one in from this page, start the server with --models and --token-file";
  fill($("list"), found.length ? found.map((each) => foundCard(each, canUpdate)) : h("div", { class: "card empty" }, h("h2", {}, "There are no candidates yet"), h("p", {}, "To look for apps that a model does not know:"), h("pre", { tabindex: "0" }, "apptell discover yesterday/ -m model/ -o reports/found")));
} catch (fault) { $("extent").textContent = ""; say(fault); }
