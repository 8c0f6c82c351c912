// Shows on a flow's page what reading its packets once more brings: evidence, contributions, picture, bytes.
import { h, s, $, fill, EVIDENCE, count, percent } from "./ui.js";

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export function packetChart(lengths) {
  const most = Math.max(...lengths.map(Math.abs), 1), wide = 13, half = 56;
  const picture = s("svg", { viewBox: `0 0 ${Math.max(lengths.length * wide + 70, 480)} ${half * 2 + 8}`, role: "img",
    "aria-label": `Payload bytes of the first ${lengths.length} packets, to the server above 0: ${lengths.join(", ")}` });
  picture.append(s("line", { x1: 0, x2: lengths.length * wide + 4, y1: half + 4, y2: half + 4, class: "axis" }));
  lengths.forEach((length, i) => {
    const size = Math.max((Math.abs(length) / most) * half, 1.5);
    const bar = s("rect", { x: i * wide + 3, width: wide - 4, y: length > 0 ? half + 4 - size : half + 4, height: size, rx: 1.5, class: length > 0 ? "to-server" : "to-client" });
    bar.append(s("title", {}, `packet ${i + 1}: ${count(Math.abs(length))} bytes to the ${length > 0 ? "server" : "client"}`));
    picture.append(bar);
  });
  const right = lengths.length * wide + 10;
  picture.append(s("text", { x: right, y: 16 }, "to server"), s("text", { x: right, y: half * 2 }, "to client"));
  return picture;
}

function steps(found) {
  return found.steps.map((step) => {
    const row = step.row && Object.entries(step.row).filter(([, value]) => value).map(([name, value]) => `${name} ${value}`).join("; ");
    return h("li", { class: step.decided ? "decides" : "seen" }, h("span", { "aria-hidden": "true" }, step.decided ? "●" : "○"),
      h("span", { class: "label" }, EVIDENCE[step.kind] || step.kind), h("span", { class: "value" }, step.words),
      row || step.decided ? h("span", { class: "note" }, [step.decided ? "This decided" : "", row ? `catalogue: ${row}` : ""].filter(Boolean).join("; ")) : null);
  });
}

const SHOWN = 12;

function contributions(model, isWide = false) {
  const most = Math.max(...model.contributions.map((each) => Math.abs(each.value)), 1e-9);
  $("score").textContent = `${model.app} (${percent(model.probability)}) against ${model.runner_up} (${percent(model.runner_up_probability)}): `
    + `${signed(model.total)} ${model.unit}. Values are ${model.method_words}.`;
  const adds = model.method !== "occlusion";
  fill($("contributions"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "num" }, "Value"), h("th", { scope: "col", class: "less" }, h("span", {}, "Share")), h("th", { scope: "col" }, "Field"),
      h("th", { scope: "col" }, "What was read"), h("th", { scope: "col", class: "less" }, "Where"))),
    h("tbody", {},
      adds ? h("tr", {}, h("td", { class: "num" }, signed(model.base)), h("td", { class: "less" }), h("td", { class: "soft" }, "base"), h("td", { class: "soft" }, "before anything is known"), h("td", { class: "less" })) : [],
      model.contributions.slice(0, isWide ? undefined : SHOWN).map((each) => {
        const bar = h("div", { class: `fill ${each.value > 0 ? "c0" : "c5"}` });
        bar.style.width = `${(Math.abs(each.value) / most) * 100}%`;
        return h("tr", {}, h("td", { class: "num" }, signed(each.value)), h("td", { class: "share less" }, h("div", { class: "track" }, bar)),
          h("td", {}, each.field), h("td", {}, each.words), h("td", { class: "less" }, each.where || ""));
      })));
  const others = model.rest + (isWide ? 0 : model.contributions.slice(SHOWN).reduce((sum, each) => sum + each.value, 0));
  $("more-parts").hidden = isWide || model.contributions.length <= SHOWN;
  $("more-parts").textContent = `Show ${model.contributions.length} parts`;
  $("more-parts").onclick = () => contributions(model, true);
  $("parts-rest").textContent = [adds && Math.abs(others) > 1e-9 ? `All further parts together: ${signed(others)}.` : "",
    model.unknown_parts ? `${count(model.unknown_parts)} parts say nothing to the model.` : ""].filter(Boolean).join(" ");
}

function similarFlows(similar) {
  $("similar-card").hidden = false;
  $("similar-words").textContent = similar.words;
  if (!similar.nearest.length) return;
  $("similar-measure").textContent = `The similarity is the ${similar.measure}. A group is a network or session of the training set; its name is not kept.`;
  const head = ["Similarity", "", "App", "Group", "Flows", "What both have, the rarest first"];
  fill($("similar"), h("thead", {}, h("tr", {}, head.map((text, i) => text
    ? h("th", { scope: "col", class: [0, 3, 4].includes(i) ? "num" : undefined }, text) : h("td", { class: "less" })))),
  h("tbody", {}, similar.nearest.map((each) => {
    const bar = h("div", { class: "fill c0" });
    bar.style.width = `${each.similarity * 100}%`;
    return h("tr", {}, h("td", { class: "num" }, each.similarity.toFixed(3)), h("td", { class: "share less" }, h("div", { class: "track" }, bar)),
      h("td", {}, each.app), h("td", { class: "num" }, count(each.group)), h("td", { class: "num" }, count(each.flows)),
      h("td", {}, `${count(each.shared_parts)} of ${count(similar.parts)} parts${each.shared.length ? `: ${each.shared.join("; ")}` : ""}`));
  })));
}

function segment(each) {
  return [h("h3", {}, each.title), h("div", { class: "scroll hex", tabindex: "0", role: "group", "aria-label": each.title },
    each.lines.map(([offset, cells]) => h("div", {}, h("i", {}, offset), cells.map(([text, kind, name]) => h("b", { class: kind || undefined, title: name || undefined }, text))))),
  each.more > 0 ? h("p", { class: "soft" }, `${count(each.more)} further bytes`) : null].filter(Boolean);
}

export function showReason(found, record) {
  const { explanation } = found;
  $("why").textContent = explanation.reason;
  fill($("evidence"), steps(explanation));
  $("reason-state").textContent = explanation.app === record.app ? ""
    : `Read again, the flow is ${explanation.app || explanation.outcome}: the capture does not have all that was known then, or the model has changed.`;
  if (explanation.model) { $("model-card").hidden = false; $("parts").hidden = false; contributions(explanation.model); }
  $("packets").hidden = !found.lengths.length;
  if (found.lengths.length) fill($("packet-chart"), packetChart(found.lengths));
  if (found.similar) similarFlows(found.similar);
  $("bytes-card").hidden = false;
  const image = (src, alt) => h("img", { src, alt, width: 261, height: 261 });
  $("picture").prepend(image(found.picture, "The first packets of the flow as a picture"));
  $("saliency").hidden = !found.saliency;
  if (found.saliency) $("saliency").prepend(image(found.saliency, "What each byte of the picture adds"));
  fill($("segments"), found.segments.map(segment));
  $("segments-details").hidden = !found.segments.length;
}
