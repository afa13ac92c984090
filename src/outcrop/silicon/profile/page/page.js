"use strict";
// Draws a profile. The data are in #data: columns of numbers, indexed by row; see page.py for what they are.
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const R = D.rows, N = R.start.length;

// -- words ------------------------------------------------------------------------------------------------------------
function ns(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return (value / 1e6).toFixed(size >= 1e7 ? 1 : 2) + " ms";
  if (size >= 1e3) return (value / 1e3).toFixed(size >= 1e5 ? 0 : size >= 1e4 ? 1 : 2) + " µs";
  return value.toFixed(0) + " ns";
}
function bytes(value) {
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (value >= size) return (value / size).toFixed(value >= 100 * size ? 0 : 1) + " " + unit;
  return value + " B";
}
const percent = (share) => (100 * share).toFixed(share && share < 0.1 ? 1 : 0) + " %";
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "class") node.className = value;
    else if (key === "style") node.style.cssText = value;
    else if (key.startsWith("on")) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((each) => each !== null && each !== undefined));
  return node;
}
const base = (file) => file.split("/").pop();
const lineName = (line) => base(D.lines[line][0]) + ":" + D.lines[line][1];
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

// -- the head ---------------------------------------------------------------------------------------------------------
const E = D.estimate;
document.title = D.kernel + " on " + D.chip;
$("name").textContent = D.kernel + " on " + D.chip + (D.cores > 1 ? ", " + D.cores + " cores" : "");
$("time").append(make("b", {}, ns(E.expected)),
  D.measured ? " measured" : " expected, between " + ns(E.low) + " and " + ns(E.high));
$("basis").textContent = D.measured ? E.basis + "." : capital(E.basis) + ". " + capital(E.error) + ".";
function capital(text) { return text.charAt(0).toUpperCase() + text.slice(1); }

function cards() {
  const S = D.summary, add = (label, value, note) =>
    $("cards").append(make("div", { class: "card" }, make("div", { class: "label" }, label),
      make("div", { class: "value" }, value), make("div", { class: "note" }, note)));
  const top = D.bounds[0];
  if (top && top[2] < 0.99 * E.expected)
    add("Binds most", top[0], "without it " + ns(top[2]) + ", " + percent(1 - top[2] / E.expected) + " less");
  if (S.flops) {
    add("MFU", percent(S.mfu), "of bf16 peak; " + percent(S.mfuType) + " of the peak of its data types");
    add("HFU", percent(S.hfu), "with transposes on the tensor engine");
  }
  add("DMA", percent(S.dma), "of what the DMA engines can move; MBU " + percent(S.mbu));
  add("HBM", bytes(S.read[0] + S.written[0]), bytes(S.read[0]) + " read, " + bytes(S.written[0]) + " written");
  add("Transfers", String(S.transfers), "median descriptor " + bytes(S.descriptor) + (S.small > 0.005 ? "; " + percent(S.small) + " of bytes below 2 KiB" : ""));
  if (S.flops || S.throttle > 0) add("Limited", percent(S.throttle), "of the time the tensor engine ran at reduced rate");
  if (D.measured) return;
  add("SBUF", bytes(S.peakSbuf), "of " + bytes(D.capacity[0]) + " per partition, at most");
  add("PSUM", bytes(S.peakPsum), "of " + bytes(D.capacity[1]) + " per partition, at most");
  add("Spills", bytes(S.spilled), "the language has none: what does not fit is refused");
}

