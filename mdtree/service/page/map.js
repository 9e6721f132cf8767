// The networks of the zoo, the regions of their causes, and the jobs among them; beneath, the same as a table.

import * as api from "./api.js";
import { byId, element, known, mark, named, say, shapeOf, svg } from "./dom.js";
import { innermost, places, regionPath } from "./plane.js";
import { nameOf, number, verdictText, visible, words } from "./words.js";

const WIDTH = 600;
const HEIGHT = 460;
const LEFT = 58;
const TOP = 14;
const ACROSS = 520;
const UP = 390;
const GROWTHS = [-1, 0, 1, 2, 3, 4];
const LOADS = [0, 0.01, 0.03, 0.1, 0.3, 1];
const PLANE = ["log_weight_growth", "train_error_over_chance"];

let zoo = null;
let drawn = "";
let latest = [[], [], null];

/** Fetch the background; without it there is no map, and the rest works. */
export async function load() {
  zoo ??= await api.zooMap();
  show(...latest);
}

/** Whether a job has a place: both metrics of the plane were measured. */
const placed = (job) => PLANE.every((name) => typeof job.summary?.plane?.[name]?.value === "number");

/** Draw the jobs: all of them small, those compared with their numbers, the open one with its name. */
export function show(jobs, compared, open) {
  latest = [jobs, compared, open];
  if (!zoo) return;
  const all = new Map([...jobs, ...compared, ...(open ? [open] : [])].filter((job) => job.summary).map((job) => [job.id, job]));
  const here = [...all.values()].filter(placed);
  const now = JSON.stringify([here.map((job) => job.id), compared.map((job) => job.id), open?.id]);
  if (now === drawn) return;
  drawn = now;
  const unfolded = byId("map").querySelector("details")?.open ?? false;
  byId("map").hidden = false;
  const number_of = (job) => compared.findIndex((one) => one.id === job.id) + 1;
  byId("map").replaceChildren(element("h2", { id: "map-title" }, "On the map of the zoo"),
    picture(here, number_of, open), key(), text(here.length, all.size - here.length), table(here, number_of, unfolded));
}

function text(count, without) {
  const whose = zoo.told_by === "grid" ? "what helped most" : "what the trees tell";
  const said = [`Small marks are networks of the zoo by ${whose}; areas, what is most frequent there.`];
  said.push(count ? `Large marks are ${count === 1 ? "the job" : `the ${count} jobs`} of the list.` : "Jobs appear on it when they are done.");
  if (without) said.push(`${without} without both metrics ${without === 1 ? "has" : "have"} no place.`);
  return element("p", { class: "faint small" }, said.join(" "));
}

const key = () => element("ul", { class: "key" }, zoo.causes.map((cause) => element("li", {}, mark(cause, 12), ` ${words(cause)}`)));

