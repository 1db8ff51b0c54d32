// Curves over iterations, as SVG: the mean as a line, lowest and highest as a shade, a teacher's band, events as marks.

import {figure, h, replace, s, whole} from "./dom.js";

const H = 170; // px, as in studio.css
const LEFT = 46;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;

// {title, note, unit, lines: [{name, points: [[x, mean, low, high] or [x, y]]}], band: {value, low, high}, few, events, end}
// few: what the teacher reaches at the student's few steps. It may lie far off, so it does not widen the range.
export class Chart {
  constructor(told, onpick) {
    this.told = told;
    this.onpick = onpick;
    this.now = null;
    this.width = 480;
    this.svg = s("svg", {role: "img"});
    this.keys = h("div", {class: "keys"});
    this.element = h(
      "figure",
      {class: "chart"},
      h("figcaption", {}, told.title, told.unit ? h("small", {class: "soft"}, told.unit) : null, told.note ? h("small", {class: "soft"}, told.note) : null),
      this.svg,
      this.keys,
    );
    this.svg.addEventListener("pointermove", (event) => this.#hover(event));
    this.svg.addEventListener("pointerleave", () => this.#hover(null));
    this.svg.addEventListener("click", (event) => this.onpick?.(Math.round(this.#x(event))));
    this.draw();
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (!width || width === this.width) return;
      this.width = width;
      this.draw();
    }).observe(this.svg);
  }

  // A further point of a line, as it comes in.
  add(name, iteration, value) {
    const line = this.told.lines.find((each) => each.name === name);
    if (line) line.points.push([iteration, value, value, value]);
    this.stale = true;
  }

  draw() {
    this.stale = false;
    const points = this.told.lines.flatMap((line) => line.points);
    const xs = points.map((point) => point[0]);
    const band = this.told.band;
    const ys = points.flatMap((point) => point.slice(1)).filter(Number.isFinite);
    if (band) ys.push(...[band.low, band.high, band.value].filter(Number.isFinite));
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${H}`);
    if (!ys.length) return;
    this.x0 = Math.min(0, ...[bottom(xs)]);
    this.x1 = Math.max(top(xs), this.told.end ?? 0, this.x0 + 1);
    let [low, high] = robust(ys, points);
    if (low === high) [low, high] = [low - Math.abs(low || 1) * 0.05, high + Math.abs(high || 1) * 0.05];
    const pad = (high - low) * 0.05;
    this.y0 = low - pad;
    this.y1 = high + pad;
    replace(this.svg, this.#axes(), this.#band(), this.#few(), this.told.lines.map((line, i) => this.#line(line, i % 6)), this.#events(), this.#marker());
    const last = this.told.lines.map((line) => line.points.at(-1)?.[1]);
    this.svg.setAttribute("aria-label", `${this.told.title}: ${this.told.lines.map((line, i) => `${line.name} ${figure(last[i], 3)}`).join(", ")}`);
    this.#legend(null);
  }

  // The slider's iteration.
  mark(iteration) {
    this.now = iteration;
    this.svg.querySelector(".now")?.remove();
    if (this.y1 !== undefined) this.svg.append(this.#marker() ?? "");
  }

  px = (x) => LEFT + ((x - this.x0) / (this.x1 - this.x0)) * (this.width - LEFT - RIGHT);
  py = (y) => TOP + (1 - (Math.min(Math.max(y, this.y0), this.y1) - this.y0) / (this.y1 - this.y0)) * (H - TOP - BOTTOM);

  #axes() {
    const lines = ticks(this.y0, this.y1, 4).map((y) => [
      s("line", {class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: this.py(y), y2: this.py(y)}),
      s("text", {x: LEFT - 5, y: this.py(y) + 4, "text-anchor": "end"}, figure(y, 3)),
    ]);
    const marks = ticks(this.x0, this.x1, Math.max(2, Math.round(this.width / 90))).map((x) => s("text", {x: this.px(x), y: H - 5, "text-anchor": x === this.x0 ? "start" : "middle"}, whole(x)));
    return [...lines.flat(), ...marks];
  }

  #band() {
    const band = this.told.band;
    if (!band) return null;
    const found = [];
    if (Number.isFinite(band.low) && Number.isFinite(band.high) && band.low !== null) {
      found.push(s("rect", {class: "band", x: LEFT, width: this.width - LEFT - RIGHT, y: this.py(band.high), height: Math.max(1, this.py(band.low) - this.py(band.high))}));
    }
    if (Number.isFinite(band.value)) found.push(s("line", {class: "teacher", x1: LEFT, x2: this.width - RIGHT, y1: this.py(band.value), y2: this.py(band.value)}));
    return found;
  }

  #few() {
    const few = this.told.few;
    if (!Number.isFinite(few) || few < this.y0 || few > this.y1) return null;
    return s("line", {class: "few", x1: LEFT, x2: this.width - RIGHT, y1: this.py(few), y2: this.py(few)});
  }

  #line(line, colour) {
    const held = line.points.filter((point) => Number.isFinite(point[1]));
    if (!held.length) return null;
    const at = (x, y) => `${this.px(x).toFixed(1)} ${this.py(y).toFixed(1)}`;
    const mean = held.map((point) => at(point[0], point[1])).join("L");
    const parts = [];
    if (held.some((point) => point.length > 2 && point[2] !== point[3])) {
      const over = held.map((point) => at(point[0], point[3] ?? point[1]));
      const under = held.map((point) => at(point[0], point[2] ?? point[1])).reverse();
      parts.push(s("path", {class: `range f${colour}`, d: `M${[...over, ...under].join("L")}Z`}));
    }
    parts.push(s("path", {class: `line s${colour}`, d: `M${mean}${held.length === 1 ? "h0.1" : ""}`, "stroke-linejoin": "round", "stroke-linecap": "round"}));
    if (held.length <= 40) parts.push(...held.map((point) => s("circle", {class: `f${colour}`, cx: this.px(point[0]), cy: this.py(point[1]), r: 2})));
    return parts;
  }

  #events() {
    return (this.told.events ?? []).map((event) => {
      const x = this.px(Math.min(event.iteration, this.x1));
      return s("path", {class: `event ${event.answer === "stop" ? "stop" : ""}`, d: `M${x - 4} ${TOP - 8}h8l-4 7z`}, s("title", {}, event.words));
    });
  }

  #marker() {
    if (this.now === null) return null;
    return s("line", {class: "now", x1: this.px(this.now), x2: this.px(this.now), y1: TOP, y2: H - BOTTOM});
  }

  #x(event) {
    const box = this.svg.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * this.width;
    return this.x0 + ((inside - LEFT) / (this.width - LEFT - RIGHT)) * (this.x1 - this.x0);
  }

  #hover(event) {
    this.svg.querySelector(".hover")?.remove();
    if (!event || this.y1 === undefined) return this.#legend(null);
    const x = Math.min(Math.max(this.#x(event), this.x0), this.x1);
    this.svg.append(s("line", {class: "hover", x1: this.px(x), x2: this.px(x), y1: TOP, y2: H - BOTTOM}));
    this.#legend(x);
  }

  #legend(x) {
    const band = this.told.band;
    const shown = this.told.lines.map((line, i) => {
      const point = x === null ? line.points.at(-1) : nearest(line.points, x);
      return h("b", {class: `key k${i % 6}`}, h("span", {}, `${line.name} ${figure(point?.[1], 4)}`));
    });
    if (band && band.value !== null) {
      const range = band.low === null ? "" : ` (${figure(band.low, 3)} to ${figure(band.high, 3)})`;
      shown.push(h("span", {class: "soft"}, `teacher ${figure(band.value, 4)}${range}`));
    }
    if (Number.isFinite(this.told.few)) shown.push(h("span", {class: "soft"}, `teacher at the student's steps ${figure(this.told.few, 4)}`));
    if (x !== null) shown.unshift(h("span", {}, `iteration ${whole(Math.round(x))}`));
    replace(this.keys, shown);
  }
}

const bottom = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const top = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

// The range of the drawing. One value a hundred times beyond the means would flatten all else, so shades may be cut.
function robust(ys, points) {
  const means = points.map((point) => point[1]).filter(Number.isFinite);
  const [low, high] = [bottom(means), top(means)];
  const room = (high - low || Math.abs(high) || 1) * 1.5;
  return [Math.max(bottom(ys), low - room), Math.min(top(ys), high + room)];
}

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((each) => each * power >= raw) * power;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle;
    else high = middle;
  }
  if (!points.length) return null;
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}