function advice() {
  if (!D.advice.length)
    $("advice").append(make("li", { class: "bound" }, make("p", {}, D.measured
      ? "Advice is made by replaying a kernel with a change; a measured profile has none."
      : "None of the changes that were replayed gains a hundredth.")));
  for (const each of D.advice) {
    const lines = each.lines.map((line) => make("button", { class: "chip", type: "button", onclick: () => showLine(line) }, lineName(line)));
    $("advice").append(make("li", { class: each.verdict === "bound" ? "bound" : "" },
      make("div", { class: "head" }, make("span", {}, each.title),
        make("span", { class: "gain" }, ns(each.ns) + ", " + percent(1 - each.ns / E.expected) + " less")),
      make("p", {}, (each.verdict === "bound" ? "A bound, not an edit. " : "") + each.reason), ...lines));
  }
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((each) => make("th", { scope: "col" }, each)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))));
  return make("table", { class: "rows" }, make("thead", {}, head), make("tbody", {}, ...body));
}
const meter = (share) => make("span", { class: "meter" }, make("i", { style: "width:" + Math.min(100, 100 * Math.max(0, share)) + "%" }));

function tables() {
  if (D.bounds.length)
    $("bounds").append(table(["resource", "busy", "without", ""], D.bounds.map(([name, busy, without]) =>
      [name, busy ? ns(busy) : "", ns(Math.min(without, E.expected)), meter(1 - without / E.expected)])));
  else $("bounds").append(make("p", { class: "quiet" }, "Not known: this needs a replay."));
  $("queues").append(table(["queue", "count", "busy", ""], D.queues.filter((each) => each[1]).map(([name, count, busy, share]) =>
    [name, String(count), ns(busy), meter(share)])));
  $("ops").append(table(["kind", "count", "active", "mean"], D.opTimes.slice(0, 16).map(([queue, op, count, total, active]) =>
    [op + " (" + queue + ")", String(count), ns(active), ns(total / count)])));
  for (const text of D.warnings) $("warnings").append(make("p", { class: "quiet" }, "Warning: " + text));
}

// -- the source -------------------------------------------------------------------------------------------------------
const lineRows = new Map();
function source() {
  const times = new Map(D.lineTimes.map((each) => [each[0], each]));
  const most = Math.max(1, ...D.lineTimes.map((each) => each[3]));
  const byPlace = new Map();
  D.lines.forEach((each, at) => {
    const key = each[0] + ":" + each[1];
    byPlace.set(key, [...(byPlace.get(key) || []), at]);
  });
  for (const file of D.files) {
    const body = make("tbody", {}, make("tr", {}, ...["decides", "busy", "count", ""].map((each) => make("th", each === "busy" || each === "count" ? { class: "more" } : {}, each)), make("th", {}, "")));
    const margin = Math.min(...file.text.filter((text) => text.trim()).map((text) => text.length - text.trimStart().length));
    file.text.forEach((text, at) => {
      const number = file.first + at, mine = byPlace.get(file.file + ":" + number) || [];
      const sum = (column) => mine.reduce((total, line) => total + (times.get(line) ? times.get(line)[column] : 0), 0);
      const critical = sum(3), row = make("tr", mine.length ? { class: "has", tabindex: "0" } : {},
        make("td", { class: "t" + (critical ? "" : " empty"), style: "--w:" + (100 * critical / most).toFixed(1) + "%" }, critical ? ns(critical) : ""),
        make("td", { class: "n more" }, mine.length ? ns(sum(2)) : ""), make("td", { class: "n more" }, mine.length ? String(sum(1)) : ""),
        make("td", { class: "n" }, String(number)), make("td", { class: "c" }, text.slice(margin) || " "));
      if (mine.length) {
        row.onclick = () => { view.lines = new Set(mine); mark(); draw(); };
        row.onkeydown = (event) => { if (event.key === "Enter") row.onclick(); };
        for (const line of mine) lineRows.set(line, row);
      }
      body.append(row);
    });
    $("source").append(make("h3", {}, file.name), make("table", {}, body));
  }
  if (!D.files.length) $("source").append(make("p", { class: "quiet", style: "padding:10px" }, "No source lines are known."));
}
function mark() {
  for (const [line, row] of lineRows) row.classList.toggle("on", view.lines.has(line));
}
function showLine(line, quiet) {
  view.lines = new Set([line]);
  mark();
  const row = lineRows.get(line), box = $("source");
  if (row) {
    box.scrollTop += row.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
    if (!quiet) box.scrollIntoView({ block: "center" });
  }
  draw();
}

