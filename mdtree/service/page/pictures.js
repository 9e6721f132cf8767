// Pictures of one diagnosis, of the numbers the report draws: the way to the sibling, and the spectrum of the Hessian.

import { element, svg } from "./dom.js";
import { number } from "./words.js";

const WIDTH = 300;
const HEIGHT = 170;
const BOX = { left: 40, right: 292, top: 10, bottom: 134 };

/** The pictures whose numbers are there. */
export function pictures({ series, metrics }) {
  const drawn = [curve(series, metrics), spectrum(series)].filter(Boolean);
  if (!drawn.length) return [];
  return [element("details", {}, element("summary", {}, "The loss landscape, drawn"), element("div", { class: "pair" }, drawn))];
}

const numbers = (list) => Array.isArray(list) && list.length > 1 && list.every((one) => typeof one === "number" && Number.isFinite(one));

/** `below` and `above` of each axis to the picture. */
function scales(across, up) {
  const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  return { x: scale(across, BOX.left, BOX.right), y: scale(up, BOX.bottom, BOX.top) };
}

const line = (xs, ys, { x, y }) => xs.map((value, i) => `${x(value).toFixed(1)},${y(ys[i]).toFixed(1)}`).join(" ");

function figure(title, caption, xLabel, yTicks, xTicks, scale, ...content) {
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${caption}` },
    svg("path", { class: "frame", d: `M${BOX.left} ${BOX.top}V${BOX.bottom}H${BOX.right}` }),
    yTicks.map(([value, label]) => svg("text", { class: "tick", x: BOX.left - 5, y: scale.y(value) + 4, "text-anchor": "end" }, label)),
    xTicks.map(([value, label], i) => svg("text", { class: "tick", x: scale.x(value), y: BOX.bottom + 15, "text-anchor": i === xTicks.length - 1 ? "end" : "middle" }, label)),
    svg("text", { class: "axis", x: (BOX.left + BOX.right) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, xLabel), content);
  return element("figure", {}, drawing, element("figcaption", {}, element("strong", {}, `${title}.`), ` ${caption}`));
}

function curve(series, metrics) {
  const { curve: bent, linear_path: straight } = series ?? {};
  if (![bent?.t, bent?.error_percent, straight?.t, straight?.error_percent].every(numbers)) return null;
  const top = Math.max(...bent.error_percent, ...straight.error_percent, 1);
  const scale = scales([0, 1], [0, top]);
  const barrier = metrics?.connectivity_barrier_percent?.value;
  const caption = `Solid along the trained curve, dashed along the straight line${typeof barrier === "number" ? `; barrier ${number(barrier, 3)} points` : ""}.`;
  return figure("Train error (%) on the way to the sibling", caption, "from the network (0) to its sibling (1)", [[0, "0"], [top, number(top, 2)]], [[0, "0"], [1, "1"]], scale,
    svg("polyline", { class: "second", points: line(straight.t, straight.error_percent, scale) }),
    svg("polyline", { class: "first", points: line(bent.t, bent.error_percent, scale) }));
}

function spectrum(series) {
  const { eigenvalues, density } = series?.spectral_density ?? {};
  if (!numbers(eigenvalues) || !numbers(density)) return null;
  const floor = 1e-4;
  const high = Math.max(...density, floor * 10);
  const logs = density.map((value) => Math.log10(Math.max(value / high, floor)));
  const ends = [Math.min(...eigenvalues), Math.max(...eigenvalues)];
  const scale = scales(ends, [Math.log10(floor), 0]);
  return figure("Spectrum of the Hessian", `Density of its eigenvalues, logarithmic, from ${number(ends[0], 3)} to ${number(ends[1], 3)}.`, "eigenvalue",
    [[0, "1"], [-4, "10⁻⁴"]], [[ends[0], number(ends[0], 2)], [ends[1], number(ends[1], 2)]], scale,
    svg("polyline", { class: "first", points: line(eigenvalues, logs, scale) }));
}
