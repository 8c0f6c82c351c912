// The page Try it: sends a capture, shows how far it is, then its flows as the history shows them.
import { h, $, fill, ask, say, bytes, short, count } from "./ui.js";
import { questionPage } from "./question.js";

const WAIT_MS = 300;
const place = (id) => `/api/uploads/${encodeURIComponent(id)}`;
let most = 0, sending = null, current = null, turn = 0;

const trouble = (fault) => say(fault, "trouble");
function show(part) {
  for (const id of ["drop", "progress", "found"]) $(id).hidden = id !== part;
  $("drop").classList.toggle("is-over", false);
}
function start() {
  turn += 1;
  current = null;
  history.replaceState(null, "", "/try");
  $("title").textContent = "Try it";
  $("extent").textContent = "";
  $("notice").hidden = true;
  show("drop");
}
function step(text, share, sofar) {
  $("step").textContent = text;
  if (share === null) $("bar").removeAttribute("value"); else $("bar").value = share;
  $("sofar").textContent = sofar;
}

function send(file) {
  if (!file) return;
  trouble(null);
  if (!file.size) { trouble(new Error(`${file.name} is empty.`)); return; }
  if (file.size > most) { trouble(new Error(`${file.name} has ${bytes(file.size)}; this server takes at most ${bytes(most)}.`)); return; }
  show("progress");
  $("title").textContent = file.name;
  step("Sending", 0, "");
  const own = ++turn;
  sending = new XMLHttpRequest();
  sending.open("POST", `/api/uploads?${new URLSearchParams({ name: file.name })}`);
  sending.setRequestHeader("Content-Type", "application/octet-stream");
  sending.upload.onprogress = (event) => { if (own === turn) step("Sending", event.loaded / file.size, `${bytes(event.loaded)} of ${bytes(file.size)}`); };
  sending.onload = () => {
    const { status, responseText } = sending;
    sending = null;
    if (own !== turn) return;
    let found;
    try { found = JSON.parse(responseText); } catch { found = { error: `the server answered ${status}` }; }
    if (status === 401) { location.href = "/login?next=/try"; return; }
    if (status !== 202) { start(); trouble(new Error(found.error)); return; }
    location.href = `/try?upload=${encodeURIComponent(found.id)}`;
  };
  sending.onerror = () => { sending = null; if (own === turn) { start(); trouble(new Error("The connection ended before the capture had arrived.")); } };
  sending.send(file);
}

async function watch(found) {
  const own = ++turn;
  current = found.id;
  $("title").textContent = found.name;
  try {
    while (found.state !== "done" && found.state !== "failed") {
      show("progress");
      const sofar = found.packets ? `${short(found.packets)} packets, ${short(found.flows)} flows` : "";
      const waits = found.preparing ? "Compiling what captures need, for the first time" : "Waiting for another capture";
      step({ receiving: "Sending", waiting: waits }[found.state] || "Identifying", found.share, sofar);
      await new Promise((done) => setTimeout(done, WAIT_MS));
      found = await ask(place(found.id));
      if (own !== turn) return;
    }
  } catch (fault) { if (own === turn) { start(); trouble(fault); } return; }
  if (found.state === "failed") { start(); trouble(new Error(found.fault)); return; }
  results(found);
}

function results(found) {
  show("found");
  document.title = `${found.name} – apptell`;
  $("extent").textContent = `${bytes(found.bytes)}, ${count(found.packets)} packets, ${count(found.flows)} ${found.flows === 1 ? "flow" : "flows"} with a verdict`;
  $("notice").hidden = !found.damage;
  $("notice").textContent = found.damage ? `The capture is damaged, and only what comes before is shown: ${found.damage}` : "";
  questionPage({ api: place(found.id), flowBase: `/flow?upload=${encodeURIComponent(found.id)}`, fallback: () => "all", hasRanges: false,
    empty: (state, reset) => (found.flows ? [h("h2", {}, "No flow fits"), h("p", {}, "Remove a filter."), h("button", { type: "button", onclick: reset }, "Show everything")]
      : [h("h2", {}, "No flows"), h("p", {}, "The capture has no TCP or UDP connection with payload in it.")]) });
}

$("file").addEventListener("change", () => { send($("file").files[0]); $("file").value = ""; });
for (const name of ["dragenter", "dragover"]) addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("is-over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("is-over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("is-over");
  const files = event.dataTransfer.files;
  if (files.length === 1 && $("progress").hidden) send(files[0]);
  else if (files.length > 1) trouble(new Error("Drop one capture at a time; mergecap makes one of several."));
});
$("cancel").addEventListener("click", async () => {
  const id = current;
  turn += 1;
  sending?.abort();
  sending = null;
  start();
  if (id) try { await ask(place(id), null, { method: "DELETE" }); } catch { /* it is gone already */ }
});
$("another").addEventListener("click", () => { location.href = "/try"; });
$("forget").addEventListener("click", async () => {
  try { await ask(place(current), null, { method: "DELETE" }); location.href = "/try"; } catch (fault) { trouble(fault); }
});

const wanted = new URLSearchParams(location.search).get("upload");
try {
  most = (await ask("/api/status")).most_upload_bytes;
  $("most").textContent = `; at most ${bytes(most)}`;
  if (wanted) watch(await ask(place(wanted)));
} catch (fault) { start(); trouble(fault); }