// -- the timeline -----------------------------------------------------------------------------------------------------
const LIGHT = ["#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#a16207", "#db2777", "#4d7c0f", "#6366f1", "#64748b", "#0f766e"];
const DARK = ["#60a5fa", "#fbbf24", "#34d399", "#c084fc", "#f87171", "#22d3ee", "#d6b25e", "#f472b6", "#a3e635", "#a5b4fc", "#94a3b8", "#5eead4"];
let palette = LIGHT; // of the theme in use; asked for once in each painting
const colour = (op) => palette[op % palette.length];
const canvas = $("timeline"), pen = canvas.getContext("2d");
const HEAD = 22, LANE = 20, GAP = 6, STRIP = 46, THROTTLE = 14;
const view = { from: 0, to: Math.max(1, D.body), hover: -1, pinned: -1, pinnedTrack: -1, path: false, lines: new Set(), width: 0 };
const critical = new Set(D.critical);
const incoming = new Map(), outgoing = new Map();
for (let at = 0; at < D.edges.length; at += 2) {
  const producer = D.edges[at], consumer = D.edges[at + 1];
  if (!incoming.has(consumer)) incoming.set(consumer, []);
  if (!outgoing.has(producer)) outgoing.set(producer, []);
  incoming.get(consumer).push(producer);
  outgoing.get(producer).push(consumer);
}

const tracks = []; // {name, dma, core, rows, start, end, top, height}
const placeOf = [new Map(), new Map()]; // by row: its track on an engine's queue, and on a DMA queue
let height = 0, gutter = 120;
function layout() {
  let top = HEAD, last = "";
  const most = 6; // lanes shown of one queue; more are folded onto the last
  for (const each of D.tracks) {
    const dma = each.name.startsWith("dma "), key = each.core + each.name;
    if (each.lane >= most) {
      const same = tracks[tracks.length - 1];
      same.rows = same.rows.concat(each.rows);
      same.folded = true;
      continue;
    }
    if (key !== last) top += GAP;
    tracks.push({ name: each.name, lane: each.lane, dma, core: each.core, rows: each.rows, top, height: each.lane ? 12 : LANE });
    top += tracks[tracks.length - 1].height + 1;
    last = key;
  }
  tracks.forEach((track, at) => {
    track.rows.sort((a, b) => (track.dma ? R.move[a] - R.move[b] : R.start[a] - R.start[b]));
    track.start = track.rows.map((row) => (track.dma ? R.move[row] : R.start[row]));
    track.end = track.rows.map((row) => (track.dma ? R.end[row] : Math.max(R.busy[row], R.start[row] + 1)));
    track.rows.forEach((row) => placeOf[track.dma ? 1 : 0].set(row, at));
  });
  height = top + GAP;
  strips.length = 0;
  for (const core of Object.keys(D.limited)) if (D.limited[core].length) { strips.push({ kind: "limit", core, top: height }); height += THROTTLE + GAP; }
  for (const core of Object.keys(D.occupied)) if (D.occupied[core].length)
    for (const kind of ["SBUF", "PSUM"]) { strips.push({ kind, core, top: height }); height += STRIP + GAP; }
}
const strips = [];
const x = (time) => gutter + (time - view.from) / (view.to - view.from) * (view.width - gutter);
const timeAt = (px) => view.from + (px - gutter) / (view.width - gutter) * (view.to - view.from);

