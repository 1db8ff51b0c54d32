// Prompts and photos, drawn by several models side by side from the same noise. What was drawn stays, below.

import {figure, h, replace, whole} from "../lib/dom.js";
import {address, get, post, postForm} from "../lib/net.js";
import {openViewer} from "../lib/viewer.js";

const SOON_MS = 500; // between two looks while something is drawn
const LATER_MS = 4000;
const SMALL = 256; // px: a picture below it is enlarged by whole pixels
const FORM = "playground"; // what the form held, in this browser

export async function open(place, fields, app) {
  const models = (await get("/api/playground/models")).columns;
  const held = remembered();
  let chosen = new Set((held.columns ?? []).filter((key) => models.some((each) => each.key === key)));
  let group = models.find((each) => chosen.has(each.key))?.group ?? models[0]?.group ?? "";
  if (fields.run && models.some((each) => each.group === fields.run)) group = fields.run;
  if (!chosen.size || fields.run) chosen = new Set(models.filter((each) => each.group === group && each.usual).map((each) => each.key));
  if (!chosen.size) chosen = new Set(models.slice(0, 1).map((each) => each.key));
  let photos = []; // {name, size}
  let state = {drawings: [], training: [], loaded: false};
  let timer = null;
  let ended = false;

  const prompt = h("textarea", {rows: 3, id: "playground-prompt", placeholder: "What to draw; with photos, how to edit them", value: held.prompt ?? ""});
  const seed = h("input", {type: "number", min: 0, step: 1, value: held.seed ?? 0, aria: {label: "First seed"}});
  const count = h("input", {type: "number", min: 1, max: 16, step: 1, value: held.count ?? 1, aria: {label: "Number of seeds"}});
  const size = h("input", {type: "text", placeholder: "as the model", value: held.size ?? "", aria: {label: "Size, height x width"}});
  const allowed = h("input", {type: "checkbox"});
  const allow = h("label", {class: "notice", hidden: true}, allowed, h("span", {}));
  const file = h("input", {type: "file", accept: "image/*", multiple: true, hidden: true, onchange: () => hand(file.files)});
  const dropped = h("div", {class: "drop", aria: {label: "Photos"}});
  const picker = h("div", {class: "picker"});
  const form = h(
    "form",
    {class: "playground-form", onsubmit: (event) => (event.preventDefault(), draw())},
    h("label", {class: "field", for: "playground-prompt"}, h("span", {}, "Prompt")),
    prompt,
    dropped,
    file,
    h("div", {class: "row"}, h("label", {}, "seed", seed), h("label", {}, "pictures", count), h("label", {}, "size", size)),
    picker,
    allow,
    h("div", {class: "row"}, h("button", {class: "main", type: "submit"}, "Draw"), h("small", {}, "Ctrl + Enter")),
  );
  const memory = h("div", {class: "row playground-memory"});
  const frozen = h("div", {});
  const history = h("div", {class: "drawings"});
  replace(place, h("h1", {}, "Playground"), h("div", {class: "playground"}, form, h("section", {aria: {label: "Drawings"}}, memory, frozen, history)));
  app.title("Playground");

  // ---- the form

  function drawPicker() {
    const groups = [...new Set(models.map((each) => each.group))];
    const select = h("select", {aria: {label: "Models of"}}, groups.map((each) => h("option", {value: each}, each ? `run ${each}` : "students and teachers")));
    select.value = group;
    select.addEventListener("change", () => {
      group = select.value;
      drawPicker();
    });
    const offered = models.filter((each) => each.group === group);
    const others = models.filter((each) => each.group !== group && chosen.has(each.key));
    const box = (each, words) => {
      const input = h("input", {type: "checkbox", checked: chosen.has(each.key), value: each.key});
      input.addEventListener("change", () => {
        if (input.checked) chosen.add(each.key);
        else chosen.delete(each.key);
        remember();
      });
      return h("label", {}, input, words);
    };
    replace(
      picker,
      h("fieldset", {}, h("legend", {}, "Models"), select, h("div", {class: "boxes"}, offered.map((each) => box(each, each.title)))),
      others.length ? h("fieldset", {}, h("legend", {}, "And of others"), h("div", {class: "boxes"}, others.map((each) => box(each, each.group ? `${each.title}, ${each.group}` : each.title)))) : null,
    );
  }

  // A case of a run's page: its prompt and pictures, from the same noise.
  async function take() {
    try {
      const taken = await post("/api/playground/take", {run: fields.run, group: fields.group, case: Number(fields.case), moment: Number(fields.moment ?? 0)});
      prompt.value = taken.prompt;
      seed.value = taken.seed;
      count.value = 1;
      size.value = taken.size ? taken.size.join("x") : "";
      photos = taken.photos;
      chosen = new Set(taken.columns);
    } catch (error) {
      app.say(error.message, "fault");
    }
  }

  function drawPhotos() {
    const shown = photos.map((photo, i) => h("span", {class: "photo"}, picture(address("/api/playground/picture", {photo: photo.name}), `Photo ${i + 1}`), h("button", {type: "button", class: "quiet", aria: {label: `Remove photo ${i + 1}`}, onclick: () => ((photos = photos.filter((each) => each !== photo)), drawPhotos())}, "×")));
    replace(dropped, shown, h("button", {type: "button", class: "quiet", onclick: () => file.click()}, photos.length ? "another photo" : "Drop photos here, or choose"));
  }

  async function hand(files) {
    for (const each of [...files].filter((one) => one.type.startsWith("image/"))) {
      try {
        const photo = await postForm("/api/playground/photo", each);
        if (!photos.some((known) => known.name === photo.name)) photos.push(photo);
      } catch (error) {
        app.say(`${each.name}: ${error.message}`, "fault");
      }
    }
    file.value = "";
    drawPhotos();
  }

  async function draw() {
    remember();
    const keys = models.filter((each) => chosen.has(each.key)).map((each) => each.key);
    try {
      await post("/api/playground/draw", {prompt: prompt.value, references: photos.map((each) => each.name), seed: Number(seed.value), count: Number(count.value), size: size.value, columns: keys, allowed: allowed.checked});
    } catch (error) {
      app.say(error.message, "fault");
    }
    await look();
  }

  function remember() {
    try {
      localStorage.setItem(FORM, JSON.stringify({prompt: prompt.value, seed: Number(seed.value), count: Number(count.value), size: size.value, columns: [...chosen]}));
    } catch {
      // a browser that keeps nothing
    }
  }

  // ---- drawings

  const elements = new Map(); // id -> {element, told}: only what has changed is drawn anew

  async function look() {
    clearTimeout(timer);
    try {
      state = await get("/api/playground/state");
    } catch (error) {
      app.say(error.message, "fault");
    }
    if (ended) return;
    allow.hidden = !state.training.length;
    allow.lastChild.textContent = `${state.training[0] ?? ""} trains on this machine. Draw all the same: it will be slower, and may run out of memory.`;
    replace(memory, h("small", {}, state.loaded ? "A model is in memory; it leaves after two minutes without a drawing." : "No model is in memory."), state.loaded ? h("button", {type: "button", class: "quiet", onclick: () => act("/api/playground/unload", {})}, "Let it go") : null, state.kept ? h("button", {type: "button", class: "quiet", onclick: freeze}, `Make a suite of my ${state.kept} ${state.kept === 1 ? "case" : "cases"}`) : null);
    const shown = state.drawings.map((drawing) => {
      const told = JSON.stringify(drawing);
      if (elements.get(drawing.id)?.told !== told) elements.set(drawing.id, {told, element: drawingElement(drawing)});
      return elements.get(drawing.id).element;
    });
    if (shown.some((element, i) => history.children[i] !== element) || history.children.length !== shown.length) replace(history, shown.length ? shown : h("p", {class: "empty"}, "Nothing was drawn yet."));
    timer = setTimeout(look, state.drawings.some((drawing) => drawing.living) ? SOON_MS : LATER_MS);
  }

  async function freeze() {
    try {
      const {said} = await post("/api/playground/freeze", {});
      replace(frozen, h("pre", {}, said), h("button", {type: "button", class: "quiet", onclick: () => replace(frozen)}, "Close"));
    } catch (error) {
      app.say(error.message, "fault");
    }
  }

  async function act(path, body) {
    try {
      const answer = await post(path, body);
      if (answer.said) app.say(answer.said);
    } catch (error) {
      app.say(error.message, "fault");
    }
    await look();
  }

  function drawingElement(drawing) {
    const waits = drawing.state === "waiting";
    const words = waits ? "waits" : drawing.state === "drawing" ? progress(drawing) : drawing.state === "done" ? "" : `stopped: ${drawing.why}`;
    return h(
      "article",
      {class: "drawing", data: {state: drawing.state}},
      h("p", {class: "drawing-prompt"}, drawing.prompt),
      h(
        "div",
        {class: "row drawing-actions"},
        h("span", {class: drawing.state === "stopped" ? "state failed" : "soft"}, words),
        h("button", {type: "button", class: "quiet", onclick: () => fill(drawing)}, "Use again"),
        drawing.living ? h("button", {type: "button", class: "quiet", onclick: () => act("/api/playground/cancel", {drawing: drawing.id})}, "Stop") : h("button", {type: "button", class: "quiet", onclick: () => act("/api/playground/forget", {drawing: drawing.id})}, "Remove"),
        h("button", {type: "button", class: "quiet", onclick: () => act("/api/playground/keep", {drawing: drawing.id})}, "Add to my suite"),
      ),
      drawing.note ? h("p", {class: "notice"}, drawing.note) : null,
      ...drawing.seeds.map((each) => row(drawing, each)),
      Object.entries(drawing.faults).map(([column, why]) => h("p", {class: "notice"}, `${drawing.columns[column].title}: ${why}`)),
    );
  }

  function progress(drawing) {
    const done = Object.keys(drawing.cells).length;
    const now = drawing.columns[drawing.loading];
    return `${now ? `${now.title}: ` : ""}${done} of ${drawing.columns.length * drawing.seeds.length} drawn`;
  }

  function row(drawing, each) {
    const sources = drawing.references.map((_, i) => tile(drawing, `source-${i}`, "source", "", each));
    const cells = drawing.columns.map((column, c) => {
      const cell = drawing.cells[`${c}-${each}`];
      const gone = drawing.faults[c] ? "not drawn" : drawing.living ? "…" : "not drawn";
      const cost = cell ? `${whole(cell.nfe)} calls · ${figure(cell.seconds, 3)} s` : gone;
      return cell ? tile(drawing, `${c}-${each}`, column.title, cost, each) : h("figure", {class: "tile"}, h("span", {class: "frame"}, h("span", {class: "gone"}, gone)), h("figcaption", {}, column.title));
    });
    return h("div", {class: "drawing-row"}, h("small", {class: "drawing-seed"}, `seed ${each}`), h("div", {class: "tiles"}, sources, cells));
  }

  function tile(drawing, cell, title, cost, each) {
    const image = picture(url(drawing, cell), `${title}, seed ${each}`);
    return h("button", {class: "tile", type: "button", onclick: () => view(drawing, each, cell)}, h("span", {class: "frame"}, image), h("span", {class: "caption", title}, title), cost ? h("span", {class: "caption soft"}, cost) : null);
  }

  function view(drawing, each, cell) {
    let now = each;
    const viewer = openViewer({
      sources: () => [
        ...drawing.references.map((_, i) => ({label: "source", url: url(drawing, `source-${i}`), path: `source-${i}`})),
        ...drawing.columns.flatMap((column, c) => (drawing.cells[`${c}-${now}`] ? [{label: column.title, url: url(drawing, `${c}-${now}`), path: `${c}-${now}`}] : [])),
      ],
      start(all) {
        const clicked = Math.max(0, all.findIndex((one) => one.path === cell));
        return clicked ? [0, clicked] : [0, Math.min(1, all.length - 1)];
      },
      words: () => ({prompt: drawing.prompt, id: drawing.id, facts: [`seed ${now}`]}),
      step: (by) => seedBy(by),
      next: (by) => seedBy(by),
      shift: (a, b) => get("/api/playground/shift", {drawing: drawing.id, a, b}),
    });
    function seedBy(by) {
      const at = drawing.seeds.indexOf(now) + by;
      if (drawing.seeds[at] === undefined) return;
      now = drawing.seeds[at];
      viewer.refresh();
    }
  }

  function fill(drawing) {
    prompt.value = drawing.prompt;
    seed.value = drawing.seeds[0];
    count.value = drawing.seeds.length;
    size.value = drawing.size ? drawing.size.join("x") : "";
    photos = drawing.references.map((name) => ({name}));
    const keys = drawing.columns.map((column) => column.key).filter((key) => models.some((each) => each.key === key));
    if (keys.length) chosen = new Set(keys);
    drawPhotos();
    drawPicker();
    prompt.focus();
  }

  // ---- photos that are dragged in, and keys

  const over = (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    dropped.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") hand(event.dataTransfer.files);
  };
  const leave = () => dropped.classList.remove("over");
  const pasted = (event) => event.clipboardData?.files.length && hand(event.clipboardData.files);
  const pressed = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      draw();
    }
  };
  const listeners = [["dragover", over], ["drop", over], ["dragleave", leave], ["paste", pasted], ["keydown", pressed]];
  for (const [name, listener] of listeners) document.addEventListener(name, listener);

  if (fields.case !== undefined) await take();
  drawPicker();
  drawPhotos();
  await look();
  return () => {
    ended = true;
    clearTimeout(timer);
    for (const [name, listener] of listeners) document.removeEventListener(name, listener);
  };
}

const url = (drawing, cell) => address("/api/playground/picture", {drawing: drawing.id, cell});

function picture(source, alt) {
  const image = h("img", {src: source, alt, loading: "lazy"});
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < SMALL));
  return image;
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(FORM) ?? "{}");
  } catch {
    return {};
  }
}
