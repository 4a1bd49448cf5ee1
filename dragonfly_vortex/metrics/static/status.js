// The status page of a peer. Events name the sections of the status that have changed; all drawing follows from those.
// Text from the peer may come from strangers: it is set as text, and never read as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const state = {}; // all sections by name
const still = matchMedia("(prefers-reduced-motion: reduce)");

// -- words and numbers ------------------------------------------------------------------------------------------------

function bytes(count) {
  if (count === null || count === undefined) return "unknown";
  let unit = 0;
  for (; count >= 999.5 && unit < 5; unit++) count /= 1000;
  const digits = unit === 0 || count >= 99.95 ? 0 : count >= 9.995 ? 1 : 2;
  return `${count.toFixed(digits)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
}

const rate = (count) => `${bytes(Math.round(count))}/s`;
const whole = (count) => count.toLocaleString("en");
const counted = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;
const short = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 5)}…${text.slice(-4)}`);

function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(0, units.findIndex(([, length]) => seconds >= length));
  const [unit, length] = seconds < 1 ? units[3] : units[first];
  const text = `${Math.floor(seconds / length)} ${unit}`;
  const next = units[first + 1];
  const rest = next && seconds >= 1 ? Math.floor((seconds % length) / next[1]) : 0;
  return rest ? `${text} ${rest} ${next[0]}` : text;
}

function percent(task) {
  if (!task.content_length) return task.state === "done" ? 100 : null;
  return Math.min(100, (100 * task.received) / task.content_length);
}

const shown = (share) => (share === null ? "–" : `${share >= 99.95 ? "100" : share.toFixed(share < 10 ? 1 : 0)} %`);

// -- the document -----------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function draw(parent, tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Write the rows of a table. A cell is a text, or a node with a key that says when it has changed.
function fillTable(body, rows, wraps = 0) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, at) => {
    const row = body.rows[at] || body.insertRow();
    cells.forEach((cell, column) => {
      let place = row.cells[column];
      if (!place) {
        place = column ? make("td") : make("th", { scope: "row" });
        if (column < wraps) place.className = "wrap";
        row.append(place);
      }
      if (typeof cell === "string") put(place, cell);
      else if (place.dataset.key !== cell.key) {
        place.dataset.key = cell.key;
        place.replaceChildren(...cell.make());
      }
    });
  });
}

// -- colours: one for each peer, in the map, the legend and the swarm ----------------------------------------------------

const FOUND = ""; // the name of the storage, among the peers that pieces came from
const numbers = new Map();
let palette = new Map();

function colour(variable) {
  if (!palette.has(variable)) {
    palette.set(variable, getComputedStyle(document.documentElement).getPropertyValue(variable).trim());
  }
  return palette.get(variable);
}

function variableOf(name) {
  if (name === FOUND) return "--found";
  if (!numbers.has(name)) numbers.set(name, numbers.size);
  return `--c${numbers.get(name) % 8}`;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette = new Map();
  render();
});

// -- what a screen reader says: what begins, ends or is waited for, at most once in five seconds ----------------------------

const news = [];
let newsAt = 0;

function announce(text) {
  news.push(text);
  if (!newsAt) newsAt = setTimeout(speak, 200);
}

function speak() {
  $("news").textContent = news.length > 8 ? `${news.length} changes, the last: ${news.at(-1)}` : news.join(". ");
  news.length = 0;
  newsAt = setTimeout(() => { newsAt = 0; if (news.length) speak(); }, 5000);
}

// -- the map of a task's pieces -------------------------------------------------------------------------------------------

const FLASH = 900; // milliseconds for which a cell that has just been filled is bright
const OWNERS = "0123456789abcdefghijklmnopqrstuvwxyz";

class PieceMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.fill = "";
    this.owner = "";
    this.busy = new Set();
    this.since = [];
    this.names = [];
    this.isMoving = false;
    new ResizeObserver(() => this.paint()).observe(canvas);
  }

  show(task) {
    const now = performance.now();
    const isNew = this.fill.length !== task.fill.length;
    if (isNew) this.since = new Array(task.fill.length).fill(-FLASH);
    for (let at = 0; at < task.fill.length; at++) {
      if (!isNew && task.fill[at] > this.fill[at]) this.since[at] = now;
    }
    this.fill = task.fill;
    this.owner = task.owner;
    this.busy = new Set(task.state === "running" ? task.busy : []);
    this.names = task.parents.map((parent) => parent.name);
    this.isMoving = !still.matches && (this.busy.size > 0 || this.since.some((time) => now - time < FLASH));
    this.paint();
  }

  // The size of a cell: as large as a height of 132 pixels allows; a few cells share the whole width.
  layOut(width) {
    const count = this.fill.length;
    if (count * 22 <= width) return { columns: count, side: 22, step: width / count };
    let side = 22;
    while (side > 5 && Math.ceil(count / Math.floor(width / side)) * side > 132) side--;
    const columns = Math.floor(width / side);
    return { columns, side, step: width / columns };
  }

  paint(now = performance.now()) {
    const { canvas, fill } = this;
    const width = canvas.clientWidth;
    if (!width || !fill.length) return;
    const { columns, side, step } = this.layOut(width);
    const height = Math.ceil(fill.length / columns) * side;
    const ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.height = `${height}px`;
    }
    const brush = canvas.getContext("2d");
    brush.setTransform(ratio, 0, 0, ratio, 0, 0);
    brush.clearRect(0, 0, width, height);
    const gap = side > 9 ? 2 : 1;
    const pulse = still.matches ? 0.5 : 0.5 + 0.5 * Math.sin(now / 330);
    for (let at = 0; at < fill.length; at++) {
      const x = (at % columns) * step;
      const y = Math.floor(at / columns) * side;
      const box = [x, y, Math.max(1, step - gap), side - gap, Math.min(4, side / 4)];
      const level = Number(fill[at]);
      const paint = (variable, alpha) => {
        brush.globalAlpha = alpha;
        brush.fillStyle = colour(variable);
        brush.beginPath();
        brush.roundRect(...box);
        brush.fill();
      };
      if (level < 9) paint("--empty", 1);
      if (this.busy.has(at) && level < 9) paint("--in", 0.18 + 0.3 * pulse);
      if (level) {
        const owner = OWNERS.indexOf(this.owner[at]);
        paint(variableOf(this.names[owner] ?? FOUND), level === 9 ? 1 : 0.2 + 0.07 * level);
        const age = now - this.since[at];
        if (age < FLASH && !still.matches) paint("--glow", 0.75 * (1 - age / FLASH) ** 2);
      }
    }
    brush.globalAlpha = 1;
    if (!this.busy.size && !this.since.some((time) => now - time < FLASH)) this.isMoving = false;
  }
}

let painted = 0;
function animate(now) {
  if (now - painted > 60) {
    painted = now;
    for (const card of cards.values()) if (card.map.isMoving) card.map.paint(now);
  }
  if ([...cards.values()].some((card) => card.map.isMoving)) requestAnimationFrame(animate);
  else painted = 0;
}

// -- tasks ----------------------------------------------------------------------------------------------------------------

const cards = new Map(); // by the names of their sections
const WORDS = { queued: "waiting for its turn", running: "downloading", done: "complete", failed: "failed" };

function makeCard(key) {
  const id = key.replace("/", "-");
  const parts = {
    title: make("h3", { id }),
    id: make("p", { class: "id mono" }),
    pill: make("p", { class: "pill" }),
    share: make("span", { class: "share" }),
    rate: make("span", { class: "rate" }),
    amount: make("span"),
    left: make("span", { class: "quiet" }),
    progress: make("progress", { max: "100", "aria-labelledby": id }),
    canvas: make("canvas", { role: "img" }),
    error: make("p", { class: "error" }),
    legend: make("ul", { class: "legend", "aria-label": "Parents" }),
    body: make("tbody"),
  };
  const head = make("tr");
  for (const name of ["Parent", "Transport", "Pieces", "Bytes", "Rate", "Under way", "State"]) {
    head.append(make("th", { scope: "col" }, name));
  }
  const region = make("div", { class: "scroll", tabindex: "0", role: "region" });
  region.append(make("table", {}, make("caption", {}, "Which parent gave what"), make("thead", {}, head), parts.body));
  const card = make(
    "article",
    { class: "card task", "aria-labelledby": id },
    make("div", { class: "top" }, make("div", { class: "title" }, parts.title, parts.id), parts.pill),
    make("p", { class: "line" }, parts.share, parts.rate, parts.amount, parts.left),
    parts.progress,
    parts.canvas,
    parts.legend,
    parts.error,
    make("details", {}, make("summary", {}, "Pieces by parent as a table"), region),
  );
  return { ...parts, card, region, map: new PieceMap(parts.canvas), state: "" };
}