function resize() {
  const ratio = devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  gutter = width < 600 ? 96 : 168;
  view.width = width;
  canvas.style.height = height + "px";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw();
  roofline();
}
function firstEndingAfter(ends, time) { // bars of a track do not overlap, so their ends are in order
  let low = 0, high = ends.length;
  while (low < high) { const middle = (low + high) >> 1; if (ends[middle] <= time) low = middle + 1; else high = middle; }
  return low;
}
function ticks(from, to, room) {
  const rough = (to - from) / Math.max(2, room / 90), power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return [found, step];
}
function tick(at, step) {
  if (!at) return "0";
  const [unit, size] = view.to >= 1e6 && step >= 1e4 ? [" ms", 1e6] : view.to >= 1e3 ? [" µs", 1e3] : [" ns", 1];
  return (at / size).toFixed(Math.max(0, Math.ceil(-Math.log10(step / size) - 1e-9))) + unit;
}
let waiting = false;
function draw() { if (!waiting) { waiting = true; requestAnimationFrame(paint); } }
function paint() {
  waiting = false;
  palette = dark() ? DARK : LIGHT;
  const W = view.width, text = ink("--ink"), quiet = ink("--quiet"), grid = ink("--grid"), card = ink("--card"), hot = ink("--hot");
  pen.clearRect(0, 0, W, height);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  pen.textBaseline = "middle";
  const [marks, step] = ticks(view.from, view.to, W - gutter);
  for (const at of marks) {
    const px = Math.round(x(at)) + 0.5;
    pen.strokeStyle = grid;
    pen.beginPath(); pen.moveTo(px, HEAD); pen.lineTo(px, height); pen.stroke();
    pen.fillStyle = quiet;
    const words = tick(at, step);
    pen.textAlign = "center";
    const half = pen.measureText(words).width / 2 + 3;
    if (px - half > gutter - 12 || !at) pen.fillText(words, Math.min(Math.max(px, gutter + (at ? 0 : half)), W - half), HEAD / 2);
  }
  const dim = view.path || view.lines.size;
  pen.save();
  pen.beginPath(); pen.rect(gutter, 0, W - gutter, height); pen.clip();
  for (const track of tracks) {
    let at = track.folded ? 0 : Math.max(0, firstEndingAfter(track.end, view.from));
    let edge = -1;
    for (; at < track.rows.length && track.start[at] < view.to; at++) {
      if (track.end[at] < view.from) continue;
      const row = track.rows[at], left = Math.max(gutter, x(track.start[at])), right = x(track.end[at]);
      if (right - left < 0.6 && right < edge) continue; // hidden below the last pixel drawn
      const chosen = (!view.path || critical.has(row)) && (!view.lines.size || view.lines.has(R.line[row]));
      const wide = Math.max(right - left, 0.7);
      pen.globalAlpha = dim && !chosen ? 0.15 : 1;
      pen.fillStyle = colour(R.op[row]);
      pen.fillRect(left, track.top, wide > 3 ? wide - 0.6 : wide, track.height);
      edge = left + Math.max(wide, 0.6);
      if (wide > 44 && track.height > 14) {
        pen.fillStyle = palette === DARK ? "#101214" : "#ffffff";
        pen.textAlign = "left";
        const name = D.ops[R.op[row]], fits = Math.floor((wide - 8) / 6.2);
        pen.fillText(name.length > fits ? name.slice(0, Math.max(1, fits - 1)) + "…" : name, left + 4, track.top + track.height / 2 + 0.5);
      }
      pen.globalAlpha = 1;
      if (row === view.hover || row === view.pinned) {
        pen.strokeStyle = text; pen.lineWidth = 2;
        pen.strokeRect(left + 1, track.top + 1, Math.max(1, wide - 2), track.height - 2);
        pen.lineWidth = 1;
      }
    }
  }
  for (const strip of strips) paintStrip(strip, { text, quiet, grid, hot });
  const centre = view.pinned >= 0 ? view.pinned : view.hover;
  if (centre >= 0) arrows(centre, text);
  pen.restore();
  pen.fillStyle = card;
  pen.fillRect(0, 0, gutter - 1, height);
  pen.fillStyle = text;
  pen.textAlign = "right";
  for (const track of tracks) if (!track.lane) label((D.cores > 1 ? track.core + ": " : "") + track.name, track.top + track.height / 2);
  pen.fillStyle = quiet;
  for (const strip of strips) {
    if (strip.kind === "limit") { label(gutter < 100 ? "limited" : "tensor limited", strip.top + THROTTLE / 2); continue; }
    label(strip.kind, strip.top + 10);
    label(bytes(D.capacity[strip.kind === "SBUF" ? 0 : 1]), strip.top + 26);
  }
}
function label(words, middle) {
  let shown = words;
  if (gutter < 100) shown = shown.replace("dma ", "").replace("software", "sw").replace("hardware", "hw");
  pen.fillText(shown, gutter - 8, middle);
}
function paintStrip(strip, { text, quiet, grid, hot }) {
  if (strip.kind === "limit") {
    pen.fillStyle = grid;
    pen.fillRect(gutter, strip.top, view.width - gutter, THROTTLE);
    pen.fillStyle = hot;
    for (const [from, to] of D.limited[strip.core]) pen.fillRect(x(from), strip.top, Math.max(0.7, x(to) - x(from)), THROTTLE);
    return;
  }
  const which = strip.kind === "SBUF" ? 1 : 2, most = D.capacity[which - 1], samples = D.occupied[strip.core];
  pen.fillStyle = grid;
  pen.fillRect(gutter, strip.top, view.width - gutter, STRIP);
  pen.fillStyle = colour(which === 1 ? 0 : 3);
  let previous = 0, from = 0;
  pen.beginPath();
  const column = (till) => {
    const size = STRIP * Math.min(1, previous / most), left = x(from), right = x(till);
    if (right >= gutter && left <= view.width && size) pen.rect(left, strip.top + STRIP - size, Math.max(0.7, right - left), size);
  };
  for (const sample of samples) {
    if (x(sample[0]) - x(from) < 0.5 && sample[which] >= previous) { previous = sample[which]; continue; } // within a pixel the fullest
    column(sample[0]); from = sample[0]; previous = sample[which];
  }
  column(D.body);
  pen.fill();
}
function centreOf(row, asProducer) {
  const dma = asProducer && placeOf[1].has(row), at = placeOf[dma ? 1 : 0].get(row);
  if (at === undefined) return null;
  const track = tracks[at];
  return { x: x(asProducer ? (dma ? R.end[row] : R.end[row]) : R.start[row]), y: track.top + track.height / 2 };
}
function arrows(row, text) {
  const one = (producer, consumer, shade) => {
    const from = centreOf(producer, true), to = centreOf(consumer, false);
    if (!from || !to) return;
    const bend = Math.max(14, Math.min(70, Math.abs(to.x - from.x) / 2));
    pen.strokeStyle = shade; pen.fillStyle = shade; pen.lineWidth = 1.5;
    pen.beginPath(); pen.moveTo(from.x, from.y); pen.bezierCurveTo(from.x + bend, from.y, to.x - bend, to.y, to.x, to.y); pen.stroke();
    pen.beginPath(); pen.moveTo(to.x, to.y); pen.lineTo(to.x - 6, to.y - 3.5); pen.lineTo(to.x - 6, to.y + 3.5); pen.fill();
    pen.lineWidth = 1;
  };
  for (const producer of (incoming.get(row) || []).slice(0, 40)) one(producer, row, producer === R.wait[row] ? ink("--hot") : text);
  for (const consumer of (outgoing.get(row) || []).slice(0, 40)) one(row, consumer, ink("--quiet"));
}

