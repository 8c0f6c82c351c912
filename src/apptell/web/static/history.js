// The history page.
import { h, $, ask, say, short, fullMoment } from "./ui.js";
import { questionPage } from "./question.js";

let status = null;
const DAY = 86_400_000;

function empty(state, reset) {
  if (!status.records) {
    return [h("h2", {}, "There are no records yet"),
      h("p", {}, "Records appear here as soon as the first file of a minute is complete. To write some:"),
      h("pre", { tabindex: "0" }, "apptell live -i wlan0 --out parquet:records/\napptell serve --records records/")];
  }
  return [h("h2", {}, "No flow fits"),
    h("p", {}, `The newest record is of ${fullMoment(status.last)} UTC. Choose another time, or remove a filter.`),
    h("button", { type: "button", onclick: reset }, "Show everything")];
}

try {
  status = await ask("/api/status");
  if (!status.has_history) {
    $("extent").textContent = "";
    $("question").replaceChildren(h("div", { class: "card empty" }, h("h2", {}, "This server keeps no history"),
      h("p", {}, "Start it with a folder of records:"), h("pre", { tabindex: "0" }, "apptell serve --records records/")));
  } else {
    $("extent").textContent = status.records
      ? `${short(status.records)} records in ${short(status.files)} ${status.files === 1 ? "file" : "files"}, ${fullMoment(status.first)} to ${fullMoment(status.last)}`
      : "";
    if (status.unreadable.length) {
      $("notice").hidden = false;
      const first = status.unreadable[0];
      $("notice").textContent = `${status.unreadable.length} ${status.unreadable.length === 1 ? "file is" : "files are"} left out: ${first.name}: ${first.reason}`;
    }
    const isFresh = status.last && Date.now() - new Date(status.last) < DAY;
    questionPage({ api: "/api", flowBase: "/flow", fallback: () => (isFresh ? "24h" : "all"), empty });
  }
} catch (fault) { say(fault); }
