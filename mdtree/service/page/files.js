// The files to send: chosen or dropped, each with a role that is guessed from its name and can be changed.

import { byId, element, named, say } from "./dom.js";
import { bytes, visible } from "./words.js";

export const ROLES = {
  checkpoint: "checkpoint",
  sibling: "sibling",
  data: "data",
  init: "initial weights",
  record: "record",
  none: "leave out",
};
const SINGLE = ["checkpoint", "data", "init"];
const DATA_WORD = /(^|[._-])(data|dataset|samples?)([._-]|$)/i;
const INIT_WORD = /(^|[._-])(init|initial|pretrained)([._-]|$)/i;
const SIBLING_WORD = /sibling/i;

/** Roles of files by their names: one checkpoint, the other networks its siblings, one set of data. */
export function guessed(names, taken = []) {
  const used = new Set(taken);
  const first = used.has("checkpoint") ? -1 : firstNetwork(names);
  return names.map((name, i) => {
    if (isRecord(name)) return "record";
    if (isData(name)) return once(used, "data", "none");
    if (i === first) return "checkpoint";
    if (INIT_WORD.test(name)) return once(used, "init", "sibling");
    return "sibling";
  });
}

const isRecord = (name) => /\.json$/i.test(name);
const isData = (name) => /\.npz$/i.test(name) || (/\.safetensors$/i.test(name) && DATA_WORD.test(name));

function firstNetwork(names) {
  const networks = names.map((name, i) => [name, i]).filter(([name]) => !isRecord(name) && !isData(name));
  const likely = networks.find(([name]) => !SIBLING_WORD.test(name) && !INIT_WORD.test(name)) ?? networks[0];
  return likely ? likely[1] : -1;
}

function once(used, role, otherwise) {
  if (used.has(role)) return otherwise;
  used.add(role);
  return role;
}

let entries = [];
let limits = null;
let changed = () => {};
let dropped = () => {};

export const chosen = () => entries;
export const ofRole = (role) => entries.filter((entry) => entry.role === role);

/** What the server takes; files beyond it are refused before they are sent. */
export function setLimits(told) { limits = told; entries.forEach(check); }

function check(entry) {
  const most = entry.role === "record" ? limits?.body_bytes : limits?.file_bytes;
  if (most && entry.file.size > most) fault(entry, `${bytes(entry.file.size)}: this server takes ${entry.role === "record" ? "records" : "files"} of at most ${bytes(most)}.`);
  else if (entry.file.size === 0) fault(entry, "The file is empty.");
  else fault(entry, "");
}

export function fault(entry, text) {
  entry.fault = text;
  say(entry.error, text);
}

function add(files) {
  const fresh = [...files].filter((file) => !entries.some((one) => same(one.file, file)));
  const roles = guessed(fresh.map((file) => file.name), entries.map((entry) => entry.role));
  fresh.forEach((file, i) => {
    const entry = { file, role: roles[i], stored: null };
    entry.row = rowOf(entry);
    entries.push(entry);
    check(entry);
    byId("chosen").append(entry.row);
  });
  shown();
}

const same = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

function rowOf(entry) {
  const name = visible(entry.file.name, 80);
  entry.select = element("select", { "aria-label": `Role of ${name}`, onchange: () => give(entry, entry.select.value) },
    Object.entries(ROLES).map(([role, text]) => element("option", { value: role, selected: role === entry.role }, text)));
  entry.bar = element("progress", { max: 1, value: 0, "aria-label": `Sending ${name}`, hidden: true });
  entry.error = element("p", { class: "error", role: "alert", hidden: true });
  const remove = element("button", { type: "button", class: "small", "aria-label": `Remove ${name}`, onclick: () => takeOut(entry) }, "Remove");
  return element("li", {},
    element("span", { class: "file" }, named(name), " ", element("span", { class: "faint" }, bytes(entry.file.size))),
    entry.select, remove, entry.bar, entry.error);
}

function give(entry, role) {
  entry.role = role;
  for (const other of entries) {
    if (other === entry || other.role !== role || !SINGLE.includes(role)) continue;
    other.role = role === "checkpoint" ? "sibling" : "none";
    other.select.value = other.role;
    check(other);
  }
  check(entry);
  shown();
}

function takeOut(entry) {
  const place = entries.indexOf(entry);
  entries.splice(place, 1);
  entry.row.remove();
  if (entry.stored) dropped(entry.stored);
  // the focus goes to a neighbour, never to nowhere
  const next = entries[place] ?? entries[place - 1];
  (next ? next.select : byId("choose")).focus();
  shown();
}

export function clear() {
  entries = [];
  byId("chosen").replaceChildren();
  byId("files").value = "";
  shown();
}

function shown() {
  byId("chosen").hidden = entries.length === 0;
  say(byId("files-error"), "");
  changed();
}

/** Whether what is dragged over the page are files. */
const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

function take(event) {
  const folders = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter((one) => one?.isDirectory).map((one) => one.name);
  add([...event.dataTransfer.files].filter((file) => !folders.includes(file.name)));
  if (folders.length) say(byId("files-error"), `${visible(folders[0])} is a folder. Drop the files in it: this page sends single files.`);
}

/** Make the zone, the button and the whole page take files. `hooks`: changed(), dropped(id of a file that was sent). */
export function setUp(hooks) {
  ({ changed, dropped } = hooks);
  const zone = byId("zone");
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
  // anywhere on the page: a file that misses the zone must not replace the page
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    zone.classList.add("over");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    zone.classList.remove("over");
    if (!byId("content").hidden && !byId("choose").disabled) take(event);
  });
}