function showTask(key, task) {
  let view = cards.get(key);
  if (!view) cards.set(key, (view = makeCard(key)));
  const share = percent(task);
  const name = task.name || `Task ${task.id.slice(0, 12)}`;
  put(view.title, name);
  view.region.setAttribute("aria-label", `Pieces by parent, ${name}, download ${task.number}`);
  put(view.id, task.name ? `${task.kind} ${task.id}` : `${task.kind}, ${task.id}`);
  put(view.pill, WORDS[task.state] || task.state);
  view.pill.dataset.state = view.card.dataset.state = task.state;
  put(view.share, shown(share));
  put(view.rate, task.state === "running" ? rate(task.rate) : "");
  const size = task.content_length === null ? "of an unknown length" : `of ${bytes(task.content_length)}`;
  const count = task.piece_count === null ? whole(task.pieces) : `${whole(task.pieces)} of ${whole(task.piece_count)}`;
  put(view.amount, `${bytes(task.received)} ${size}, ${count} pieces`);
  put(view.left, timeOf(task));
  if (share === null) view.progress.removeAttribute("value");
  else view.progress.value = share;
  view.canvas.hidden = !task.fill;
  view.canvas.setAttribute("aria-label", `Map of the pieces: ${count} are there, ${task.busy.length} under way`);
  put(view.error, task.error ? `Failed: ${task.error}` : "");
  view.error.hidden = !task.error;
  view.map.show(task);
  const parents = task.parents.filter((parent) => parent.name !== FOUND || parent.pieces);
  showLegend(view.legend, parents);
  fillTable(view.body, parents.map((parent) => [
    parent.name || "the storage", parent.transport, whole(parent.pieces), bytes(parent.bytes),
    task.state === "running" ? rate(parent.rate) : "–", whole(parent.asked), parent.state,
  ]), 1);
  if (view.state !== task.state) {
    const isNews = view.state || task.state === "running";
    if (isNews && hasStarted) announce(`${name}: ${WORDS[task.state] || task.state}`);
    view.state = task.state;
  }
  return view.card;
}

function timeOf(task) {
  if (task.ended !== null) {
    const seconds = task.ended - task.begun;
    return task.state === "done" ? `in ${seconds < 10 ? seconds.toFixed(1) + " s" : duration(seconds)}` : "";
  }
  return task.state === "running" && task.seconds_left !== null ? `about ${duration(task.seconds_left)} left` : "";
}

function showLegend(list, parents) {
  while (list.children.length > parents.length) list.lastChild.remove();
  parents.forEach((parent, at) => {
    let item = list.children[at];
    if (!item) {
      item = make("li", {}, make("span", { class: "chip" }), make("span", { class: "name" }), make("span", { class: "quiet" }));
      list.append(item);
    }
    const [chip, name, text] = item.children;
    chip.style.background = colour(variableOf(parent.name));
    put(name, parent.name || "was there before");
    const what = [counted(parent.pieces, "piece")];
    if (parent.rate >= 1) what.push(rate(parent.rate));
    if (parent.note) what.push(parent.note);
    put(text, what.join(", "));
    item.classList.toggle("gone", parent.is_gone);
  });
}

