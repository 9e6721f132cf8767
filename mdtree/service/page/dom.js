// Elements, made with their text as text: names out of files never become mark-up.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are false, null or undefined are left out, those that are true stand empty. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const byId = (id) => document.getElementById(id);

// the shapes say the verdict without colour; as in the reports
const SHAPES = {
  temperature_too_high: "M10 2 18.5 17.5H1.5z",
  temperature_too_low: "M10 18 18.5 2.5H1.5z",
  model_too_small: "M2.5 2.5h15v15h-15z",
  too_little_data: "M10 .8 19.2 10 10 19.2.8 10z",
  healthy: "M1.8 10a8.2 8.2 0 1 0 16.4 0a8.2 8.2 0 1 0-16.4 0z",
  undetermined: "M5.2 2 10 6.8 14.8 2 18 5.2 13.2 10 18 14.8 14.8 18 10 13.2 5.2 18 2 14.8 6.8 10 2 5.2z",
};
export const VERDICTS = Object.keys(SHAPES);

export const known = (verdict) => (verdict in SHAPES ? verdict : "undetermined");
export const shapeOf = (verdict) => SHAPES[known(verdict)];

export function mark(verdict, size = 16) {
  return svg("svg", { class: `mark v-${known(verdict)}`, width: size, height: size, viewBox: "0 0 20 20", "aria-hidden": "true" },
    svg("path", { d: shapeOf(verdict) }));
}

/** A share as a bar; the number stands beside it. */
export function bar(share, verdict) {
  const fill = element("span", { class: `fill v-${known(verdict)}` });
  fill.style.width = `${(100 * Math.min(Math.max(share, 0), 1)).toFixed(1)}%`;
  return element("span", { class: "bar", "aria-hidden": "true" }, fill);
}

/** An identifier that may break after its underscores. */
export function code(name) {
  const parts = String(name).split("_");
  return element("code", {}, parts.flatMap((part, i) => (i < parts.length - 1 ? [`${part}_`, element("wbr")] : [part])));
}

/** A name of unknown origin, isolated so that it cannot turn the words around it. */
export const named = (text) => element("bdi", {}, text);

/** Show a sentence in an element that is made for it, or hide it. */
export function say(place, text) {
  place.textContent = text ?? "";
  place.hidden = !text;
}
