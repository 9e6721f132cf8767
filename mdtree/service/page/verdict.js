// The card of one job: its verdict, what to try, what was measured, and what can be done with it.

import * as api from "./api.js";
import { bar, byId, code, element, mark, named, say } from "./dom.js";
import { pictures } from "./pictures.js";
import { advised, beside, day, ended, errorOf, evidenceText, expected, fillBar, gain, moment, nameOf, number, percent, standing, visible, words } from "./words.js";

const BLAME = {
  input: "What was sent cannot be used",
  resources: "It took more than this server allows",
  crashed: "It ended its process twice",
  server: "The server failed at it",
};

let hooks = {};
let shown = null;
let parts = {};
let renewal = null;

export const openJob = () => shown;

/** Close the card. */
export function close() {
  shown = null;
  clearTimeout(renewal);
  byId("card").hidden = true;
  byId("card").replaceChildren();
}

/** Show a job, or what has changed of it: what has the focus is left in place while only the progress moves. */
export function show(job) {
  const same = shown && shown.id === job.id && shown.state === job.state;
  shown = job;
  if (same) return moved(job);
  const kept = byId("card").contains(document.activeElement);
  build(job);
  if (kept) focus();
  return undefined;
}

export const focus = () => byId("card-name")?.focus();

/** Say that a job cannot be shown. */
export function absent(message) {
  close();
  byId("card").replaceChildren(element("h2", { id: "card-name", tabindex: "-1" }, "No such job"), element("p", { class: "error" }, message));
  byId("card").hidden = false;
}

function moved(job) {
  if (parts.said) parts.said.textContent = standing(job);
  if (parts.progress) fillBar(parts.progress, job);
}

function build(job) {
  clearTimeout(renewal);
  parts = { error: element("p", { class: "error", role: "alert", hidden: true }) };
  const name = nameOf(job);
  const body = job.summary ? answered(job) : [...unanswered(job), actions(job), parts.error];
  byId("card").replaceChildren(
    element("h2", { id: "card-name", tabindex: "-1" }, named(name)),
    element("p", { class: "faint small" }, times(job)), ...body);
  byId("card").hidden = false;
  if (job.summary) { fillDetails(job); openLinks(job); }
}

function times(job) {
  const said = [`${job.kind === "record" ? "A record" : "A checkpoint"}, sent ${moment(job.created_at)}`];
  if (job.summary && job.started_at && job.kind !== "record") said.push(`measured in ${((Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000).toFixed(1)} s`);
  if (job.expires_at) said.push(`kept until ${day(job.expires_at)}`);
  return said.join(" · ");
}

function unanswered(job) {
  if (job.failure) return failed(job);
  return ended(job) ? [element("p", {}, "It was cancelled before it was done.")] : waiting(job);
}

function waiting(job) {
  parts.said = element("p", { class: "said" }, standing(job));
  if (job.state !== "running") return [parts.said];
  parts.progress = element("progress", { max: 1, "aria-label": "Progress" });
  fillBar(parts.progress, job);
  return [parts.said, parts.progress];
}

function failed(job) {
  return [element("div", { class: "verdict v-undetermined" },
    element("p", { class: "answer" }, element("strong", {}, "No verdict")),
    element("p", {}, `${BLAME[job.failure.blame] ?? "It failed"}:`),
    element("p", { class: "sentence" }, named(visible(job.failure.message, 600))))];
}

const fact = (label, ...text) => element("div", {}, element("dt", {}, label), element("dd", {}, text));

function answered(job) {
  const { summary } = job;
  const sure = `${percent(summary.confidence)}${summary.verdict === "undetermined" ? " for the leading cause" : ""}${summary.reason ? `, ${words(summary.reason)}` : ""}`;
  const gains = expected(summary);
  const told = summary.notes ?? (summary.flags ?? []).map(words);
  parts.notes = element("ul", { class: "notes", hidden: told.length === 0 }, told.map((note) => element("li", {}, named(visible(note, 240)))));
  parts.details = element("div", {});
  return [element("div", { class: `verdict v-${summary.verdict}` },
    element("p", { class: "answer" }, mark(summary.verdict, 30), element("strong", {}, words(summary.verdict)), element("span", { class: "sure" }, sure)),
    element("dl", { class: "facts" },
      fact("Try", advised(summary)),
      gains ? fact("Expect", gains) : null,
      fact("Evidence", evidenceText(summary.evidence))),
    parts.notes), actions(job), parts.error, parts.details, metrics(summary)];
}

function metrics(summary) {
  const rows = Object.entries(summary.metrics ?? {}).filter(([, metric]) => metric);
  return element("details", {}, element("summary", {}, `Metrics (${rows.length})`),
    element("table", {},
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "metric"), element("th", { scope: "col", class: "number" }, "value"), element("th", { scope: "col", class: "number" }, "standard error"))),
      element("tbody", {}, rows.map(([name, { value, standard_error }]) => element("tr", {},
        element("th", { scope: "row" }, code(visible(name, 60))), element("td", { class: "number" }, number(value)), element("td", { class: "number" }, errorOf(standard_error)))))));
}

