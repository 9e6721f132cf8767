// Jobs side by side: verdicts, what to try, and all their metrics.

import * as api from "./api.js";
import { byId, code, element, mark, named, say } from "./dom.js";
import { advised, errorOf, evidenceText, gain, nameOf, number, verdictText, visible } from "./words.js";

let shown = "";
let renewal = null;

/** Show the jobs that were chosen, two or more. */
export function show(jobs) {
  const place = byId("comparison");
  const now = jobs.map((job) => job.id).join();
  if (now === shown) return;
  shown = now;
  clearTimeout(renewal);
  place.hidden = jobs.length < 2;
  place.replaceChildren();
  if (place.hidden) return;
  const title = element("h2", { id: "comparison-title", tabindex: "-1" }, "Side by side");
  const report = element("a", { class: "button primary", target: "_blank", rel: "noopener" }, "Open comparison report");
  const error = element("p", { class: "error", role: "alert", hidden: true });
  place.replaceChildren(title, element("p", { class: "actions" }, report), error,
    element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Table of the compared jobs" }, table(jobs)));
  fillLink(jobs, report, error);
}

function table(jobs) {
  const row = (label, text, className) => element("tr", {}, element("th", { scope: "row" }, label), jobs.map((job) => element("td", { class: className }, text(job))));
  const { summary: first } = jobs[0];
  const names = [...new Set([first, ...jobs.map((job) => job.summary)].flatMap((summary) => Object.keys(summary.metrics ?? {})))];
  return element("table", { class: "compared" },
    element("caption", {}, "Gain in points of test accuracy; ± is one standard error. The numbers are those on the map."),
    element("thead", {}, element("tr", {}, element("td", {}), jobs.map((job, i) => element("th", { scope: "col" }, `${i + 1} `, element("a", { href: `#job=${job.id}` }, named(nameOf(job, 60))))))),
    element("tbody", {},
      row("verdict", ({ summary }) => [mark(summary.verdict, 14), ` ${verdictText(summary)}`]),
      row("try", ({ summary }) => advised(summary)),
      row("expected gain", ({ summary }) => gain(summary.expected_gain_points, summary.expected_gain_standard_error) ?? "?", "number"),
      row("evidence", ({ summary }) => evidenceText(summary.evidence)),
      names.map((name) => row(code(visible(name, 60)), ({ summary }) => measured(summary.metrics?.[name]), "number"))));
}

const measured = (metric) => (metric ? [number(metric.value), " ", element("span", { class: "faint" }, errorOf(metric.standard_error))] : "not measured");

async function fillLink(jobs, report, error) {
  clearTimeout(renewal);
  try {
    const { url, expires_at: until } = await api.link(jobs.map((job) => job.id));
    report.setAttribute("href", url);
    clearTimeout(renewal);
    if (report.isConnected) renewal = setTimeout(() => fillLink(jobs, report, error), Math.max(Date.parse(until) - Date.now() - 60000, 30000));
  } catch (problem) {
    say(error, problem.message);
  }
}
