// The list of jobs: kept up to date, filtered, chosen from.

import * as api from "./api.js";
import { VERDICTS, byId, element, mark, named, say } from "./dom.js";
import { STATE_NAMES, age, ended, expected, fillBar, moment, nameOf, standing, stateText, verdictText, visible, words } from "./words.js";

const PAGE = 25;
const BUSY = 1000;
const IDLE = 10000;
const SLOWEST = 30000;
export const MOST_COMPARED = 20;

let hooks = {};
let listed = [];
let complete = false;
let selected = null;
let chosen = new Map();
let timer = null;
let failures = 0;
let asking = null;
const rows = new Map();
const seen = new Map();

const filters = () => ({
  state: byId("filter-state").value,
  verdict: byId("filter-verdict").value,
  name: byId("filter-name").value.trim(),
});
const filtered = () => Object.values(filters()).some(Boolean);

/** The newest page, and what was loaded of older ones; unfinished jobs of those are asked for one by one. */
async function refreshed(wanted) {
  const { jobs: page, next } = await api.jobs(wanted, PAGE);
  if (!next) return [page, true];
  const last = listed.findIndex((job) => job.id === page.at(-1).id);
  const older = last < 0 ? [] : listed.slice(last + 1);
  return [[...page, ...await Promise.all(older.map((job) => (ended(job) ? job : again(job))))], complete && last >= 0];
}

async function again(job) {
  try { return await api.job(job.id); } catch (error) {
    if (error.status === 404) return { ...job, gone: true };
    throw error;
  }
}

/** Ask now; every later question waits for the one before, and an answer to a filter that has changed is dropped. */
export async function refresh() {
  clearTimeout(timer);
  const wanted = filters();
  const mine = asking = Symbol("question");
  try {
    const [found, all] = await refreshed(wanted);
    if (mine !== asking) return;
    failures = 0;
    listed = found.filter((job) => !job.gone);
    complete = all;
    say(byId("jobs-error"), "");
    show();
  } catch (error) {
    if (mine !== asking) return;
    failures += 1;
    if (error.status !== 401) say(byId("jobs-error"), `${error.message} Asking again.`);
    if (!(error instanceof api.ApiError)) throw error;
  } finally {
    if (mine === asking) later();
  }
}

function later() {
  clearTimeout(timer);
  if (document.hidden || byId("content").hidden) return;
  const unfinished = listed.some((job) => !ended(job)) || hooks.unfinished();
  timer = setTimeout(refresh, failures ? Math.min(BUSY * 2 ** failures, SLOWEST) : unfinished ? BUSY : IDLE);
}

async function loadMore() {
  const button = byId("more");
  button.disabled = true;
  try {
    const { jobs: page, next } = await api.jobs({ ...filters(), before: listed.at(-1).id }, PAGE);
    const known = new Set(listed.map((job) => job.id));
    const fresh = page.filter((job) => !known.has(job.id));
    listed = [...listed, ...fresh];
    complete = !next;
    show();
    rows.get(fresh[0]?.id)?.link.focus();
  } catch (error) {
    say(byId("jobs-error"), error.message);
  } finally {
    button.disabled = false;
  }
}

function show() {
  const list = byId("list");
  const ids = new Set(listed.map((job) => job.id));
  for (const [id, row] of rows) if (!ids.has(id)) { row.item.remove(); rows.delete(id); }
  listed.forEach((job, i) => {
    if (!rows.has(job.id)) rows.set(job.id, newRow(job));
    const { item } = rows.get(job.id);
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
    update(rows.get(job.id), job);
    announce(job);
    if (chosen.has(job.id)) chosen.set(job.id, job);
  });
  say(byId("no-jobs"), listed.length ? "" : filtered() ? "No job is like that." : "No job yet. What you send above appears here.");
  byId("more").hidden = complete || listed.length === 0;
  hooks.listed(listed);
}

/** Tell once, politely, when a job changes what it does. */
function announce(job) {
  const now = job.state === "running" ? `running ${job.progress?.stage ?? ""}` : job.state;
  const before = seen.get(job.id);
  seen.set(job.id, now);
  if (before === undefined || before === now) return;
  const said = job.summary ? verdictText(job.summary) : job.failure ? `failed: ${visible(job.failure.message, 240)}` : job.progress ? words(job.progress.stage) : stateText(job.state);
  hooks.announce(`${nameOf(job, 60)}: ${said}`);
}