/** What only the whole diagnosis says: all causes, the path, pictures, what was opened. */
async function fillDetails(job) {
  const { details, notes, error } = parts;
  let diagnosis;
  try {
    diagnosis = JSON.parse(await api.result(job.id));
  } catch (problem) {
    say(error, problem.message);
    return;
  }
  for (const text of diagnosis.settle ?? []) notes.append(element("li", {}, element("strong", {}, "To settle it: "), named(visible(text, 240))));
  notes.hidden = notes.children.length === 0;
  details.replaceChildren(causes(diagnosis), path(diagnosis), ...pictures(diagnosis), opened(diagnosis));
}

function causes({ ranking }) {
  return element("details", { open: true }, element("summary", {}, "Causes"),
    // on a phone its rows are blocks: the roles keep it a table for those who hear it
    element("table", { class: "cards", role: "table" },
      element("caption", {}, "Expected gain in points of test accuracy; ± is one standard error."),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ["cause", "probability", "expected gain", "change"].map((text) => element("th", { scope: "col", role: "columnheader", class: text === "expected gain" ? "number" : null }, text)))),
      element("tbody", { role: "rowgroup" }, ranking.map((one) => element("tr", { role: "row" },
        element("th", { scope: "row", role: "rowheader" }, mark(one.failure, 14), " ", words(one.failure)),
        element("td", { role: "cell", class: "share" }, bar(one.probability, one.failure), " ", element("span", { class: "percent" }, percent(one.probability))),
        element("td", { role: "cell", class: "number", "data-label": "expected gain" }, gain(one.expected_gain_points, one.expected_gain_standard_error) ?? ""),
        element("td", { role: "cell", "data-label": "change" }, one.advice ? visible(one.advice.text, 240) : ""))))));
}

function path({ path: steps, answers }) {
  const told = new Map((answers ?? []).map(({ question, answer }) => [question, answer ? "yes" : "no"]));
  const items = steps.map((step, i) => {
    const compared = step.value === null ? [`not measured, threshold ${number(step.threshold)}`]
      : [element("strong", {}, beside(step.value, step.threshold)), ` ${errorOf(step.standard_error)} ${step.side === "left" ? "≤" : ">"} ${number(step.threshold)}`];
    return element("li", {}, step.question && step.question !== steps[i - 1]?.question ? asked(step.question, told) : null, code(visible(step.metric, 60)), " ", ...compared,
      step.straddles ? element("span", { class: "warn" }, "⚠ within its error of the threshold") : null);
  });
  return element("details", {}, element("summary", {}, `How the verdict was reached (${steps.length} comparisons)`), element("ol", { class: "path" }, items));
}

const asked = (question, told) => element("span", { class: "question" }, `${words(question)}?${told.has(question) ? ` → ${told.get(question)}` : ""}`);

function opened({ checkpoint, recipe }) {
  const told = [["Network", checkpoint?.model], ["Data", checkpoint?.data], ["Siblings", (checkpoint?.siblings ?? []).join(", ")], ["SHA-256", checkpoint?.sha256],
    ...Object.entries(recipe ?? {})].filter(([, text]) => text !== null && text !== undefined && text !== "" && typeof text !== "object");
  return element("details", {}, element("summary", {}, "What was opened, and how it was trained"),
    element("dl", { class: "facts" }, told.map(([label, text]) => fact(words(label), named(visible(text, 240))))));
}

function actions(job) {
  const row = element("p", { class: "actions" });
  if (job.summary) {
    parts.report = element("a", { class: "button primary", target: "_blank", rel: "noopener" }, "Open report");
    row.append(parts.report, element("button", { type: "button", onclick: () => download(job) }, "Download JSON"));
  }
  if (!ended(job)) row.append(element("button", { type: "button", onclick: () => stop(job) }, "Cancel"));
  else row.append(element("button", { type: "button", onclick: () => hooks.remove(job) }, "Delete"));
  return row;
}

/** The report's address holds a ticket that ends after some minutes; while the card is open it is renewed in time. */
async function openLinks(job) {
  const { report, error } = parts;
  try {
    const { url, expires_at: until } = await api.link([job.id]);
    report.setAttribute("href", url);
    clearTimeout(renewal);
    renewal = setTimeout(() => { if (shown?.id === job.id) openLinks(job); }, Math.max(Date.parse(until) - Date.now() - 60000, 30000));
  } catch (problem) {
    say(error, problem.message);
  }
}

async function download(job) {
  try {
    const address = URL.createObjectURL(new Blob([await api.result(job.id)], { type: "application/json" }));
    const stem = job.name.replace(/[^\w.+@=-]+/g, "_").slice(0, 80);
    element("a", { href: address, download: `${stem || "diagnosis"}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  } catch (problem) {
    say(parts.error, problem.message);
  }
}

async function stop(job) {
  try { show(await api.cancel(job.id)); } catch (problem) { say(parts.error, problem.message); }
  hooks.changed();
}

/** `given`: remove(job), changed(). */
export function setUp(given) {
  hooks = given;
  // a machine that slept may hold an old ticket
  document.addEventListener("visibilitychange", () => { if (!document.hidden && shown?.summary) openLinks(shown); });
}
