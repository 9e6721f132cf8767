// Sending: the files one after another, then the job; records at once.

import * as api from "./api.js";
import { byId, element, say } from "./dom.js";
import * as files from "./files.js";
import { visible } from "./words.js";

// which field a sentence of the server is about
const ABOUT = [[/^no network named|^architecture\b/, "network"], [/^no data set named|^data\b/, "data"]];
const OF_MORE = /^(weights|precision|init|data\.options)\b/;

let stopper = null;
let most = null;

/** What the server takes and knows: its limits, and the names it offers. */
export function setServer(server) {
  most = server.limits;
  files.setLimits(server.limits);
  offer("networks", server.networks);
  offer("data-sets", server.data_sets);
}

function offer(id, names) {
  byId(id).replaceChildren(...names.map((name) => element("option", { value: name })));
}

const value = (id) => byId(id).value.trim() || null;

/** `train=500&classes=10` as an object. */
function options(text) {
  return Object.fromEntries((text ?? "").split("&").filter(Boolean).map((pair) => {
    const at = pair.indexOf("=");
    if (at < 1) throw new api.ApiError(422, "options", `data.options: ${visible(pair)} is none; write name=value&name=value.`);
    return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  }));
}

function precision() {
  const text = value("precision");
  if (text === null) return null;
  const read = Number(text.replace(",", "."));
  if (read >= 0.01 && read <= 1) return read;
  throw new api.ApiError(422, "precision", `precision: ${visible(text)} is none; write a number from 0.01 to 1.`);
}

/** What is wrong with the choice before anything is sent; null if nothing is. */
function amiss() {
  const chosen = files.chosen().filter((entry) => entry.role !== "none");
  if (chosen.length === 0) return "Choose a checkpoint or a record first.";
  const faulty = chosen.find((entry) => entry.fault && !entry.stored);
  if (faulty) return `${visible(faulty.file.name, 60)} cannot be sent: see beside it.`;
  const [checkpoint] = files.ofRole("checkpoint");
  if (!checkpoint && chosen.some((entry) => entry.role !== "record")) return "Choose which of the files is the checkpoint.";
  if (value("options") && !files.ofRole("data").length) return "Options of the data file are given, but no data file.";
  const siblings = files.ofRole("sibling").length;
  if (most && siblings > most.siblings) return `${siblings} siblings: this server takes at most ${most.siblings}.`;
  return null;
}

/** Say beside a file why it was refused. */
function besides(entry, error) {
  if (!(error instanceof api.ApiError) || error.status === 401) return error;
  files.fault(entry, error.message);
  return Object.assign(error, { told: true });
}

async function sendFile(entry) {
  if (entry.stored) return entry.stored;
  entry.bar.hidden = false;
  try {
    const stored = await api.upload(entry.file, (share) => { entry.bar.value = share; }, stopper.signal);
    entry.stored = stored.id;
    entry.bar.value = 1;
    return stored.id;
  } catch (error) {
    entry.bar.hidden = true;
    throw besides(entry, error);
  }
}

async function sendJob() {
  const settings = { options: options(value("options")), precision: precision() };
  const ids = {};
  for (const role of ["checkpoint", "sibling", "data", "init"]) {
    ids[role] = [];
    for (const entry of files.ofRole(role)) ids[role].push(await sendFile(entry));
  }
  const name = value("data");
  const data = ids.data.length ? { file: ids.data[0], options: settings.options } : name ? { name } : null;
  return api.newJob({
    checkpoint: ids.checkpoint[0],
    siblings: ids.sibling,
    init: ids.init[0] ?? null,
    data,
    architecture: value("network"),
    weights: value("weights"),
    data_checked: byId("data-checked").checked,
    precision: settings.precision,
  });
}

async function sendRecord(entry) {
  try {
    return await api.newRecord(await entry.file.text());
  } catch (error) {
    throw besides(entry, error);
  }
}

/** All of it; the ids of the jobs that were made. Records that were answered are not sent again. */
async function sendAll(made) {
  for (const entry of files.ofRole("record")) {
    entry.answered ??= await sendRecord(entry);
    made.push(entry.answered);
  }
  if (files.ofRole("checkpoint").length) made.push((await sendJob()).id);
}

function busy(on) {
  const focused = document.activeElement;
  for (const id of ["submit", "choose"]) byId(id).disabled = on;
  byId("submit").textContent = on ? "Sending…" : "Diagnose";
  byId("stop").hidden = !on;
  for (const entry of files.chosen()) {
    entry.row.querySelectorAll("select, button").forEach((one) => { one.disabled = on; });
    if (!on) entry.bar.hidden = true;
  }
  // what is disabled loses the focus, so it is handed on
  if (on && focused?.closest("#send")) byId("stop").focus();
  if (!on && (focused === byId("stop") || focused === document.body)) byId("submit").focus();
}

function refused(error) {
  if (error.name === "AbortError") return say(byId("send-error"), "Stopped.");
  // an upload is kept for a day alone: what is gone is sent again
  if (error.code === "unknown_file") for (const entry of files.chosen()) entry.stored = null;
  if (error.told) return say(byId("send-error"), "Not all was sent: see beside the file.");
  const about = error.field ?? error.message;
  if (OF_MORE.test(about)) byId("advanced").open = true;
  const field = OF_MORE.test(about) ? null : ABOUT.find(([pattern]) => pattern.test(about))?.[1];
  if (!field || byId(field).disabled) return say(byId("send-error"), error.message);
  byId(field).setAttribute("aria-invalid", "true");
  say(byId(`${field}-error`), error.message);
  return byId(field).focus();
}

function unmarked() {
  say(byId("send-error"), "");
  for (const [, field] of ABOUT) {
    byId(field).removeAttribute("aria-invalid");
    say(byId(`${field}-error`), "");
  }
}

function reset() {
  files.clear();
  byId("send").reset();
  byId("advanced").open = false;
}

async function submitted(event, sent) {
  event.preventDefault();
  if (stopper) return;
  unmarked();
  const wrong = amiss();
  if (wrong) { say(byId("send-error"), wrong); return; }
  stopper = new AbortController();
  busy(true);
  const made = [];
  let ended = false;
  try {
    await sendAll(made);
    ended = true;
  } catch (error) {
    refused(error);
    if (!(error instanceof api.ApiError) && error.name !== "AbortError") throw error;
  } finally {
    stopper = null;
    busy(false);
  }
  if (ended) reset();
  if (made.length) sent(made, ended);
}

/** `sent(ids, all)`: jobs that were made, and whether that is all that was to be sent. */
export function setUp({ sent }) {
  files.setUp({
    changed: () => {
      say(byId("send-error"), "");
      const own = files.ofRole("data").length > 0;
      byId("data").disabled = own;
      byId("data").placeholder = own ? "the file chosen above" : "as the checkpoint says";
    },
    dropped: (id) => api.dropFile(id).catch(() => { /* it expires by itself */ }),
  });
  byId("send").addEventListener("submit", (event) => submitted(event, sent));
  byId("stop").addEventListener("click", () => stopper?.abort());
  for (const [, field] of ABOUT) {
    byId(field).addEventListener("input", () => { byId(field).removeAttribute("aria-invalid"); say(byId(`${field}-error`), ""); });
  }
}
