// What one channel has said, as a line or a list.
import { get } from "./api.js";
import { byId, clock, formatNumber, make, makeSVG } from "./dom.js";

const rows = 300;

export async function showChannel(device, channel) {
  const body = byId("detail-body");
  byId("detail-title").textContent = `${device} · ${channel}`;
  body.replaceChildren(make("p", { class: "quiet" }, "…"));
  byId("detail").showModal();
  try {
    const { messages } = await get(`/v1/devices/${encodeURIComponent(device)}/messages?limit=${rows}&channel=${encodeURIComponent(channel)}`);
    body.replaceChildren(...show(messages));
  } catch (error) {
    body.replaceChildren(make("p", { class: "fault" }, error.message));
  }
}

function show(messages) {
  if (messages.length === 0) return [make("p", { class: "quiet" }, "Nothing is kept of it yet.")];
  const parts = [];
  const numbers = messages.filter((m) => m.value !== null);
  if (numbers.length > 1) parts.push(chart(numbers.slice().reverse()));
  const newest = messages[0];
  if (newest.json !== undefined) parts.push(make("pre", {}, JSON.stringify(newest.json, null, 2)));
  const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "Event time"), make("th", {}, "Value"), make("th", {}, "Taken after"))));
  table.append(make("tbody", {}, ...messages.slice(0, 50).map((m) => make("tr", {},
    make("td", {}, new Date(m.event_time).toLocaleString()),
    make("td", { class: "cell", title: m.channel_value.slice(0, 2000) }, m.channel_value.slice(0, 200)),
    make("td", { class: "quiet" }, `${((Date.parse(m.ingest_time) - Date.parse(m.event_time)) / 1000).toFixed(2)} s`)))));
  parts.push(make("div", { class: "scroll" }, table));
  return parts;
}

// chart draws values over time, oldest first.
function chart(points) {
  const width = 720, height = 240, left = 56, right = 8, top = 10, bottom = 24;
  const times = points.map((p) => Date.parse(p.event_time)), values = points.map((p) => p.value);
  let low = Math.min(...values), high = Math.max(...values);
  if (low === high) { low -= 1; high += 1; }
  const from = Math.min(...times), span = Math.max(...times) - from || 1;
  const x = (t) => left + ((t - from) * (width - left - right)) / span;
  const y = (v) => top + ((high - v) * (height - top - bottom)) / (high - low);
  const svg = makeSVG("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Values over time" });
  for (let i = 0; i <= 4; i++) {
    const v = low + ((high - low) * i) / 4;
    svg.append(makeSVG("line", { x1: left, x2: width - right, y1: y(v), y2: y(v) }), makeSVG("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, formatNumber(Number(v.toPrecision(4)))));
  }
  for (const [t, anchor] of [[from, "start"], [from + span, "end"]]) {
    svg.append(makeSVG("text", { x: x(t), y: height - 6, "text-anchor": anchor }, clock(t)));
  }
  svg.append(makeSVG("polyline", { points: points.map((p, i) => `${x(times[i]).toFixed(1)},${y(p.value).toFixed(1)}`).join(" ") }));
  return svg;
}

export function startDetail() {
  const dialog = byId("detail");
  byId("detail-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
}