// -- what is under the pointer ----------------------------------------------------------------------------------------
function rowAt(px, py) {
  const time = timeAt(px), reach = 2 * (view.to - view.from) / view.width;
  for (let which = 0; which < tracks.length; which++) {
    const track = tracks[which];
    if (py < track.top || py > track.top + track.height || px < gutter) continue;
    if (track.folded) { const found = track.rows.findIndex((_, at) => track.start[at] <= time && time <= track.end[at]); return found < 0 ? null : [track.rows[found], which]; }
    const at = firstEndingAfter(track.end, time - reach);
    if (at < track.rows.length && track.start[at] <= time + reach) return [track.rows[at], which];
  }
  return null;
}
function facts(row) {
  const list = [["starts", ns(R.start[row])], ["takes", ns(R.end[row] - R.start[row])]];
  if (R.pieces[row]) {
    list.push(["transfer", ns(R.end[row] - R.move[row]) + ", " + bytes(R.hbm[row] || R.pieces[row] * R.size[row])]);
    list.push(["descriptors", R.pieces[row] + " × " + bytes(R.size[row])]);
  } else list.push(["queue busy", ns(R.busy[row] - R.start[row])]);
  if (R.flops[row]) list.push(["operations", (R.flops[row] / 1e6).toFixed(1) + " MFLOP"]);
  if (R.wait[row] >= 0) list.push(["waited for", D.ops[R.op[R.wait[row]]] + " #" + R.wait[row] + " (" + lineName(R.line[R.wait[row]]) + ")"]);
  list.push(["operands", D.texts[R.text[row]]]);
  if (R.line[row] >= 0 && D.lines[R.line[row]]) list.push(["source", lineName(R.line[row])], ["", make("code", {}, D.lines[R.line[row]][3])]);
  return list;
}
const tip = $("tip");
function hover(event) {
  const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
  const found = rowAt(px, py), row = found ? found[0] : -1;
  if (row !== view.hover) { view.hover = row; draw(); }
  tip.hidden = row < 0;
  if (row < 0) return;
  tip.replaceChildren(make("b", {}, D.ops[R.op[row]] + " #" + row));
  for (const [name, value] of facts(row).filter(([name]) => name !== "operands")) tip.append(make("div", {}, (name ? name + " " : ""), value));
  const left = px + 14 + tip.offsetWidth > view.width ? Math.max(0, px - 14 - tip.offsetWidth) : px + 14;
  tip.style.left = left + "px";
  tip.style.top = Math.max(0, Math.min(py + 14, height - tip.offsetHeight)) + "px";
}
function pin(row, track) {
  view.pinned = row;
  view.pinnedTrack = track;
  const box = $("detail");
  box.hidden = row < 0;
  if (row >= 0) {
    const list = make("dl", {});
    for (const [name, value] of facts(row)) list.append(make("dt", {}, name), make("dd", {}, value));
    box.replaceChildren(make("b", {}, D.ops[R.op[row]] + " #" + row), list);
    if (R.line[row] >= 0) showLine(R.line[row], true);
  } else { view.lines = new Set(); mark(); }
  draw();
}
function zoom(factor, at) {
  const time = at === undefined ? (view.from + view.to) / 2 : at;
  let span = Math.max(20, Math.min(D.body * 1.02, (view.to - view.from) * factor));
  const share = (time - view.from) / (view.to - view.from);
  look(time - share * span, span);
}
function look(from, span) {
  view.from = Math.max(0, Math.min(from, Math.max(0, D.body * 1.02 - span)));
  view.to = view.from + span;
  draw();
}
const pan = (share) => look(view.from + share * (view.to - view.from), view.to - view.from);
function all() { look(0, Math.max(20, D.body * 1.005)); }
function step(direction) {
  const at = view.pinnedTrack >= 0 ? view.pinnedTrack : tracks.findIndex((track) => track.rows.length);
  if (at < 0) return;
  const track = tracks[at], now = track.rows.indexOf(view.pinned);
  const next = now < 0 ? firstEndingAfter(track.end, view.from) : now + direction;
  if (next < 0 || next >= track.rows.length) return;
  const row = track.rows[next], span = view.to - view.from;
  if (track.start[next] < view.from || track.end[next] > view.to) look(track.start[next] - span / 2, span);
  tip.hidden = true;
  pin(row, at);
}
function togglePath() {
  view.path = !view.path;
  document.querySelector('[data-act="path"]').setAttribute("aria-pressed", String(view.path));
  draw();
}
function toggleTheme() {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  legend(); draw(); roofline();
}