function showTasks() {
  const keys = Object.keys(state).filter((key) => key.startsWith("task/"));
  const order = { running: 0, queued: 1, failed: 2, done: 2 };
  const rank = (key) => order[state[key].state] + (state[key].state === "running" && !state[key].pieces ? 0.5 : 0);
  keys.sort((a, b) => rank(a) - rank(b) || state[b].number - state[a].number);
  for (const [key, view] of cards) {
    if (!state[key]) {
      view.card.remove();
      cards.delete(key);
    }
  }
  const list = $("task-list");
  keys.forEach((key, at) => {
    const card = showTask(key, state[key]);
    if (list.children[at] !== card) list.insertBefore(card, list.children[at] || null);
  });
  $("no-tasks").hidden = keys.length > 0;
  if (!painted && [...cards.values()].some((view) => view.map.isMoving)) requestAnimationFrame(animate);
  return keys.map((key) => state[key]);
}

// -- waits ----------------------------------------------------------------------------------------------------------------

const waitsSaid = new Set();

function showWaits(tasks, now) {
  const list = $("waits");
  const waits = [];
  for (const task of tasks) {
    const same = new Map(); // parents of which the same is said share a line
    for (const wait of task.waits) {
      const first = same.get(wait.text);
      if (first) first.parents.push(wait.parent);
      else waits.push(same.set(wait.text, { ...wait, parents: [wait.parent], task }).get(wait.text));
    }
  }
  while (list.children.length > waits.length) list.lastChild.remove();
  waits.forEach((wait, at) => {
    let item = list.children[at];
    if (!item) {
      item = make("li", {}, make("span", {}, make("strong"), document.createTextNode("")), make("time"));
      list.append(item);
    }
    const [what, since] = item.children;
    const names = wait.parents.join(", ") || "this download";
    const who = wait.parents.length > 1 ? `each of ${names}` : names;
    put(what.firstChild, who);
    if (what.lastChild.data !== ` ${wait.text}`) what.lastChild.data = ` ${wait.text}`;
    put(since, `for ${duration(now - wait.at)}, ${short(wait.task.name || wait.task.id, 28)}`);
    const said = `${who} ${wait.text}`;
    if (!waitsSaid.has(said) && hasStarted) announce(`Waiting: ${said}`);
    if (waitsSaid.size > 1000) waitsSaid.clear();
    waitsSaid.add(said);
  });
  $("no-waits").hidden = waits.length > 0;
  list.parentElement.classList.toggle("some", waits.length > 0);
}

// -- throughput over time ---------------------------------------------------------------------------------------------------

const LONGEST = 300; // seconds that the picture shows at most

function samples() {
  const chunks = Object.keys(state).filter((key) => key.startsWith("history/"));
  chunks.sort((a, b) => Number(a.slice(8)) - Number(b.slice(8)));
  return chunks.flatMap((key) => state[key].at.map((at, n) => [at, state[key].received[n], state[key].sent[n]]));
}

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * [1, 2, 5, 10].find((step) => step * power >= most * 0.999);
}

function showThroughput(now) {
  const { received_rate: receiving = 0, sent_rate: sending = 0, received = 0, sent = 0 } = state.now || {};
  put($("rate-in"), rate(receiving));
  put($("rate-out"), rate(sending));
  put($("bytes-in"), bytes(received));
  put($("bytes-out"), bytes(sent));
  const all = samples().filter(([at]) => at > now - LONGEST);
  const span = all.length ? Math.min(LONGEST, Math.max(60, Math.ceil((now - all[0][0]) / 30) * 30)) : 60;
  drawChart(all, now, span);
  const rows = [];
  for (let end = now; end > now - 60; end -= 10) {
    const part = all.filter(([at]) => at > end - 10 && at <= end);
    const mean = (column) => rate(part.reduce((sum, row) => sum + row[column], 0) / part.length);
    if (part.length) rows.push([new Date(end * 1000).toLocaleTimeString(), mean(1), mean(2)]);
  }
  fillTable($("chart-table").tBodies[0], rows);
  $("chart").setAttribute(
    "aria-label", `Throughput of the last minutes; now ${rate(receiving)} received and ${rate(sending)} sent`,
  );
}

