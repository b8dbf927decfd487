// What is alive: the tiles at the top and the table of workers.
import { get } from "./api.js";
import { byId, drawSpark, formatCount, formatSeconds, make, setText } from "./dom.js";
import { connected, known } from "./devices.js";

const every = 2000; // ms
const points = [];
const lagging = 5; // seconds from which a worker counts as behind

let looking = false;

async function look() {
  if (looking) return; // the last answer may wait for a token
  looking = true;
  try {
    const s = await get("/v1/status");
    tiles(s);
    byId("worker-rows").replaceChildren(...s.workers.map(row));
    setText(byId("version"), s.version ? `version ${s.version}${s.started ? `, up ${formatSeconds((Date.parse(s.now) - Date.parse(s.started)) / 1000)}` : ""}` : "");
    setText(byId("listeners"), Object.entries(s.listeners).map(([name, addr]) => `${name} on ${addr}`).join(" · "));
    const words = [...s.warnings];
    if (!s.ready) words.push(`Not ready: ${s.not_ready}`);
    if (!s.live.stores) words.push("The stores are in another process: only what happens from now on is shown.");
    byId("notices").replaceChildren(...words.map((w) => make("div", { class: "notice" }, w)));
  } catch (error) {
    byId("notices").replaceChildren(make("div", { class: "notice" }, `The instance does not answer: ${error.message}`));
  } finally {
    looking = false;
  }
}

function tiles(s) {
  setText(byId("rate"), formatCount(s.messages_per_second));
  points.push(s.messages_per_second);
  if (points.length > 60) points.shift();
  drawSpark(byId("rate-line"), points);
  const slowest = s.workers.reduce((a, b) => (b.lag_seconds > (a?.lag_seconds ?? -1) ? b : a), null);
  setText(byId("lag"), slowest ? formatSeconds(slowest.lag_seconds) : "–");
  setText(byId("lag-of"), !slowest ? "" : slowest.lag_seconds < 0.0005 ? "everything is read" : slowest.worker);
  setText(byId("connected"), String(connected()));
  setText(byId("known"), `of ${known()} known`);
}

function row(w) {
  const [kind, words] = w.retrying ? ["bad", w.retrying] : w.shares === 0 ? ["", "stands by"] : w.lag_seconds > lagging ? ["hot", "behind"] : ["calm", "ok"];
  return make("tr", {}, make("td", {}, w.worker), make("td", { class: "num" }, formatCount(w.records_per_second)), make("td", { class: "num" }, formatSeconds(w.lag_seconds)),
    make("td", { class: "num" }, formatCount(w.behind)), make("td", { class: "num" }, String(w.shares)), make("td", { class: "num" }, w.records.toLocaleString("en")),
    make("td", { class: "cell", title: words }, make("span", { class: `chip ${kind}` }, words)));
}

export function startStatus() {
  look();
  setInterval(() => { if (!document.hidden) look(); }, every);
}
