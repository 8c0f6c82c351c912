// A stacked chart over time with uPlot: bars for the steps of a history, areas for what moves.
import { h, fill, bytes } from "./ui.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colourOf = (i, key, isRest) => isRest ? "c-rest" : key === null ? "c-none" : `c${i % 10}`;
const variable = (colour) => `--s${colour.startsWith("c-") ? colour.slice(1) : colour.slice(1)}`;

export function stackedChart(host, { format = bytes, bars = false, height = 260, onzoom = null, words = "" }) {
  let plot = null, shown = null;
  const tooltip = h("div", { class: "tooltip", hidden: true });
  const size = () => ({ width: Math.max(host.clientWidth, 200), height });
  const when = (t, step) => new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short",
    hour: "2-digit", minute: "2-digit", second: step < 60 ? "2-digit" : undefined }).format(new Date(t * 1000));

  function point(u) {
    const i = u.cursor.idx;
    if (i === null || i === undefined || !shown || u.cursor.left < 0) { tooltip.hidden = true; return; }
    const lines = shown.series.map((each, k) => [each, each.values[i], k]).filter(([, value]) => value > 0).reverse();
    fill(tooltip, h("div", { class: "at" }, when(shown.times[i], shown.step)),
      lines.length ? lines.slice(-12).map(([each, value]) => h("div", { class: "line" },
        h("span", { class: `dot ${each.colour}` }), h("span", {}, each.name), h("span", {}, format(value))))
        : h("div", { class: "line" }, h("span", {}, ""), h("span", {}, "nothing")));
    tooltip.hidden = false;
    const wide = u.over.clientWidth, own = tooltip.offsetWidth;
    const left = u.cursor.left + 16 + own > wide ? u.cursor.left - own - 16 : u.cursor.left + 16;
    tooltip.style.left = `${Math.max(left, 0)}px`;
    tooltip.style.top = "8px";
  }

  function build() {
    plot?.destroy();
    plot = null;
    if (!shown) return;
    const { times, series, step } = shown;
    const sums = [];
    let below = times.map(() => 0);
    for (const each of series) {
      below = below.map((value, i) => value + (each.values[i] || 0));
      sums.push(below);
    }
    const order = series.map((_, k) => k).reverse();  // the highest first: the others cover it
    const axis = { stroke: () => css("--ink-2"), grid: { stroke: () => css("--line"), width: 1 },
      ticks: { show: false }, font: "12px system-ui, sans-serif" };
    plot = new uPlot({
      ...size(),
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "Etc/UTC"),
      legend: { show: false },
      padding: [8, 26, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: Boolean(onzoom), y: false, setScale: false } },
      scales: { x: { time: true, range: shown.range ? () => shown.range : bars ? (u, low, high) => [low, high + step] : undefined },
        y: { range: (u, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      axes: [
        { ...axis, space: 70 , values: shown.range ? (u, splits) => splits.map((t) => when(t, 60).split(", ").pop()) : [
          [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
          [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1],
        ] },
        { ...axis, size: 72, values: (u, splits) => splits.map((value) => format(value)) },
      ],
      series: [{}, ...order.map((k) => ({
        label: series[k].name,
        fill: () => css(variable(series[k].colour)),
        stroke: () => css(bars ? "--card" : "--card"),
        width: bars ? 0.6 : 0.8,
        points: { show: false },
        ...(bars ? { paths: uPlot.paths.bars({ size: [0.92, 90], align: 1 }) } : {}),
      }))],
      hooks: {
        setCursor: [point],
        setSelect: [(u) => {
          if (!onzoom || u.select.width < 8) return;
          const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          onzoom(from, to);
        }],
      },
    }, [times, ...order.map((k) => sums[k])], host);
    plot.over.append(tooltip);
    tooltip.hidden = true;
    const canvas = plot.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words || "Chart; the table below has the same numbers");
  }

  new ResizeObserver(() => plot?.setSize(size())).observe(host);
  addEventListener("themechange", () => plot?.redraw(false));
  return {
    show(next) {
      const same = plot && shown && bars === false && shown.series.length === next.series.length
        && shown.series.every((each, k) => each.name === next.series[k].name && each.colour === next.series[k].colour);
      shown = next;
      if (!same) { build(); return; }
      const sums = [];
      let below = next.times.map(() => 0);
      for (const each of next.series) {
        below = below.map((value, i) => value + (each.values[i] || 0));
        sums.push(below);
      }
      plot.setData([next.times, ...sums.reverse()]);
    },
    clear() { shown = null; plot?.destroy(); plot = null; },
  };
}
