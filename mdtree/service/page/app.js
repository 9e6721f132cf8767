// The page: what is asked of whom when, the token, and which job is open.

import * as api from "./api.js";
import * as compare from "./compare.js";
import { byId, say } from "./dom.js";
import * as jobs from "./jobs.js";
import * as map from "./map.js";
import * as upload from "./upload.js";
import * as verdict from "./verdict.js";
import { ended, nameOf, visible } from "./words.js";

const TITLE = "mdtree diagnosis";
let listed = [];

function announce(text) { byId("announcer").textContent = text; }

const askedFor = () => /^#job=([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;

function drawMap() {
  const open = verdict.openJob();
  map.show(listed, jobs.chosenJobs(), open?.summary ? open : null);
}

/** Open the job that the address names. With `moving` the focus goes to its card. */
async function openAsked(moving) {
  const id = askedFor();
  jobs.select(id);
  if (!id) { verdict.close(); document.title = TITLE; drawMap(); return; }
  try {
    const job = jobs.found(id) ?? await api.job(id);
    if (askedFor() !== id) return;
    verdict.show(job);
    document.title = `${nameOf(job, 60)} · ${TITLE}`;
  } catch (error) {
    if (askedFor() !== id || error.status === 401) return;
    verdict.absent(error.message);
  }
  drawMap();
  if (moving) {
    verdict.focus();
    byId("card").scrollIntoView({ block: "nearest" });
  }
}

/** The list has been asked for again: what is open follows it. */
async function onListed(found) {
  listed = found;
  const open = verdict.openJob();
  if (open) {
    const now = jobs.found(open.id);
    if (now) verdict.show(now);
    else if (!ended(open)) await follow(open);
  }
  drawMap();
}

/** The open job is not in the list (filtered away, or old): it is asked for by itself. */
async function follow(open) {
  try {
    const job = await api.job(open.id);
    if (verdict.openJob()?.id === job.id) verdict.show(job);
  } catch (error) {
    if (error.status === 404 && verdict.openJob()?.id === open.id) verdict.absent(error.message);
  }
}

function onSent(ids, all) {
  announce(all ? (ids.length === 1 ? "Sent." : `${ids.length} sent.`) : "Some were sent.");
  jobs.refresh();
  if (!all) return;
  if (location.hash === `#job=${ids[0]}`) openAsked(true);
  else location.hash = `job=${ids[0]}`;
}

function askDelete(job) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = `${nameOf(job, 60)} and its ${job.summary ? "diagnosis" : "entry in the list"} will be gone for good.`;
  byId("confirm-yes").onclick = async () => {
    dialog.close();
    try {
      await api.remove(job.id);
    } catch (error) {
      if (error.status !== 404) { say(byId("jobs-error"), error.message); return; }
    }
    jobs.forgetJob(job.id);
    history.replaceState(null, "", location.pathname);
    openAsked(false);
    announce(`${nameOf(job, 60)} was deleted.`);
    byId("jobs").focus();
    jobs.refresh();
  };
  byId("confirm-no").onclick = () => dialog.close();
  dialog.showModal();
  byId("confirm-no").focus();
}

/** Ask the server who it is; the page appears when it answers. */
async function start() {
  try {
    const server = await api.server();
    upload.setServer(server);
    byId("server").textContent = `mdtree ${server.version} · diagnoser ${visible(server.diagnoser?.name ?? server.diagnoser, 60)}`;
    signedIn();
  } catch (error) {
    if (error.status === 401) return;
    say(byId("lost"), `${error.message} Trying again.`);
    setTimeout(start, 3000);
    if (!(error instanceof api.ApiError)) throw error;
    return;
  }
  await Promise.all([jobs.refresh(), map.load().catch((error) => map.absent(error.message))]);
  await openAsked(false);
}

function signedIn() {
  say(byId("lost"), "");
  byId("sign-in").hidden = true;
  byId("content").hidden = false;
  byId("forget").hidden = api.token.get() === null;
}

function askToken() {
  const tried = api.token.get() !== null;
  api.token.forget();
  if (!byId("sign-in").hidden && !tried) return;
  byId("content").hidden = true;
  byId("forget").hidden = true;
  byId("sign-in").hidden = false;
  say(byId("token-error"), tried ? "The server does not know this token." : "");
  byId("token").focus();
}

function setUp() {
  api.events.addEventListener("unauthorised", askToken);
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    api.token.set(byId("token").value.trim());
    byId("token").value = "";
    start();
  });
  byId("forget").addEventListener("click", () => { api.token.forget(); location.reload(); });
  addEventListener("hashchange", () => { if (location.hash === "" || askedFor()) openAsked(true); });
  upload.setUp({ sent: onSent });
  verdict.setUp({ remove: askDelete, changed: jobs.refresh });
  byId("choice-compare").addEventListener("click", () => {
    byId("comparison-title").focus();
    byId("comparison").scrollIntoView();
  });
  jobs.setUp({
    listed: onListed,
    announce,
    chosen: (chosen) => { compare.show(chosen); drawMap(); },
    unfinished: () => verdict.openJob() !== null && !ended(verdict.openJob()),
  });
}

setUp();
start();