function drawChart(all, now, span) {
  const chart = $("chart");
  const width = chart.clientWidth;
  const height = chart.clientHeight;
  if (!width) return;
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren();
  const most = [1, 2].map((column) => Math.max(0, ...all.map((row) => row[column])));
  const total = nice(Math.max(1000, ...most));
  const tops = most.map((value) => Math.max(value * 1.05, total * 0.16));
  const low = height - 16;
  const scale = (low - 14) / (tops[0] + tops[1]);
  const zero = 14 + tops[0] * scale;
  const x = (at) => width - ((now - at) / span) * width;
  const labels = [];
  const grid = (value, y) => {
    draw(chart, "line", { class: "grid", x1: 0, x2: width, y1: y, y2: y });
    labels.push([rate(value), y - 4]);
  };
  for (const [side, sign] of [[0, -1], [1, 1]]) {
    const step = nice(Math.max(tops[side], 1) / 2.2);
    for (let value = step; value <= tops[side] && step > total / 20; value += step) grid(value, zero + sign * value * scale);
  }
  for (const [column, kind, sign] of [[1, "in", -1], [2, "out", 1]]) {
    for (const run of runs(all)) {
      const points = run.map((row) => `${x(row[0]).toFixed(1)} ${(zero + sign * row[column] * scale).toFixed(1)}`);
      const [first, last] = [x(run[0][0]).toFixed(1), x(run.at(-1)[0]).toFixed(1)];
      draw(chart, "path", { class: `area ${kind}`, d: `M${first} ${zero} L${points.join(" L")} L${last} ${zero} Z` });
      draw(chart, "path", { class: `edge ${kind}`, d: `M${points.join(" L")}` });
    }
  }
  draw(chart, "line", { class: "axis", x1: 0, x2: width, y1: zero, y2: zero });
  for (const [text, y] of labels) draw(chart, "text", { x: 0, y }, text);
  draw(chart, "text", { x: 0, y: height - 3 }, `${duration(span)} ago`);
  draw(chart, "text", { x: width, y: height - 3, "text-anchor": "end" }, "now");
}

// The samples without gaps between them: nothing is sampled while no page is open.
function runs(all) {
  const found = [];
  for (const row of all) {
    const run = found.at(-1);
    if (run && row[0] - run.at(-1)[0] < 4) run.push(row);
    else found.push([row]);
  }
  return found;
}

// -- the swarm --------------------------------------------------------------------------------------------------------------

const MOST_NODES = 7;

function parentsOf(tasks) {
  const found = new Map();
  for (const task of tasks) {
    for (const parent of task.parents) {
      if (parent.name === FOUND) continue;
      const isRunning = task.state === "running";
      const sum = found.get(parent.name) || { ...parent, rate: 0, bytes: 0, isRunning: false };
      sum.bytes += parent.bytes;
      if (isRunning) {
        sum.rate += parent.rate;
        sum.state = parent.state;
        sum.isRunning = true;
      }
      found.set(parent.name, sum);
    }
  }
  return [...found.values()].sort((a, b) => b.isRunning - a.isRunning || b.rate - a.rate || b.bytes - a.bytes);
}

function showSwarm(tasks) {
  const parents = parentsOf(tasks);
  const children = (state.children || []).map((child) => ({ ...child, bytes: child.sent }));
  drawSwarm(parents, children, tasks);
  const row = (peer, role) => [peer.name, role, peer.transport, rate(peer.rate), bytes(peer.bytes), peer.state];
  fillTable($("swarm-table").tBodies[0], [
    ...parents.map((peer) => row(peer, peer.is_source ? "source" : "parent")),
    ...children.map((peer) => row(peer, "child")),
  ], 1);
  const active = (peers) => peers.filter((peer) => peer.rate >= 1).length;
  $("swarm").setAttribute(
    "aria-label", `${active(parents)} of ${parents.length} parents give now, ${active(children)} of ${children.length} children take now`,
  );
}