function newRow(job) {
  const name = nameOf(job, 60);
  const box = element("input", { type: "checkbox", "aria-label": `Compare ${name}`, onchange: () => choose(job.id, box.checked) });
  const row = {
    box,
    link: element("a", { href: `#job=${job.id}` }, named(name)),
    about: element("p", { class: "about" }),
    bar: element("progress", { max: 1, "aria-label": `Progress of ${name}` }),
    said: element("p", { class: "said" }),
    time: element("time", { class: "faint", datetime: job.created_at, title: moment(job.created_at) }),
    shown: null,
  };
  row.stop = element("button", { type: "button", class: "small", "aria-label": `Cancel ${name}`, onclick: () => stop(job.id, row) }, "Cancel");
  row.item = element("li", {}, element("span", { class: "choose" }, box), element("p", { class: "name" }, row.link), row.time, row.about, row.said, row.bar, row.stop);
  return row;
}

function update(row, job) {
  row.job = job;
  row.time.textContent = age(job.created_at);
  row.box.hidden = !job.summary;
  row.box.checked = chosen.has(job.id);
  row.item.classList.toggle("selected", job.id === selected);
  if (job.id === selected) row.link.setAttribute("aria-current", "true");
  else row.link.removeAttribute("aria-current");
  const live = !ended(job);
  row.bar.hidden = job.state !== "running";
  fillBar(row.bar, job);
  row.stop.hidden = !live;
  const now = JSON.stringify([job.state, job.progress, job.position, job.failure]);
  if (now === row.shown) return;
  row.shown = now;
  row.about.replaceChildren(...about(job));
  row.said.textContent = job.failure ? visible(job.failure.message, 160) : live ? standing(job) : "";
  row.said.hidden = !row.said.textContent;
}

function about(job) {
  if (job.summary) {
    const gains = expected(job.summary)?.replace(" of test accuracy", "");
    return [mark(job.summary.verdict, 14), ` ${verdictText(job.summary)}`, gains ? element("span", { class: "faint" }, ` · ${gains}`) : null].filter(Boolean);
  }
  return ended(job) ? [element("span", { class: `state ${job.state}` }, stateText(job.state))] : [];
}

async function stop(id, row) {
  row.stop.disabled = true;
  try {
    await api.cancel(id);
    row.link.focus();
  } catch (error) {
    say(byId("jobs-error"), error.message);
  } finally {
    row.stop.disabled = false;
    refresh();
  }
}

function choose(id, on) {
  if (on && chosen.size >= MOST_COMPARED) {
    rows.get(id).box.checked = false;
    hooks.announce(`At most ${MOST_COMPARED} jobs are compared.`);
    return;
  }
  if (on) chosen.set(id, rows.get(id).job);
  else chosen.delete(id);
  tellChoice();
}

/** Say how many are chosen, where they are chosen. */
function tellChoice() {
  const count = chosen.size;
  byId("choice").hidden = count === 0;
  byId("choice-compare").hidden = count < 2;
  byId("choice-text").textContent = count === 1 ? "1 job chosen; choose another to compare." : `${count} jobs chosen.`;
  if (count) hooks.announce(byId("choice-text").textContent);
  hooks.chosen([...chosen.values()]);
}

function chooseNone() {
  const [first] = chosen.keys();
  chosen = new Map();
  for (const row of rows.values()) row.box.checked = false;
  tellChoice();
  (rows.get(first)?.box ?? byId("jobs")).focus();
}

export const chosenJobs = () => [...chosen.values()];

/** Show which job's card is open. */
export function select(id) {
  selected = id;
  for (const job of listed) if (rows.has(job.id)) update(rows.get(job.id), job);
}

/** A job was deleted; what was asked before that is not listened to, and the caller asks again. */
export function forgetJob(id) {
  asking = null;
  listed = listed.filter((job) => job.id !== id);
  if (chosen.delete(id)) tellChoice();
  show();
}

export const found = (id) => listed.find((job) => job.id === id);

/** `given`: listed(jobs), chosen(jobs), announce(text), unfinished(). */
export function setUp(given) {
  hooks = given;
  byId("filter-state").append(...STATE_NAMES.map((state) => element("option", { value: state }, stateText(state))));
  byId("filter-verdict").append(...VERDICTS.map((verdict) => element("option", { value: verdict }, words(verdict))));
  let typing = null;
  const anew = () => { listed = []; complete = false; refresh(); };
  byId("filter-name").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(anew, 250); });
  byId("filter-state").addEventListener("change", anew);
  byId("filter-verdict").addEventListener("change", anew);
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); anew(); });
  byId("more").addEventListener("click", loadMore);
  byId("choice-none").addEventListener("click", chooseNone);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !byId("content").hidden) refresh(); });
}
