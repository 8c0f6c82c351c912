// The reports of a folder: opened in a sandbox, and two of them side by side.
import { h, $, fill, ask, say, count, fullMoment } from "./ui.js";
import { number, sideBySide } from "./sides.js";

const state = new URLSearchParams(location.search);
const address = (name, file) => `/reports/file/${[...(name === "." ? [] : name.split("/")), file].map(encodeURIComponent).join("/")}`;
const HEADLINES = ["accuracy", "macro_f1", "coverage", "n_flows", "threshold"];
const last = (key) => key.split(".").at(-1);
const show = (name) => (name === "." ? "this folder" : name);
let reports = [];

function go(change) {
  change(state);
  history.pushState(null, "", `?${state}`);
  draw();
}
function headline(report) {
  const keys = Object.keys(report.figures);
  const chosen = HEADLINES.map((name) => keys.find((key) => last(key) === name)).filter(Boolean).slice(0, 3);
  return chosen.map((key) => `${last(key).replaceAll("_", " ")} ${number(report.figures[key])}`).join(" · ");
}
function draw() {
  const chosen = state.getAll("compare");
  if (!reports.length) {
    fill($("list"), h("div", { class: "card empty" }, h("h2", {}, "There are no reports yet"),
      h("p", {}, "Reports that are written into the folder appear here. To write one:"),
      h("pre", { tabindex: "0" }, "apptell evaluate model/ dataset/ -o reports/first")));
  } else {
    fill($("list"), h("section", { class: "card" }, h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Reports" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Compare"), h("th", { scope: "col" }, "Report"), h("th", { scope: "col" }, "Main figures"), h("th", { scope: "col", class: "less" }, "Written"))),
      h("tbody", {}, reports.map((report) => {
        const box = h("input", { type: "checkbox", "aria-label": `Compare ${show(report.name)}`, onchange: () => go((next) => {
          const others = chosen.filter((name) => name !== report.name);
          next.delete("compare");
          for (const name of box.checked ? [...others, report.name].slice(-2) : others) next.append("compare", name);
        }) });
        box.checked = chosen.includes(report.name);
        return h("tr", {}, h("td", {}, box),
          h("td", {}, h("button", { type: "button", class: "pick link", "aria-pressed": state.get("open") === report.name, onclick: () => go((next) => next.set("open", report.name)) }, show(report.name))),
          h("td", {}, headline(report) || h("span", { class: "soft" }, "–")), h("td", { class: "less when" }, fullMoment(report.written)));
      }))))));
  }
  const sides = chosen.map((name) => reports.find((report) => report.name === name)).filter(Boolean);
  $("compare").hidden = sides.length !== 2;
  if (sides.length === 2) {
    const [a, b] = sides;
    sideBySide($("sides"), [show(a.name), show(b.name)], [a.figures, b.figures], "These reports have no figure in common.");
  }
  const opened = reports.find((report) => report.name === state.get("open"));
  $("opened").hidden = !opened;
  if (opened) {
    $("opened-title").textContent = show(opened.name);
    const page = address(opened.name, "report.html");
    if ($("frame").getAttribute("src") !== page) $("frame").setAttribute("src", page);
    fill($("files"), opened.files.slice(0, 12).map((file) => [h("a", { href: address(opened.name, file) }, file), " "]));
  }
}
try {
  reports = (await ask("/api/reports")).reports;
  $("extent").textContent = reports.length ? `${count(reports.length)} ${reports.length === 1 ? "report" : "reports"}, newest first; choose two to compare them` : "";
  addEventListener("popstate", () => location.reload());
  draw();
} catch (fault) { $("extent").textContent = ""; say(fault); }
