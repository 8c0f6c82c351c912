// A table of two sets of figures side by side, with their difference.
import { h, fill, count } from "./ui.js";

export const number = (value) => (Number.isInteger(value) ? count(value) : String(Number(value.toPrecision(4))));
const words = (key) => key.replaceAll("_", " ");

export function sideBySide(table, names, [a, b], nothing) {
  const keys = Object.keys(a).filter((key) => key in b);
  const row = (key) => h("tr", {}, h("td", {}, words(key)), h("td", { class: "num" }, number(a[key])), h("td", { class: "num" }, number(b[key])), h("td", { class: "num" }, number(b[key] - a[key])));
  fill(table,
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"), names.map((name) => h("th", { scope: "col", class: "num" }, name)), h("th", { scope: "col", class: "num" }, "Difference"))),
    h("tbody", {}, keys.length ? keys.map(row) : h("tr", {}, h("td", { colspan: "4", class: "soft" }, nothing))));
}