function drawSwarm(parents, children, tasks) {
  const picture = $("swarm");
  const width = picture.clientWidth;
  if (!width) return;
  const rows = Math.max(1, Math.min(MOST_NODES, Math.max(parents.length, children.length)));
  const height = Math.max(220, rows * 76 + 8);
  const key = JSON.stringify([width, colour("--c0"), tasks.map(percent).map(Math.round), parents.concat(children).map(
    (peer) => [peer.name, Math.round(Math.log2(1 + peer.rate) * 2), bytes(peer.rate), bytes(peer.bytes), peer.state],
  )]);
  if (picture.dataset.key === key) return; // otherwise the flow would begin again and again
  picture.dataset.key = key;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.style.height = `${height}px`;
  picture.replaceChildren();
  const centre = [width / 2, height / 2];
  const margin = Math.min(86, width * 0.17);
  side(picture, parents, margin, centre, height, true);
  side(picture, children, width - margin, centre, height, false);
  const running = tasks.filter((task) => task.state === "running");
  const known = running.filter((task) => task.content_length);
  const all = known.reduce((sum, task) => sum + task.content_length, 0);
  const share = all ? (100 * known.reduce((sum, task) => sum + task.received, 0)) / all : null;
  draw(picture, "circle", { class: "core", cx: centre[0], cy: centre[1], r: 33 });
  if (share !== null) {
    const length = 2 * Math.PI * 33;
    const place = `rotate(-90 ${centre[0]} ${centre[1]})`;
    const arc = draw(picture, "circle", { class: "arc", cx: centre[0], cy: centre[1], r: 33, transform: place });
    arc.style.strokeDasharray = `${(length * share) / 100} ${length}`;
    draw(picture, "text", { class: "percent", x: centre[0], y: centre[1] + 5 }, shown(Math.floor(share)));
  } else {
    draw(picture, "image", { href: "status.svg", x: centre[0] - 18, y: centre[1] - 18, width: 36, height: 36 });
  }
  draw(picture, "text", { class: "under", x: centre[0], y: centre[1] + 54 }, "this peer");
}

function side(picture, peers, x, [cx, cy], height, isParent) {
  if (!peers.length) {
    draw(picture, "text", { class: "under", x, y: cy + 4 }, isParent ? "no parents" : "no children");
    return;
  }
  const some = peers.slice(0, peers.length > MOST_NODES ? MOST_NODES - 1 : MOST_NODES);
  const count = some.length + (some.length < peers.length ? 1 : 0);
  const step = Math.min(88, (height - 8) / count);
  some.forEach((peer, at) => {
    const y = cy + (at - (count - 1) / 2) * step - 14;
    const inner = isParent ? [cx - 37, cy] : [cx + 37, cy];
    const ends = isParent ? [[x + 13, y], inner] : [inner, [x - 13, y]];
    const middle = (ends[0][0] + ends[1][0]) / 2;
    const d = `M${ends[0].join(" ")} C${middle} ${ends[0][1]} ${middle} ${ends[1][1]} ${ends[1].join(" ")}`;
    const paint = isParent ? colour(variableOf(peer.name)) : colour("--out");
    const isActive = peer.rate >= 1;
    const thick = isActive ? Math.min(9, 1.5 + Math.log10(1 + peer.rate / 1000) * 1.5) : 1.25;
    draw(picture, "path", { class: isActive ? "pipe" : "pipe idle", d, stroke: paint, "stroke-width": thick });
    if (isActive) {
      const flow = draw(picture, "path", { class: "flow", d, stroke: paint, "stroke-width": Math.max(2.5, thick * 0.7) });
      flow.style.setProperty("--pace", `${Math.max(0.25, 2.2 - 0.28 * Math.log10(1 + peer.rate))}s`);
    }
    const isOut = peer.is_gone && !isActive;
    const node = peer.is_source
      ? draw(picture, "rect", { class: "node", x: x - 9, y: y - 9, width: 18, height: 18, rx: 4, stroke: paint, transform: `rotate(45 ${x} ${y})` })
      : draw(picture, "circle", { class: "node", cx: x, cy: y, r: 10.5, stroke: paint });
    if (isActive) node.style.fill = paint;
    if (isOut) node.style.strokeDasharray = "3 4";
    const room = Math.max(12, Math.floor(Math.min(x * 2, 190) / 6.4));
    draw(node, "title", {}, peer.name);
    draw(picture, "text", { class: "under", x, y: y + 27 }, short(peer.name, room));
    if (isActive) draw(picture, "text", { class: "rate", x, y: y + 42 }, rate(peer.rate));
  });
  if (some.length < peers.length) {
    const y = cy + (some.length - (count - 1) / 2) * step;
    draw(picture, "text", { class: "under", x, y }, `and ${peers.length - some.length} more`);
  }
}

