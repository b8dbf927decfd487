// Speaks to the instance that served the page: requests, and the stream of events with resume. The token, where one is asked for,
// is in a header and never in an address, which is why the stream is read by fetch and not by EventSource.
import { byId } from "./dom.js";

const tokenKey = "millrace-token";
let login = null; // the question under way

function headers(more = {}) {
  const token = sessionStorage.getItem(tokenKey);
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

// askToken shows the question once, however many requests wait for the answer.
function askToken() {
  login ??= new Promise((resolve) => {
    const dialog = byId("login");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(tokenKey, byId("login-token").value.trim());
      byId("login-token").value = "";
      login = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return login;
}

// send returns the answer to a request, after the question for a token where one is needed.
export async function send(path, options = {}) {
  for (;;) {
    const used = sessionStorage.getItem(tokenKey);
    const answer = await fetch(path, { ...options, headers: headers(options.headers) });
    if (answer.status !== 401) return answer;
    if (used === sessionStorage.getItem(tokenKey)) await askToken();
  }
}

// get returns the JSON of an answer; an error has the server's own words and the answer's code.
export async function get(path, options) {
  const answer = await send(path, options);
  const body = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw Object.assign(new Error(body.error || answer.statusText), { code: answer.status });
  return body;
}

// follow reads the stream for ever and comes back to where it was. on has event(name, data), and state(name) for "live", "down".
export async function follow(query, on) {
  let last = "", wait = 500;
  for (;;) {
    try {
      const answer = await send(`/v1/live?${query}`, { headers: last ? { "Last-Event-ID": last } : {}, cache: "no-store" });
      if (answer.status === 400) last = ""; // the token is of another log
      if (!answer.ok) throw new Error(answer.statusText);
      on.state("live");
      wait = 500;
      await readEvents(answer.body, (event) => {
        if (event.id) last = event.id;
        if (event.data) on.event(event.name, JSON.parse(event.data));
      });
    } catch (error) {
      console.info("live:", error.message);
    }
    on.state("down");
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, 8000);
  }
}

// readEvents reads server-sent events (WHATWG HTML, section 9.2).
async function readEvents(body, each) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", event = { name: "", id: "", data: "" };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        each(event);
        event = { name: "", id: "", data: "" };
        continue;
      }
      const colon = line.indexOf(":");
      const field = line.slice(0, colon), text = line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") event.name = text;
      else if (field === "id") event.id = text;
      else if (field === "data") event.data += text;
    }
  }
}
