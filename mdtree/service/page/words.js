// Words and numbers, as the reports write them.

const SHORT = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu;

/** Text of unknown origin on one line: what cannot be seen stands as its escape, of long text the middle is left out. */
export function visible(text, longest = 120) {
  const letters = [...String(text)];
  const half = Math.floor((longest - 1) / 2);
  const short = letters.length > longest ? `${letters.slice(0, half).join("")}…${letters.slice(-half).join("")}` : letters.join("");
  return short.replace(UNSEEN, (one) => {
    const point = one.codePointAt(0).toString(16);
    const [letter, length] = point.length <= 2 ? ["x", 2] : point.length <= 4 ? ["u", 4] : ["U", 8];
    return SHORT[one] ?? `\\${letter}${point.padStart(length, "0")}`;
  });
}

/** What a job is called. */
export const nameOf = (job, longest = 120) => visible(job.name, longest).trim() || "unnamed";

export const words = (name) => visible(String(name).replaceAll("_", " "));

export const percent = (share) => `${(100 * share).toFixed(0)}%`;

const SIGNED = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "always" });

/** `+4.2 ± 0.5`, in points of test accuracy; null where nothing is expected. */
export function gain(points, error) {
  if (typeof points !== "number") return null;
  return `${SIGNED.format(points).replace("-", "−")} ± ${(error ?? 0).toFixed(1)}`;
}

/** A measured value with six digits. */
export function number(value, digits = 6) {
  if (typeof value !== "number" || !Number.isFinite(value)) return visible(value, 30);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 10 ** digits || size < 1e-4 ? value.toExponential(digits - 1).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

export const errorOf = (error) => (error ? `± ${number(error, 2)}` : "");

/** A value beside a threshold, with as many digits as it takes to read on its own side of it. */
export function beside(value, threshold) {
  for (let digits = 6; digits < 18; digits += 1) {
    if ((Number(value.toPrecision(digits)) <= threshold) === (value <= threshold)) return number(value, digits);
  }
  return String(value);
}

const BINARY = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < BINARY.length - 1) { value /= 1024; unit += 1; }
  if (unit === 0) return count === 1 ? "1 byte" : `${count} bytes`;
  return `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${BINARY[unit]}`;
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/** How long ago: "3 minutes ago", "just now". */
export function age(time, now = Date.now()) {
  const seconds = (now - Date.parse(time)) / 1000;
  for (const [unit, length] of UNITS) {
    const count = Math.floor(seconds / length);
    if (count >= 1) return `${count} ${unit}${count > 1 ? "s" : ""} ago`;
  }
  return "just now";
}

export const moment = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
export const day = (time) => new Date(time).toLocaleDateString(undefined, { dateStyle: "medium" });

const STATES = { queued: "waiting", running: "running", done: "done", failed: "failed", cancelled: "cancelled" };
export const stateText = (state) => STATES[state] ?? words(state);
export const STATE_NAMES = Object.keys(STATES);
export const ended = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** The share of the present step that is done; null where it has just begun or ended, and the next is not known. */
function shareDone(job) {
  const share = job.progress?.share;
  return share > 0 && share < 1 ? share : null;
}

/** Let a bar show how far a job is: filled so far, or on the move. */
export function fillBar(bar, job) {
  const share = shareDone(job);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

/** What a job does, in one line. */
export function standing(job) {
  if (job.state === "queued") {
    if (!job.position) return "waiting, the next";
    return `waiting, ${job.position} before it`;
  }
  if (job.state === "running") {
    const { stage, text } = job.progress ?? {};
    const share = shareDone(job);
    const said = [stage && words(stage), text && visible(text)].filter(Boolean).join(": ") || "starting";
    return share === null ? said : `${said}, ${percent(share)}`;
  }
  return stateText(job.state);
}

/** The verdict with its probability: "model too small 73%". */
export function verdictText(summary) {
  return `${words(summary.verdict)} ${percent(summary.confidence)}`;
}

const EVIDENCE = {
  alone: "the network alone, on its training data",
  alone_test: "the network alone, on training and test data",
  sibling: "the network and its sibling, on their training data",
  sibling_test: "the network and its sibling, on training and test data",
};
export const evidenceText = (evidence) => EVIDENCE[evidence] ?? words(evidence);

/** What to try, as the reports say it. */
export const advised = (summary) => (summary.what_to_try ? visible(summary.what_to_try, 240) : summary.advice ? visible(summary.advice, 240) : "nothing: no single change is known to gain a point");

const POINTS = " points of test accuracy";
export const expected = (summary) => {
  const text = gain(summary.expected_gain_points, summary.expected_gain_standard_error);
  return text && summary.verdict !== "undetermined" ? text + POINTS : null;
};
