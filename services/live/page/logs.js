// The tail of the devices' logs, the newest line first.
import { byId, clock, everyFrame, make } from "./dom.js";

const kept = 500;
const shown = 120;
const rank = { Trace: 1, Debug: 2, Info: 3, Warning: 4, Error: 5, Critical: 6 };
const lines = []; // newest first
let paused = false, least = 2;

export function take(line) {
  const at = lines.findIndex((l) => l.event_time <= line.event_time);
  lines.splice(at < 0 ? lines.length : at, 0, line);
  if (lines.length > kept) lines.pop();
  if (!paused) draw();
}

const draw = everyFrame(() => {
  const list = lines.filter((l) => (rank[l.severity] ?? 0) >= least).slice(0, shown);
  byId("log-lines").replaceChildren(...list.map((l) => make("li", {},
    make("time", { datetime: l.event_time, title: l.event_time }, clock(l.event_time)),
    make("span", { class: `sev ${l.severity in rank ? l.severity : ""}` }, l.severity || "–"),
    make("span", { class: "said" }, make("span", {}, `${l.device_id}${l.source ? ` ${l.source}` : ""} `), l.message.slice(0, 2000)))));
});

export function startLogs() {
  byId("log-severity").addEventListener("change", (e) => { least = Number(e.target.value); draw(); });
  byId("log-pause").addEventListener("click", (e) => {
    paused = !paused;
    e.target.setAttribute("aria-pressed", String(paused));
    e.target.textContent = paused ? "Go on" : "Pause";
    if (!paused) draw();
  });
}
