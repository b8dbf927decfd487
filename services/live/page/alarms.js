// Alarms: open ones first, each with a button that acknowledges it.
import { send } from "./api.js";
import { ago, byId, everyFrame, make, setText } from "./dom.js";
import { markAlarms } from "./devices.js";

const kept = 500;
const shown = 100;
const gravity = { info: 1, warning: 2, error: 3, critical: 4 };
const alarms = new Map(); // by id: the newest revision
let loaded = false; // until then nobody knows whether anything is wrong
const refused = new Map(); // by id: why it could not be acknowledged

export function take(alarm) {
  const have = alarms.get(alarm.alarm_id);
  if (have && have.revision > alarm.revision) return;
  alarms.set(alarm.alarm_id, alarm);
  if (alarms.size > kept) {
    const oldest = [...alarms.values()].filter((a) => a.state === "cleared").sort((a, b) => (a.raised_at < b.raised_at ? -1 : 1))[0];
    if (oldest) alarms.delete(oldest.alarm_id);
  }
  draw();
}

async function acknowledge(alarm, button) {
  button.disabled = true;
  refused.delete(alarm.alarm_id);
  try {
    const answer = await send(`/v1/alarms/${encodeURIComponent(alarm.alarm_id)}/ack`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ by: "the page" }),
    });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.error);
    take(body);
  } catch (error) {
    refused.set(alarm.alarm_id, error.message);
    draw();
  }
}

const draw = everyFrame(() => {
  const all = [...alarms.values()];
  const open = all.filter((a) => a.state !== "cleared");
  const list = (byId("alarm-all").checked ? all : open).sort(order).slice(0, shown);
  byId("alarm-list").replaceChildren(...list.map(row));
  byId("alarm-none").hidden = list.length > 0 || !loaded;
  drawTile(open);
});

const order = (a, b) => (a.state === "cleared") - (b.state === "cleared") ||
  (a.state === "cleared" ? (a.cleared_at < b.cleared_at ? 1 : -1) : 0) || (a.state === "acknowledged") - (b.state === "acknowledged") ||
  (gravity[b.severity] ?? 0) - (gravity[a.severity] ?? 0) || (a.raised_at < b.raised_at ? 1 : -1);

function row(a) {
  const age = make("span", { "data-since": a.cleared_at ?? a.raised_at }, ago(a.cleared_at ?? a.raised_at));
  const button = a.state === "raised" ? make("button", { class: "plain", type: "button" }, "Acknowledge") : null;
  button?.addEventListener("click", () => acknowledge(a, button));
  const value = a.value ? ` = ${a.value.length > 60 ? `${a.value.slice(0, 59)}…` : a.value}` : "";
  const why = refused.get(a.alarm_id);
  const by = a.state === "acknowledged" && a.detail?.acknowledged_by ? ` by ${a.detail.acknowledged_by}` : "";
  return make("li", { class: `alarm ${a.severity} ${a.state}` },
    make("div", {}, make("span", { class: `badge ${a.severity}` }, a.severity), " ", make("b", {}, a.rule)),
    button ?? make("span", { class: "quiet" }, a.state + by),
    make("div", { class: "of said" }, a.detail?.summary ?? `${a.device_id}${a.channel_key ? ` · ${a.channel_key}` : ""}${value}`),
    make("div", { class: "of" }, a.detail?.summary ? `${a.device_id}${a.channel_key ? ` · ${a.channel_key}` : ""} · ` : "", a.state === "cleared" ? "cleared " : "", age),
    why ? make("div", { class: "of fault" }, why) : null);
}

// drawTile counts the open alarms, in the colour of the gravest, and tells the devices.
function drawTile(open) {
  const byDevice = new Map();
  let gravest = "";
  for (const a of open) {
    const before = byDevice.get(a.device_id);
    if (a.severity !== "info" && (gravity[a.severity] ?? 0) > (gravity[before] ?? 0)) byDevice.set(a.device_id, a.severity);
    if ((gravity[a.severity] ?? 0) > (gravity[gravest] ?? 0)) gravest = a.severity;
  }
  setText(byId("open-alarms"), loaded || open.length > 0 ? String(open.length) : "–");
  const raised = open.filter((a) => a.state === "raised").length;
  setText(byId("alarm-words"), !loaded ? "" : open.length === 0 ? "nothing is wrong" : `${raised} not acknowledged`);
  byId("alarm-tile").className = `tile ${gravest === "info" ? "" : gravest}`;
  markAlarms(byDevice);
}

export function settle() {
  loaded = true;
  draw();
}

export function startAlarms() {
  byId("alarm-all").addEventListener("change", draw);
  setInterval(() => document.querySelectorAll("[data-since]").forEach((e) => setText(e, ago(e.dataset.since))), 1000);
  draw();
}