// -- the peer and its storage -------------------------------------------------------------------------------------------------

function showPeer(now) {
  const peer = state.peer;
  if (!peer) return;
  put($("host"), peer.hostname);
  const about = [`dfvortex ${peer.version}`, `up ${duration(now - peer.started)}`];
  if (peer.missing.length) about.push(peer.missing.join("; "));
  put($("about"), about.join(" · "));
  put($("doors"), peer.doors.length ? `Serves ${peer.doors.join(", ")}` : "");
  put($("limits"), peer.limits.join(" "));
}

function showStored(now) {
  const stored = state.stored;
  if (!stored) return;
  const disk = stored.disk_total ? `, ${bytes(stored.disk_free)} of ${bytes(stored.disk_total)} free on the disk` : "";
  const more = stored.tasks.length < stored.count ? `; the newest ${stored.tasks.length} are shown` : "";
  put($("stored-summary"), `${counted(stored.count, "task")}, ${bytes(stored.bytes)}${disk}${more}.`);
  fillTable($("stored-table").tBodies[0], stored.tasks.map((task) => {
    const share = task.piece_count ? task.pieces / task.piece_count : task.piece_count === 0 ? 1 : 0;
    const count = task.piece_count === null ? `${whole(task.pieces)} of ?` : `${whole(task.pieces)} of ${whole(task.piece_count)}`;
    const meter = () => {
      const bar = make("span");
      bar.style.width = `${100 * share}%`;
      return [make("span", { class: "meter", "aria-hidden": "true" }, bar), count];
    };
    const name = () => (task.name ? [task.name, make("br"), make("span", { class: "mono quiet" }, task.id)] : [make("span", { class: "mono" }, task.id)]);
    return [
      { key: task.id + task.name, make: name }, { key: count, make: meter },
      bytes(task.content_length), task.kind, `${duration(now - task.created)} ago`,
    ];
  }), 1);
}

// -- the stream ---------------------------------------------------------------------------------------------------------------

let hasStarted = false;
let skew = 0; // seconds that the peer's clock is ahead of this one

function render() {
  const now = Date.now() / 1000 + skew;
  const tasks = showTasks();
  showPeer(now);
  showThroughput(now);
  showSwarm(tasks);
  showWaits(tasks, now);
  showStored(now);
  const running = tasks.filter((task) => task.state === "running");
  const share = running.length === 1 ? percent(running[0]) : null;
  const name = state.peer ? state.peer.hostname : "dfvortex";
  document.title = share !== null ? `${Math.floor(share)} % · ${name}` : running.length ? `${running.length} tasks · ${name}` : name;
}

function link(kind, text) {
  $("link").dataset.state = kind;
  put($("link"), text);
  document.body.classList.toggle("lost", kind === "lost");
}

let events = null;
let retry = 0;

function open() {
  clearTimeout(retry);
  events = new EventSource("events");
  let isFirst = true;
  events.onopen = () => { isFirst = true; };
  events.onmessage = (event) => {
    if (isFirst) for (const key of Object.keys(state)) delete state[key]; // the first event has all sections
    isFirst = false;
    for (const [key, value] of Object.entries(JSON.parse(event.data))) {
      if (value === null) delete state[key];
      else state[key] = value;
    }
    if (state.now) skew = state.now.at - Date.now() / 1000;
    if (!hasStarted || $("link").dataset.state !== "live") link("live", "live");
    render();
    hasStarted = true;
  };
  events.onerror = () => {
    if (hasStarted && $("link").dataset.state !== "lost") announce("The connection to the peer is lost");
    link("lost", "no connection");
    if (events.readyState === EventSource.CLOSED) retry = setTimeout(open, 10000); // refused: too many pages are open
  };
}

function close() {
  clearTimeout(retry);
  if (events) events.close();
  events = null;
}

// A page that is not looked at costs the peer nothing.
let away = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(away);
  if (document.hidden) away = setTimeout(() => { close(); link("wait", "paused"); }, 30000);
  else if (!events) open();
});
addEventListener("resize", () => hasStarted && render());
open();
