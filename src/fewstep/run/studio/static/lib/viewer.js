// Two pictures under one glass: side by side, one after the other (flicker), split, their difference, shifts.
// Zoom and place are one for both. Pixels are shown as they are when enlarged.

import {figure, h, replace} from "./dom.js";

const MODES = [
  ["side", "Side by side"],
  ["flicker", "Flicker"],
  ["split", "Split"],
  ["difference", "Difference"],
];
const FLICKER_MS = 500;

// given: {run, sources: () => [{label, url, path}], words: () => {prompt, facts}, step(by), next(by), shift(a, b), picture}
export function openViewer(given) {
  let mode = "side";
  let shown = [];
  let pair = [0, 1];
  let zoom = 1;
  let middle = [0.5, 0.5];
  let split = 0.5;
  let gain = 4;
  let odd = false;
  let shifts = null;
  let timer = null;
  let turn = 0;
  const images = new Map();

  const canvas = h("canvas", {tabindex: "0", aria: {label: "The two pictures; drag to move, wheel or + and - to zoom"}});
  const group = h("span", {class: "group", role: "group", aria: {label: "How they are compared"}});
  const first = h("select", {aria: {label: "First picture"}});
  const second = h("select", {aria: {label: "Second picture"}});
  const amount = h("input", {type: "range", min: 1, max: 20, step: 1, value: gain, aria: {label: "Gain of the difference"}});
  const gainLabel = h("label", {}, "gain", amount);
  const size = h("span", {class: "soft"});
  const foot = h("div", {class: "viewer-foot"});
  const shiftButton = h("button", {type: "button", aria: {pressed: "false"}, title: "Arrows: where each part of the second picture stands against the first, ten times as long"}, "Shifts");
  const bar = h(
    "div",
    {class: "viewer-bar"},
    group,
    h("label", {}, "A", first),
    h("label", {}, "B", second),
    gainLabel,
    shiftButton,
    h("span", {class: "group"}, zoomButton("−", 1 / 1.5, "Smaller"), zoomButton("+", 1.5, "Larger"), h("button", {type: "button", onclick: whole}, "Fit")),
    size,
    h("button", {class: "end", type: "button", onclick: () => dialog.close()}, "Close"),
  );
  const dialog = h("dialog", {class: "viewer", aria: {label: "Compare pictures"}}, h("div", {class: "viewer-body"}, bar, h("div", {class: "stage"}, canvas), foot));

  shiftButton.hidden = !given.shift;
  for (const [name, words] of MODES) {
    group.append(h("button", {type: "button", data: {mode: name}, aria: {pressed: "false"}, onclick: () => choose(name)}, words));
  }
  first.addEventListener("change", () => pick());
  second.addEventListener("change", () => pick());
  amount.addEventListener("input", () => {
    gain = Number(amount.value);
    draw();
  });
  shiftButton.addEventListener("click", async () => {
    shifts = shifts ? null : {waiting: true};
    shiftButton.setAttribute("aria-pressed", String(Boolean(shifts)));
    if (shifts) await measure();
    draw();
  });

  function pick() {
    pair = [Number(first.value), Number(second.value)];
    load();
  }

  function choose(name) {
    mode = name;
    for (const button of group.children) button.setAttribute("aria-pressed", String(button.dataset.mode === name));
    gainLabel.hidden = name !== "difference";
    clearInterval(timer);
    timer = null;
    odd = false;
    if (name === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
      timer = setInterval(() => {
        odd = !odd;
        draw();
      }, FLICKER_MS);
    }
    draw();
  }

  // The case or the iteration has changed: other pictures under the same labels.
  async function refresh() {
    const before = pair.map((i) => shown[i]?.label);
    shown = given.sources();
    const at = (label, otherwise) => {
      const found = shown.findIndex((each) => each.label === label);
      return found >= 0 ? found : otherwise;
    };
    pair = before[0] === undefined ? given.start(shown) : [at(before[0], 0), at(before[1], shown.length - 1)];
    for (const [select, which] of [[first, pair[0]], [second, pair[1]]]) {
      replace(select, shown.map((each, i) => h("option", {value: i}, each.name ?? each.label)));
      select.value = String(which);
    }
    const words = given.words();
    replace(foot, h("p", {}, words.prompt || words.id), h("p", {class: "soft"}, words.facts.join(" · ")));
    await load();
  }

  async function load() {
    const mine = ++turn;
    const wanted = pair.map((i) => shown[i]).filter(Boolean);
    await Promise.all(wanted.map((each) => fetched(each.url)));
    if (mine !== turn) return;
    if (shifts) await measure();
    draw();
  }

  async function fetched(url) {
    if (images.get(url)) return;
    const image = new Image();
    image.src = url;
    try {
      await image.decode();
      images.set(url, image);
    } catch {
      images.set(url, null);
    }
    if (images.size > 60) images.delete(images.keys().next().value);
  }

  async function measure() {
    const [a, b] = pair.map((i) => shown[i]);
    try {
      shifts = await given.shift(a.path, b.path);
    } catch (error) {
      shifts = null;
      shiftButton.setAttribute("aria-pressed", "false");
      replace(foot, h("p", {class: "notice"}, error.message));
    }
  }

  function draw() {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    const context = canvas.getContext("2d");
    const [a, b] = pair.map((i) => images.get(shown[i]?.url) ?? null);
    const labels = pair.map((i) => shown[i]?.name ?? shown[i]?.label ?? "");
    const style = getComputedStyle(canvas);
    const [w, hh] = place();
    const fit = scaleOf(b ?? a, w, hh);
    const scale = fit * zoom;
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "high";
    const paint = (image, x, y, width, label, x0 = x) => {
      context.save();
      context.beginPath();
      context.rect(x, y, width, hh - (y ? 0 : ratio));
      context.clip();
      if (image) {
        // Both lie in the place of B, whatever their sizes.
        const [bw, bh] = size_of(b ?? a);
        const left = x0 + w / 2 - middle[0] * bw * scale;
        context.drawImage(image, left, y + hh / 2 - middle[1] * bh * scale, bw * scale, bh * scale);
      } else words(context, "this picture is not there (any more)", x + width / 2, y + hh / 2, style.color, ratio, "center");
      tag(context, label, x + 8 * ratio, y, ratio);
      context.restore();
    };
    if (mode === "side") {
      const [x, y] = w < canvas.width ? [w + ratio, 0] : [0, hh + ratio];
      paint(a, 0, 0, w - ratio, `A  ${labels[0]}`);
      paint(b, x, y, w - ratio, `B  ${labels[1]}`);
    } else if (mode === "flicker") paint(odd ? b : a, 0, 0, w, odd ? `B  ${labels[1]}` : `A  ${labels[0]}`);
    else if (mode === "split") {
      const at = split * w;
      paint(a, 0, 0, at, `A  ${labels[0]}`, 0);
      paint(b, at, 0, w - at, `B  ${labels[1]}`, 0);
      context.fillStyle = style.color;
      context.fillRect(at - ratio, 0, 2 * ratio, canvas.height);
    } else if (a && b) paint(differenceOf(a, b, gain), 0, 0, w, `|A − B| × ${gain}`);
    if (shifts?.tiles && b) arrows(context, b, scale, ratio);
    const [bw, bh] = b ? size_of(b) : [0, 0];
    size.textContent = b ? `${bw} × ${bh} px, ${Math.round((100 * scale) / ratio)} %` : "";
  }

  // How large the place of one picture is: half of the canvas side by side, along its longer side.
  function place() {
    if (mode !== "side") return [canvas.width, canvas.height];
    return canvas.height > canvas.width ? [canvas.width, canvas.height / 2] : [canvas.width / 2, canvas.height];
  }

  function arrows(context, image, scale, ratio) {
    const [bw, bh] = size_of(image);
    const [w, hh] = place();
    const [x0, y0] = [canvas.width - w, canvas.height - hh];
    const by = bw / shifts.width;
    const left = x0 + w / 2 - middle[0] * bw * scale;
    const top = y0 + hh / 2 - middle[1] * bh * scale;
    context.lineWidth = 2 * ratio;
    for (const tile of shifts.tiles) {
      if (tile.dx === null) continue;
      const x = left + (tile.x + tile.w / 2) * by * scale;
      const y = top + (tile.y + tile.h / 2) * by * scale;
      const [dx, dy] = [tile.dx * by * scale * 10, tile.dy * by * scale * 10];
      const still = Math.hypot(tile.dx, tile.dy) < 0.15;
      context.strokeStyle = context.fillStyle = still ? "#3aa76d" : "#ff5a36";
      context.beginPath();
      context.arc(x, y, 2.5 * ratio, 0, 7);
      context.fill();
      if (still) continue;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + dx, y + dy);
      context.stroke();
    }
  }

  function zoomButton(words, by, label) {
    return h("button", {type: "button", aria: {label}, onclick: () => zoomBy(by)}, words);
  }

  function zoomBy(by) {
    zoom = Math.min(64, Math.max(0.25, zoom * by));
    draw();
  }

  function whole() {
    zoom = 1;
    middle = [0.5, 0.5];
    draw();
  }

  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    const box = canvas.getBoundingClientRect();
    const onBar = mode === "split" && Math.abs((event.clientX - box.left) / box.width - split) < 0.04;
    held = {x: event.clientX, y: event.clientY, middle: [...middle], bar: onBar};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const box = canvas.getBoundingClientRect();
    if (held.bar) split = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    else {
      const image = images.get(shown[pair[1]]?.url);
      if (!image) return;
      const ratio = window.devicePixelRatio || 1;
      const [w, h2] = size_of(image);
      const scale = (scaleOf(image, ...place()) * zoom) / ratio;
      middle = [held.middle[0] - (event.clientX - held.x) / (w * scale), held.middle[1] - (event.clientY - held.y) / (h2 * scale)];
    }
    draw();
  });
  canvas.addEventListener("pointerup", () => (held = null));
  canvas.addEventListener("pointercancel", () => (held = null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, {passive: false});

  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input") && event.key.startsWith("Arrow")) return;
    const number = Number(event.key) - 1;
    if (MODES[number]) choose(MODES[number][0]);
    else if (event.key === "ArrowLeft") given.step(-1);
    else if (event.key === "ArrowRight") given.step(1);
    else if (event.key === "ArrowUp") given.next(-1);
    else if (event.key === "ArrowDown") given.next(1);
    else if (event.key === "f") {
      choose("flicker");
      clearInterval(timer);
      odd = !odd;
      draw();
    } else if (event.key === "s") swap();
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") whole();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function swap() {
    pair.reverse();
    first.value = String(pair[0]);
    second.value = String(pair[1]);
    load();
  }

  const resized = new ResizeObserver(() => draw());
  dialog.addEventListener("close", () => {
    clearInterval(timer);
    resized.disconnect();
    dialog.remove();
    given.closed?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  resized.observe(canvas.parentElement);
  canvas.focus();
  choose("side");
  refresh();
  return {refresh, close: () => dialog.close()};
}

const size_of = (image) => [image.naturalWidth ?? image.width, image.naturalHeight ?? image.height];

function scaleOf(image, w, height) {
  if (!image) return 1;
  const [iw, ih] = size_of(image);
  return Math.min(w / iw, height / ih) * 0.98;
}

function differenceOf(a, b, gain) {
  const [w, height] = size_of(b);
  const pixels = [a, b].map((image) => {
    const sheet = new OffscreenCanvas(w, height);
    const context = sheet.getContext("2d", {willReadFrequently: true});
    context.drawImage(image, 0, 0, w, height);
    return context.getImageData(0, 0, w, height);
  });
  const [x, y] = pixels.map((each) => each.data);
  for (let i = 0; i < x.length; i += 4) {
    for (let c = 0; c < 3; c++) x[i + c] = Math.min(255, Math.abs(x[i + c] - y[i + c]) * gain);
    x[i + 3] = 255;
  }
  const sheet = new OffscreenCanvas(w, height);
  sheet.getContext("2d").putImageData(pixels[0], 0, 0);
  return sheet;
}

function words(context, text, x, y, colour, ratio, align = "left") {
  context.font = `${13 * ratio}px system-ui, sans-serif`;
  context.textAlign = align;
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

function tag(context, text, x, y, ratio) {
  context.font = `${13 * ratio}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 12 * ratio;
  context.fillStyle = "rgb(0 0 0 / .62)";
  context.fillRect(x, y + 8 * ratio, width, 21 * ratio);
  words(context, text, x + 6 * ratio, y + 23 * ratio, "#fff", ratio);
}

export const shownFigures = (values) => Object.entries(values ?? {}).map(([name, value]) => `${name} ${figure(value, 3)}`);
