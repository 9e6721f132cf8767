// The service over HTTP. Every refusal arrives as an ApiError with the server's own sentence.

const KEPT = "mdtree-token";
const SILENT = "The server does not answer. Is it running, and is this machine on its network?";

/** A refusal: its status (0: no answer at all), its code, its sentence, and the field it is about, if any. */
export class ApiError extends Error {
  constructor(status, code, message, field = null) {
    super(message);
    Object.assign(this, { status, code, field });
  }
}

export const events = new EventTarget();

export const token = {
  get: () => sessionStorage.getItem(KEPT),
  set: (text) => sessionStorage.setItem(KEPT, text),
  forget: () => sessionStorage.removeItem(KEPT),
};

function headersOf(more = {}) {
  const kept = token.get();
  return kept ? { Authorization: `Bearer ${kept}`, ...more } : more;
}

function refusal(status, text) {
  let told = {};
  try { told = JSON.parse(text).error ?? {}; } catch { /* an answer from something in between */ }
  if (status === 401) events.dispatchEvent(new Event("unauthorised"));
  return new ApiError(status, told.code ?? "unknown", told.message ?? `The server answered ${status}.`, told.field ?? null);
}

/** Ask; the answer's text. */
export async function ask(method, path, { json, headers, signal } = {}) {
  const body = json === undefined ? undefined : typeof json === "string" ? json : JSON.stringify(json);
  const typed = body === undefined ? headers : { "Content-Type": "application/json", ...headers };
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: headersOf(typed), redirect: "error" });
    const text = await response.text();
    if (!response.ok) throw refusal(response.status, text);
    return { text, location: response.headers.get("Location") };
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(0, "no_answer", SILENT);
  }
}

const parsed = async (...asked) => JSON.parse((await ask(...asked)).text);

export const server = () => parsed("GET", "/v1/server");
export const zooMap = () => parsed("GET", "/v1/zoo-map");
export const job = (id) => parsed("GET", `/v1/jobs/${id}`);
export const result = async (id) => (await ask("GET", `/v1/jobs/${id}/result`)).text;
export const cancel = (id) => parsed("POST", `/v1/jobs/${id}/cancel`);
export const remove = (id) => ask("DELETE", `/v1/jobs/${id}`);
export const dropFile = (id) => ask("DELETE", `/v1/files/${id}`);
export const link = (jobs) => parsed("POST", "/v1/links", { json: { jobs } });

/** A page of jobs, newest first, and the `next`, if any; `filters` holds state, verdict, name, and `before`. */
export async function jobs(filters, limit) {
  const query = new URLSearchParams({ limit });
  for (const [name, value] of Object.entries(filters)) if (value) query.set(name, value);
  return parsed("GET", `/v1/jobs?${query}`);
}

const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Post what makes a job. Where no answer came it is sent again under the same key, so that it is made once. */
async function made(path, json) {
  const headers = { "Idempotency-Key": randomKey() };
  for (const wait of [500, 2000, null]) {
    try {
      return await ask("POST", path, { json, headers });
    } catch (error) {
      if (error.status !== 0 || wait === null) throw error;
      await pause(wait);
    }
  }
  return null;
}

export const newJob = async (request) => JSON.parse((await made("/v1/jobs", request)).text);

/** Send a record; the id of its job. */
export const newRecord = async (text) => (await made("/v1/records", text)).location.split("/").pop();

/** Send a file; `onShare` hears which share of it has left. */
export function upload(file, onShare, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) throw new DOMException("stopped", "AbortError");
    const request = new XMLHttpRequest();
    request.open("POST", `/v1/files?name=${encodeURIComponent(file.name.toWellFormed?.() ?? file.name)}`);
    for (const [name, value] of Object.entries(headersOf({ "Content-Type": "application/octet-stream" }))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onShare(event.lengthComputable ? event.loaded / event.total : 0));
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(new ApiError(0, "no_answer", "The connection was lost while the file was sent. Send it again.")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
