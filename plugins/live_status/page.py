"""The page: one document without anything from elsewhere. It polls the JSON beside it."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Live status</title>
<style>
  :root { color-scheme: light dark; --ink: #1d2733; --dim: #66788a; --line: #d8e0e8; --paper: #f6f8fa; --card: #fff;
          --first: #0b7285; --second: #d9480f; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6edf3; --dim: #8b9cae; --line: #2c3843; --paper: #11171d; --card: #182029;
            --first: #3bc9db; --second: #ffa94d; } }
  * { box-sizing: border-box; }
  body { margin: 0 auto; padding: 1.5rem; max-width: 70rem; background: var(--paper); color: var(--ink);
         font: 15px/1.5 system-ui, sans-serif; }
  header { display: flex; align-items: baseline; gap: 1rem; flex-wrap: wrap; }
  h1 { margin: 0; font-size: 1.4rem; }
  h2 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; display: flex; justify-content: space-between; gap: 1rem; }
  h2 output { color: var(--dim); font-weight: 400; font-variant-numeric: tabular-nums; }
  #connection { color: var(--dim); }
  #connection.lost { color: var(--second); }
  main { display: grid; gap: 1rem; margin-top: 1rem; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
  section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0; }
  section.wide { grid-column: 1 / -1; overflow-x: auto; }
  svg { display: block; width: 100%; height: 9rem; }
  polyline { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
  .first { stroke: var(--first); } .second { stroke: var(--second); }
  .grid { stroke: var(--line); vector-effect: non-scaling-stroke; }
  table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
  th, td { text-align: right; padding: .25rem .5rem; border-top: 1px solid var(--line); white-space: nowrap; }
  th { color: var(--dim); font-weight: 500; border-top: 0; }
  th:first-child, td:first-child { text-align: left; }
  td.text { text-align: left; white-space: normal; }
  .empty { color: var(--dim); margin: 0; }
  select { font: inherit; }
</style>
</head>
<body>
<header>
  <h1>Live status</h1>
  <label>of <select id="host" aria-label="machine"></select></label>
  <span id="connection">connecting</span>
</header>
<main>
  <section><h2>CPU <output id="cpu-now"></output></h2><svg id="cpu" preserveAspectRatio="none"></svg></section>
  <section><h2>Memory <output id="memory-now"></output></h2><svg id="memory" preserveAspectRatio="none"></svg></section>
  <section><h2>Network <output id="network-now"></output></h2><svg id="network" preserveAspectRatio="none"></svg></section>
  <section><h2>Disks</h2><div id="disks"></div></section>
  <section class="wide"><h2>CPU by minute, derived while the samples are written</h2><div id="minutes"></div></section>
  <section class="wide"><h2>Alerts</h2><div id="alerts"></div></section>
</main>
<script>
"use strict";
const byId = (id) => document.getElementById(id);
const percent = (value) => value == null ? "–" : value.toFixed(1) + " %";
const bytes = (value) => {
  const units = ["B/s", "kB/s", "MB/s", "GB/s"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return value.toFixed(unit ? 1 : 0) + " " + units[unit];
};
const clock = (timeMs) => new Date(timeMs).toLocaleTimeString();

function element(name, attributes, ...children) {
  const inSvg = ["line", "polyline"].includes(name);
  const made = inSvg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/* One line a figure over the last `seconds`; the right edge is now. Width and height are seconds and 0..top. */
function draw(id, points, seconds, figures, top) {
  const last = points.length ? points[points.length - 1].time_ms : 0;
  const svg = byId(id);
  svg.setAttribute("viewBox", `0 0 ${seconds} 100`);
  const grid = [25, 50, 75, 100].map((y) => element("line", { class: "grid", x1: 0, x2: seconds, y1: y, y2: y }));
  const lines = figures.map(([figure, style]) => element("polyline", {
    class: style,
    points: points.map((point) =>
      `${seconds - (last - point.time_ms) / 1000},${100 - 97 * point[figure] / top}`).join(" "),
  }));
  svg.replaceChildren(...grid, ...lines);
}

function table(id, head, rows, whenEmpty) {
  if (!rows.length) { byId(id).replaceChildren(element("p", { class: "empty" }, whenEmpty)); return; }
  byId(id).replaceChildren(element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", {}, text)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text, column) =>
      element("td", column && typeof text !== "number" && text.length > 20 ? { class: "text" } : {}, String(text))))))));
}

function show(state) {
  const newest = (points) => points.length ? points[points.length - 1] : null;
  const select = byId("host");
  if (select.options.length !== state.hosts.length) {
    select.replaceChildren(...state.hosts.map((host) => element("option", {}, host)));
    select.value = state.host;
  }
  draw("cpu", state.cpu, state.seconds, [["percent", "first"]], 100);
  byId("cpu-now").value = percent(newest(state.cpu)?.percent);
  draw("memory", state.memory, state.seconds, [["percent", "first"]], 100);
  byId("memory-now").value = percent(newest(state.memory)?.percent);
  const busiest = Math.max(1000, ...state.network.flatMap((p) => [p.received_bytes_per_s, p.sent_bytes_per_s]));
  draw("network", state.network, state.seconds,
    [["received_bytes_per_s", "first"], ["sent_bytes_per_s", "second"]], busiest);
  const traffic = newest(state.network);
  byId("network-now").value = traffic
    ? `in ${bytes(traffic.received_bytes_per_s)}, out ${bytes(traffic.sent_bytes_per_s)}` : "–";
  table("disks", ["path", "used"], state.disks.map((disk) => [disk.path, percent(disk.used_percent)]), "none seen");
  table("minutes", ["minute", "samples", "min", "mean", "max"], state.minutes.map((minute) =>
    [clock(minute.time_ms), minute.count, percent(minute.min), percent(minute.mean), percent(minute.max)]),
    "nothing derived yet");
  table("alerts", ["time", ""], state.alerts.map((alert) => [clock(alert.time_ms), alert.message]), "none");
}

async function poll() {
  const host = byId("host").value;
  const connection = byId("connection");
  try {
    const answer = await fetch("?" + new URLSearchParams(host ? { host } : {}), { cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.text()).slice(0, 200));
    show(await answer.json());
    connection.textContent = "updated " + new Date().toLocaleTimeString();
    connection.className = "";
  } catch (error) {
    connection.textContent = "no answer: " + error.message;
    connection.className = "lost";
  }
  setTimeout(poll, 1000);
}
poll();
</script>
</body>
</html>
"""
