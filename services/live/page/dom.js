// Building blocks of the page. Everything that comes from outside is set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// make builds an element: attributes by name, "on…" as listeners, children as elements or text.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((c) => c != null));
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const svgNamespace = "http://www.w3.org/2000/svg";

export function makeSVG(tag, attributes = {}, ...children) {
  const element = document.createElementNS(svgNamespace, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// drawSpark shows the values as a line that fills the element.
export function drawSpark(svg, values) {
  let line = svg.firstChild;
  if (!line) {
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
    line = makeSVG("polyline");
    svg.append(line);
  }
  const low = Math.min(...values), high = Math.max(...values), span = high - low;
  if (values.length < 2 || span === 0) return line.setAttribute("points", ""); // a flat line says nothing
  line.setAttribute("points", values.map((v, i) =>
    `${((i * 100) / (values.length - 1)).toFixed(1)},${(27 - ((v - low) * 24) / span).toFixed(1)}`).join(" "));
}

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const formatNumber = (n) => number.format(n);

export const formatCount = (n) => (Math.abs(n) < 10000 ? new Intl.NumberFormat("en", { maximumFractionDigits: Math.abs(n) < 10 ? 1 : 0 }).format(n) : short.format(n));

// formatSeconds writes a length of time in its largest unit.
export function formatSeconds(s) {
  if (s < 0.0005) return "0 s";
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

// ago writes how long a moment is past.
export function ago(time, now = Date.now()) {
  if (!time) return "";
  const s = (now - Date.parse(time)) / 1000;
  return s < 1.5 ? "now" : `${formatSeconds(s)} ago`;
}

export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });

// everyFrame calls draw before the next frame, however often it is asked for until then.
export function everyFrame(draw) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  };
}