// -- pointers and keys ------------------------------------------------------------------------------------------------
const pointers = new Map();
let dragged = 0, pinch = 0;
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const px = event.clientX - canvas.getBoundingClientRect().left;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) pan((event.deltaX || event.deltaY) / view.width);
  else zoom(Math.exp(event.deltaY * 0.0015), timeAt(Math.max(gutter, px)));
}, { passive: false });
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, event.clientX);
  dragged = 0;
  pinch = 0;
});
canvas.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) { hover(event); return; }
  const before = pointers.get(event.pointerId);
  pointers.set(event.pointerId, event.clientX);
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()], wide = Math.max(8, Math.abs(a - b));
    if (pinch) zoom(pinch / wide, timeAt((a + b) / 2 - canvas.getBoundingClientRect().left));
    pinch = wide;
    dragged = 99;
    return;
  }
  dragged += Math.abs(event.clientX - before);
  if (dragged > 3) { canvas.classList.add("dragging"); tip.hidden = true; pan((before - event.clientX) / (view.width - gutter)); }
});
function release(event) {
  pointers.delete(event.pointerId);
  canvas.classList.remove("dragging");
}
canvas.addEventListener("pointerup", (event) => {
  release(event);
  if (dragged > 3) return;
  const box = canvas.getBoundingClientRect(), found = rowAt(event.clientX - box.left, event.clientY - box.top);
  pin(found ? found[0] : -1, found ? found[1] : -1);
});
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", () => { tip.hidden = true; view.hover = -1; draw(); });
const actions = { in: () => zoom(0.5), out: () => zoom(2), all, path: togglePath };
for (const button of document.querySelectorAll("[data-act]")) button.onclick = () => actions[button.dataset.act]();
$("theme").onclick = toggleTheme;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": actions.in, "=": actions.in, "-": actions.out, 0: all,
    n: () => step(1), p: () => step(-1), c: togglePath, t: toggleTheme, Escape: () => pin(-1, -1),
  };
  if (keys[event.key]) { keys[event.key](); if (event.key.startsWith("Arrow")) event.preventDefault(); }
});
function legend() {
  palette = dark() ? DARK : LIGHT;
  const count = new Map();
  for (const op of R.op) count.set(op, (count.get(op) || 0) + 1);
  const shown = [...count].sort((a, b) => b[1] - a[1]).slice(0, 12);
  $("legend").replaceChildren(...shown.map(([op, many]) => make("span", { style: "--c:" + colour(op) }, D.ops[op] + " " + many)));
}

