// The box for queries.
import { send } from "./api.js";
import { byId, make, setText } from "./dom.js";

const rowsMax = 500; // drawn; the file has all

const examples = [
  ["Latest values", "SELECT device_id, channel_key, channel_value, event_time\nFROM device_state\nORDER BY event_time DESC\nLIMIT 50"],
  ["Messages by device, last hour", "SELECT device_id, count(*) AS messages, max(event_time) AS newest\nFROM device_messages\nWHERE event_time > now() - INTERVAL 1 HOUR\nGROUP BY device_id\nORDER BY messages DESC"],
  ["Minutes of a thermostat", "SELECT window_start, count, min, avg, max, p95\nFROM aggregates\nWHERE device_id = 'thermostat-1' AND channel_key = 'temperature' AND window_seconds = 60\nORDER BY window_start DESC\nLIMIT 60"],
  ["State of the panel's partitions", "SELECT p ->> '$.name' AS partition, p ->> '$.state' AS state, event_time\nFROM (SELECT unnest(from_json(channel_value -> '$.Partitions', '[\"JSON\"]')) AS p, event_time\n      FROM device_state WHERE channel_key = 'status@secvest')"],
  ["Alarms by rule", "SELECT rule, severity, count(*) AS times, max(raised_at) AS last\nFROM alarms\nGROUP BY ALL\nORDER BY times DESC"],
  ["Grave log lines", "SELECT event_time, device_id, severity, message\nFROM logs\nWHERE severity IN ('Error', 'Critical')\nORDER BY event_time DESC\nLIMIT 50"],
  ["Dead letters by reason", "SELECT reason, count(*) AS times, max(received_at) AS last, any_value(payload) AS example\nFROM dead_letters\nGROUP BY reason\nORDER BY times DESC"],
];

async function run(event) {
  event?.preventDefault();
  const words = byId("sql-words"), box = byId("sql-answer"), query = byId("sql-text").value;
  setText(words, "…");
  const began = performance.now();
  try {
    const answer = await ask(query, "application/json");
    const body = await answer.json();
    box.replaceChildren(table(body));
    const cut = body.truncated ? ", cut off" : body.rows.length > rowsMax ? `, ${rowsMax} shown` : "";
    setText(words, `${body.row_count.toLocaleString("en")} ${body.row_count === 1 ? "row" : "rows"}${cut}, ${Math.round(performance.now() - began)} ms`);
    byId("sql-csv").hidden = false;
  } catch (error) {
    box.replaceChildren(make("p", { class: "fault mono" }, error.message));
    setText(words, "");
    byId("sql-csv").hidden = true;
  }
  box.hidden = false;
}

async function ask(query, accept) {
  const answer = await send("/v1/sql", { method: "POST", headers: { "Content-Type": "text/plain", Accept: accept }, body: query });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

function table({ columns, rows }) {
  const isNumber = (c) => /INT|DOUBLE|FLOAT|DECIMAL/.test(c.type) && !c.type.endsWith("]");
  return make("table", {},
    make("thead", {}, make("tr", {}, ...columns.map((c) => make("th", { class: isNumber(c) ? "num" : "", title: c.type }, c.name)))),
    make("tbody", {}, ...rows.slice(0, rowsMax).map((r) => make("tr", {}, ...r.map((v, i) => cell(v, isNumber(columns[i])))))));
}

function cell(v, isNumber) {
  if (v === null) return make("td", { class: "cell null" }, "null");
  const text = typeof v === "object" ? JSON.stringify(v) : String(v);
  return make("td", { class: isNumber ? "cell num" : "cell", title: text.length > 50 ? text.slice(0, 2000) : null }, text.slice(0, 400));
}

async function save() {
  const answer = await ask(byId("sql-text").value, "text/csv");
  const url = URL.createObjectURL(await answer.blob());
  make("a", { href: url, download: "millrace.csv" }).click();
  URL.revokeObjectURL(url);
}

export function startSQL() {
  const text = byId("sql-text"), choice = byId("sql-examples");
  choice.append(...examples.map(([name], i) => make("option", { value: i }, name)));
  const pick = () => { text.value = examples[Number(choice.value)][1]; text.rows = Math.max(4, text.value.split("\n").length); };
  choice.addEventListener("change", () => { pick(); run(); });
  pick();
  byId("sql-form").addEventListener("submit", run);
  text.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) run(e); });
  byId("sql-csv").addEventListener("click", save);
}
