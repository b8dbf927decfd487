// The devices with the latest value of each channel.
import { ago, byId, drawSpark, everyFrame, formatNumber, make, setText } from "./dom.js";
import { showChannel } from "./detail.js";

const cardsMax = 60; // drawn at once; the filter finds the others
const devicesMax = 20000;
const sparkMax = 60;
const freshFor = 900; // ms

const devices = new Map(); // by id: {id, type, connection, seen, channels: Map, card, about, list}
let alarmed = new Map(); // device id to its gravest open severity
let filter = "", loaded = false;

function deviceOf(id, type) {
  let d = devices.get(id);
  if (!d) {
    if (devices.size >= devicesMax) return null;
    d = { id, type: "", connection: null, seen: "", channels: new Map(), card: null, dirty: new Set() };
    devices.set(id, d);
  }
  if (type) d.type = type;
  return d;
}

// take keeps a message if it is the newest of its channel.
export function take(m, live) {
  const d = deviceOf(m.device_id, m.device_type);
  if (!d) return;
  if (m.ingest_time > d.seen) d.seen = m.ingest_time;
  let c = d.channels.get(m.channel_key);
  if (!c) d.channels.set(m.channel_key, (c = { key: m.channel_key, time: "", points: [], row: null }));
  if (compareTimes(m.event_time, c.time) < 0) return;
  c.changed = live && c.text !== undefined && c.text !== m.channel_value;
  Object.assign(c, { time: m.event_time, text: m.channel_value, json: m.json, type: m.channel_type });
  if (m.value !== null && m.channel_type !== "boolean" && !/^(true|false)$/i.test(m.channel_value)) {
    c.points.push(m.value);
    if (c.points.length > sparkMax) c.points.shift();
  }
  d.dirty.add(c);
  draw();
}

// compareTimes compares RFC 3339 in UTC, whose fractions differ in length.
function compareTimes(a, b) {
  if (a === b) return 0;
  const plain = (t) => t.replace(/Z$/, "").padEnd(30, "\0");
  return plain(a) < plain(b) ? -1 : 1;
}

// takeDevice keeps what is known of a device's connection.
export function takeDevice(row) {
  const d = deviceOf(row.device_id, row.device_type);
  if (!d) return;
  d.connection = row;
  if (row.last_seen > d.seen) d.seen = row.last_seen;
  d.stale = true;
  draw();
}

export function markAlarms(byDevice) {
  alarmed = byDevice;
  for (const d of devices.values()) d.stale = true;
  draw();
}

export const known = () => devices.size;
export const connected = () => [...devices.values()].filter((d) => d.connection?.connected).length;

function wanted(d) {
  if (!filter) return true;
  return d.id.toLowerCase().includes(filter) || d.type.toLowerCase().includes(filter) ||
    [...d.channels.keys()].some((k) => k.toLowerCase().includes(filter));
}

const draw = everyFrame(() => {
  const all = [...devices.values()].filter(wanted).sort((a, b) => (a.id < b.id ? -1 : 1));
  const shown = all.slice(0, cardsMax);
  const box = byId("device-cards");
  const before = [...box.children], after = shown.map(cardOf);
  if (before.length !== after.length || before.some((e, i) => e !== after[i])) box.replaceChildren(...after);
  for (const d of shown) {
    drawAbout(d);
    for (const c of d.dirty) drawChannel(d, c);
    d.dirty.clear();
  }
  const more = byId("device-more");
  more.hidden = all.length === 0 ? !loaded : all.length <= cardsMax;
  setText(more, all.length === 0 ? (filter ? "No device fits the filter." : "No device has said anything yet.") : `${all.length - cardsMax} more: narrow the filter.`);
});

function cardOf(d) {
  if (d.card) return d.card;
  d.dot = make("span", { class: "dot" });
  d.kind = make("span");
  d.age = make("span");
  d.list = make("div");
  d.card = make("article", { class: "card" }, make("h3", {}, d.dot, d.id), make("div", { class: "about" }, d.kind, d.age), d.list);
  for (const c of d.channels.values()) d.dirty.add(c);
  d.stale = true;
  return d.card;
}