// -- the roofline -----------------------------------------------------------------------------------------------------
function roofline() {
  const plot = $("roofline"), ratio = devicePixelRatio || 1, W = plot.parentElement.clientWidth, H = 260, on = plot.getContext("2d");
  plot.width = W * ratio; plot.height = H * ratio;
  on.setTransform(ratio, 0, 0, ratio, 0, 0);
  on.clearRect(0, 0, W, H);
  on.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  const F = D.roof, quiet = ink("--quiet"), text = ink("--ink"), accent = ink("--accent"), hot = ink("--hot"), grid = ink("--grid");
  if (!F.x || !F.y || !(F.peak > 0)) {
    on.fillStyle = quiet; on.textAlign = "center";
    on.fillText("No matrix products: " + percent(D.summary.dma) + " of what the DMA engines can move", W / 2, H / 2);
    return;
  }
  const left = 46, right = W - 14, top = 16, bottom = H - 34;
  const ridge = F.peak * 1e3 / F.dma, low = Math.min(F.x / 4, ridge / 16, 1), high = Math.max(F.x * 4, ridge * 8);
  const least = Math.min(F.y / 4, F.dma * low / 1e3), most = F.peak * 2;
  const px = (v) => left + Math.log(v / low) / Math.log(high / low) * (right - left);
  const py = (v) => bottom - Math.log(v / least) / Math.log(most / least) * (bottom - top);
  on.strokeStyle = grid; on.fillStyle = quiet; on.textBaseline = "middle";
  for (let power = Math.ceil(Math.log10(low)); power <= Math.log10(high); power++) {
    const at = px(10 ** power);
    on.beginPath(); on.moveTo(at, top); on.lineTo(at, bottom); on.stroke();
    on.textAlign = "center"; on.fillText(String(10 ** power), at, bottom + 10);
  }
  for (let power = Math.ceil(Math.log10(least)); power <= Math.log10(most); power++) {
    const at = py(10 ** power);
    on.beginPath(); on.moveTo(left, at); on.lineTo(right, at); on.stroke();
    on.textAlign = "right"; on.fillText(String(10 ** power), left - 5, at);
  }
  on.textAlign = "center"; on.fillText("operations per byte of HBM", (left + right) / 2, H - 9);
  on.save(); on.translate(10, (top + bottom) / 2); on.rotate(-Math.PI / 2); on.fillText("TFLOP/s", 0, 0); on.restore();
  const roof = (rate, shade, words, dashed) => {
    on.strokeStyle = shade; on.lineWidth = 2; on.setLineDash(dashed ? [5, 4] : []);
    const knee = F.peak * 1e3 / rate;
    on.beginPath(); on.moveTo(px(low), py(Math.max(least, rate * low / 1e3))); on.lineTo(px(knee), py(F.peak));
    on.lineTo(right, py(F.peak)); on.stroke(); on.setLineDash([]); on.lineWidth = 1;
    on.fillStyle = shade; on.textAlign = "left";
    on.fillText(words, left + 8, dashed ? top + 22 : top + 36);
  };
  roof(F.hbm, quiet, "- -  HBM " + F.hbm.toFixed(0) + " GB/s", true);
  roof(F.dma, accent, "—  DMA " + F.dma.toFixed(0) + " GB/s");
  on.fillStyle = text; on.textAlign = "right";
  on.fillText("peak " + F.peak.toFixed(1) + " TFLOP/s", right - 2, py(F.peak) - 9);
  const allowed = Math.min(F.peak, F.x * F.dma / 1e3);
  on.strokeStyle = hot; on.setLineDash([2, 3]);
  on.beginPath(); on.moveTo(px(F.x), py(F.y)); on.lineTo(px(F.x), py(allowed)); on.stroke(); on.setLineDash([]);
  on.fillStyle = hot;
  on.beginPath(); on.arc(px(F.x), py(F.y), 6, 0, 7); on.fill();
  const leftSide = px(F.x) > (left + right) / 2;
  on.textAlign = leftSide ? "right" : "left";
  const words = F.y.toFixed(1) + " TFLOP/s, " + percent(F.y / allowed) + " of the roof", wordsAt = [px(F.x) + (leftSide ? -2 : 11), Math.min(py(F.y) + 20, bottom - 8)];
  on.strokeStyle = ink("--card"); on.lineWidth = 5; on.lineJoin = "round"; on.strokeText(words, ...wordsAt); on.lineWidth = 1;
  on.fillStyle = text; on.fillText(words, ...wordsAt);
  plot.setAttribute("aria-label", "Roofline: " + F.y.toFixed(1) + " TFLOP/s at " + F.x.toFixed(0) + " operations per byte, roof " + allowed.toFixed(1));
}

cards(); advice(); tables(); layout(); source(); legend(); resize(); all();
new ResizeObserver(resize).observe(canvas.parentElement);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { legend(); draw(); roofline(); });