function picture(jobs, number_of, open) {
  const place = places(zoo.axes);
  const x = (growth) => LEFT + ACROSS * place.x(growth);
  const y = (load) => TOP + UP * (1 - place.y(load) / zoo.axes.y.highest);
  const at = (job) => [x(job.summary.plane[PLANE[0]].value), y(job.summary.plane[PLANE[1]].value)];
  const drawing = svg("svg", { class: "plane", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Map of temperature and load with ${jobs.length} jobs; the table below holds the same.` });
  const { areas, names } = regions(jobs.map(at));
  drawing.append(...areas, ...points(x, y), ...names, ...frame(x, y));
  // the open one last, so that it lies on top
  const order = [...jobs].sort((one, other) => rank(one) - rank(other));
  function rank(job) { return (job.id === open?.id ? 2 : 0) + (number_of(job) ? 1 : 0); }
  for (const job of order) drawing.append(...jobMark(job, at(job), spread(job, x, y), number_of(job), job.id === open?.id));
  return drawing;
}

function regions(occupied) {
  const up = zoo.regions.length - 1;
  const across = zoo.regions[0].length - 1;
  const steps = occupied.map(([x, y]) => [((x - LEFT) / ACROSS) * across, (1 - (y - TOP) / UP) * up]);
  const areas = [];
  const names = [];
  zoo.causes.forEach((cause, i) => {
    const path = regionPath(zoo.regions, i);
    if (!path) return;
    areas.push(svg("path", { class: `region v-${known(cause)}`, d: path, transform: `translate(${LEFT} ${TOP + UP}) scale(${ACROSS / across} ${-UP / up})` }));
    const middle = innermost(zoo.regions, i, steps);
    if (!middle) return;
    const [left, top] = [LEFT + (middle[0] / across) * ACROSS, TOP + UP - (middle[1] / up) * UP];
    const lines = words(cause).split(/ (?=too )/);
    names.push(svg("text", { class: `region-name v-${known(cause)}`, x: left, y: top - 6 * (lines.length - 2) - 4 }, lines.map((line, n) => svg("tspan", { x: left, dy: n ? 14 : 0 }, line))));
  });
  return { areas, names };
}

/** All networks of one cause as one path: small outlines of its mark. */
function points(x, y) {
  return zoo.causes.map((cause, i) => {
    const own = zoo.points.filter((point) => point.cause === cause);
    const marks = own.map((point) => shape(i, x(point.temperature), y(point.load), 2.1));
    return svg("path", { class: `zoo v-${known(cause)}`, d: marks.join("") });
  });
}

function shape(cause, x, y, size) {
  const [l, r, t, b] = [x - size, x + size, y - size, y + size].map((value) => value.toFixed(1));
  const [mx, my] = [x.toFixed(1), y.toFixed(1)];
  const name = zoo.causes[cause];
  if (name === "temperature_too_high") return `M${mx} ${t}L${r} ${b}H${l}z`;
  if (name === "temperature_too_low") return `M${mx} ${b}L${r} ${t}H${l}z`;
  if (name === "model_too_small") return `M${l} ${t}H${r}V${b}H${l}z`;
  if (name === "too_little_data") return `M${mx} ${t}L${r} ${my}L${mx} ${b}L${l} ${my}z`;
  return `M${l} ${my}a${size} ${size} 0 1 0 ${2 * size} 0a${size} ${size} 0 1 0 ${-2 * size} 0z`;
}

function frame(x, y) {
  const bottom = TOP + UP;
  return [
    svg("path", { class: "frame", d: `M${LEFT} ${TOP}V${bottom}H${LEFT + ACROSS}` }),
    ...GROWTHS.map((growth) => svg("text", { class: "tick", x: x(growth), y: bottom + 18, "text-anchor": "middle" }, number(growth))),
    ...LOADS.map((load) => svg("text", { class: "tick", x: LEFT - 7, y: y(load) + 4, "text-anchor": "end" }, `${Number((100 * load).toPrecision(3))}`)),
    svg("text", { class: "axis", x: LEFT + ACROSS / 2, y: bottom + 42, "text-anchor": "middle" }, "temperature →  growth of the weights (natural logarithm)"),
    svg("text", { class: "axis", transform: `translate(15 ${TOP + UP / 2}) rotate(-90)`, "text-anchor": "middle" }, "load →  train error (% of chance)"),
  ];
}

/** The ends of 1.96 standard errors, in the picture. */
function spread(job, x, y) {
  const [growth, load] = PLANE.map((name) => job.summary.plane[name]);
  const error = (metric) => 1.96 * (metric.standard_error ?? 0);
  return { x: [x(growth.value - error(growth)), x(growth.value + error(growth))], y: [y(load.value - error(load)), y(load.value + error(load))] };
}

function jobMark(job, [x, y], ends, compared, open) {
  const size = open ? 20 : compared ? 17 : 12;
  const verdict = known(job.summary.verdict);
  const made = svg("g", { class: `job v-${verdict}${open ? " open" : ""}`, onclick: () => { location.hash = `job=${job.id}`; } },
    svg("title", {}, `${nameOf(job, 60)}: ${verdictText(job.summary)}`),
    open || compared ? svg("path", { class: "error-bar", d: `M${ends.x[0]} ${y}H${ends.x[1]}M${x} ${ends.y[0]}V${ends.y[1]}` }) : null,
    svg("path", { class: "body", d: shapeOf(verdict), transform: `translate(${x - size / 2} ${y - size / 2}) scale(${size / 20})` }));
  const label = [compared ? String(compared) : "", open ? nameOf(job, 28) : ""].filter(Boolean).join("  ");
  if (!label) return [made];
  const right = x < LEFT + 0.62 * ACROSS;
  const above = y > TOP + 14;
  return [made, svg("text", { class: "job-name", x: x + (right ? size * 0.75 : -size * 0.75), y: above ? y + 4 : y + 14, "text-anchor": right ? "start" : "end" }, label)];
}

function table(jobs, number_of, unfolded) {
  if (jobs.length === 0) return "";
  const row = (job) => element("tr", {},
    element("th", { scope: "row" }, number_of(job) ? `${number_of(job)} ` : "", element("a", { href: `#job=${job.id}` }, named(nameOf(job, 60)))),
    element("td", {}, mark(job.summary.verdict, 12), ` ${words(job.summary.verdict)}`),
    element("td", { class: "number" }, number(job.summary.plane[PLANE[0]].value, 3)),
    element("td", { class: "number" }, number(100 * job.summary.plane[PLANE[1]].value, 3)));
  return element("details", { open: unfolded }, element("summary", {}, "As a table"),
    element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "The jobs on the map as a table" },
      element("table", {}, element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "job"), element("th", { scope: "col" }, "verdict"),
        element("th", { scope: "col", class: "number" }, "growth of the weights"), element("th", { scope: "col", class: "number" }, "train error, % of chance"))),
      element("tbody", {}, jobs.map(row)))));
}

/** Say why there is no map. */
export function absent(message) {
  byId("map").hidden = false;
  byId("map").replaceChildren(element("h2", { id: "map-title" }, "On the map of the zoo"), element("p", { class: "error" }, message));
  say(byId("map").lastChild, message);
}