function drawAbout(d) {
  setText(d.age, ago(d.seen));
  if (!d.stale) return;
  d.stale = false;
  const c = d.connection;
  const wide = [...d.channels.values()].some((c) => c.json !== undefined);
  d.card.className = `card ${wide ? "wide" : ""} ${alarmed.get(d.id) ?? ""}`;
  d.dot.className = `dot ${c?.connected ? "on" : c?.connected === false ? "off" : ""}`;
  d.dot.title = c?.connected ? `connected since ${new Date(c.connected_since).toLocaleString()}`
    : c?.connected === false ? `gone: ${c.disconnect_reason || "reason unknown"}` : "speaks over HTTP, or through a gateway";
  setText(d.kind, c?.connected === false ? `gone: ${c.disconnect_reason}` : d.type);
}

function drawChannel(d, c) {
  if (!c.row) {
    c.value = make("span", { class: "value" });
    c.row = make("button", { class: "channel", type: "button", title: "Show what came before", onclick: () => showChannel(d.id, c.key) }, make("span", { class: "key" }, c.key));
    const keys = [...d.channels.keys()].sort();
    const next = keys.slice(keys.indexOf(c.key) + 1).map((k) => d.channels.get(k).row).find((r) => r?.isConnected);
    d.list.insertBefore(c.row, next ?? null);
  }
  if (c.json !== undefined) drawParts(c, d);
  else drawValue(c);
  if (c.changed && c.points.length === 0) { // numbers move all the time, and have their line
    c.row.classList.add("fresh");
    clearTimeout(c.fading);
    c.fading = setTimeout(() => c.row.classList.remove("fresh"), freshFor);
  }
}

function drawValue(c) {
  const isNumber = c.points.length > 0;
  if (isNumber && !c.spark) {
    c.spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    c.spark.setAttribute("class", "spark");
    c.row.append(c.spark);
  }
  if (!c.value.isConnected) c.row.append(c.value);
  if (isNumber) {
    drawSpark(c.spark, c.points);
    setText(c.value, formatNumber(c.points.at(-1)));
  } else {
    c.value.replaceChildren(chip(c.text));
  }
}

const bad = /^(alarm|triggered|fault|error|failed|offline|tamper)/i;
const hot = /^(open|on|true|motion|unlocked|active)$/i;
const calm = /^(closed|set|armed|ok|locked)$/i;

function chip(text, name) {
  const kind = bad.test(text) ? "bad" : hot.test(text) ? "hot" : calm.test(text) ? "calm" : "";
  return make("span", { class: `chip ${kind}` }, name ? `${name}: ${text}` : text === "" ? "(empty)" : text);
}

// drawParts shows a JSON value: what has a state as chips, a line for each thing that has such things in it.
function drawParts(c, d) {
  if (!c.parts) {
    d.stale = true;
    c.parts = make("span", { class: "parts" });
    c.row.append(c.parts);
  }
  const lines = [];
  collectParts(c.json, lines, 0);
  c.parts.replaceChildren(...(lines.length ? lines.slice(0, 24) : [make("span", { class: "mono" }, JSON.stringify(c.json).slice(0, 160))]));
}

// textOf writes what a device says of itself, whatever it is: String fails of an object that has a toString of its own.
const textOf = (v) => (v !== null && typeof v === "object" ? JSON.stringify(v) : String(v));
const nameOf = (o) => textOf(o.name ?? o.Name ?? o.id ?? o.Id ?? "");
const stateOf = (o) => o.state ?? o.State ?? o.status ?? o.value;

function collectParts(value, lines, depth) {
  if (depth > 4 || value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    for (const v of value) collectParts(v, lines, depth + 1);
    return;
  }
  const inner = Object.values(value).filter((v) => Array.isArray(v)).flat().filter((v) => v !== null && typeof v === "object");
  const leaves = inner.filter((v) => stateOf(v) !== undefined && !Object.values(v).some(Array.isArray));
  const state = stateOf(value);
  if (state !== undefined) {
    lines.push(make("span", { class: "part" }, make("b", {}, nameOf(value)), chip(textOf(state)), ...leaves.map((l) => chip(textOf(stateOf(l)), nameOf(l)))));
    return;
  }
  if (leaves.length > 0 && leaves.length === inner.length) {
    lines.push(make("span", { class: "part" }, make("b", {}, nameOf(value)), ...leaves.map((l) => chip(textOf(stateOf(l)), nameOf(l)))));
    return;
  }
  for (const v of Object.values(value)) collectParts(v, lines, depth + 1);
}

export function settle() {
  loaded = true;
  draw();
}

export function startDevices() {
  byId("device-filter").addEventListener("input", (e) => { filter = e.target.value.trim().toLowerCase(); draw(); });
  setInterval(draw, 1000);
  draw();
}
