// Begins with the stream, then loads what was before it; whatever is newer wins, so that nothing falls between the two.
import { follow, get } from "./api.js";
import { byId } from "./dom.js";
import * as alarms from "./alarms.js";
import { startDetail } from "./detail.js";
import * as devices from "./devices.js";
import * as logs from "./logs.js";
import { startSQL } from "./sql.js";
import { startStatus } from "./status.js";

const refresh = 10000; // ms, for connections, of which there is no stream

// quietly returns the answer, or nothing where the stores are in another process.
const quietly = (path) => get(path).catch((error) => { console.info(path, error.message); return {}; });

async function loadState() {
  let path = "/v1/state?limit=5000";
  for (let pages = 0; pages < 4 && path; pages++) {
    const { state = [], next } = await quietly(path);
    for (const m of state) devices.take(m, false);
    path = next ? `/v1/state?limit=5000&cursor=${next}` : "";
  }
}

async function loadDevices() {
  const { devices: rows = [] } = await quietly("/v1/devices?limit=5000");
  rows.forEach(devices.takeDevice);
}

async function loadAlarms() {
  const [open, newest] = await Promise.all([quietly("/v1/alarms?state=open&limit=200"), quietly("/v1/alarms?limit=100")]);
  for (const a of [...(open.alarms ?? []), ...(newest.alarms ?? [])]) alarms.take(a);
}

async function loadLogs() {
  const { logs: rows = [] } = await quietly("/v1/logs?limit=100");
  rows.forEach(logs.take);
}

function onEvent(name, data) {
  switch (name) {
    case "state": return devices.take(data, true);
    case "alarms": return alarms.take(data);
    case "logs": return logs.take(data);
    case "missed": loadState(); loadAlarms();
  }
}

function onState(state) {
  const link = byId("link");
  link.className = `link ${state}`;
  link.textContent = state === "live" ? "live" : "connection lost, trying again";
}

devices.startDevices();
startDetail();
alarms.startAlarms();
logs.startLogs();
startSQL();
startStatus();
follow("streams=state,alarms,logs", { event: onEvent, state: onState });
Promise.all([loadState(), loadDevices()]).then(devices.settle);
loadAlarms().then(alarms.settle);
loadLogs();
setInterval(() => { if (!document.hidden) loadDevices(); }, refresh);
