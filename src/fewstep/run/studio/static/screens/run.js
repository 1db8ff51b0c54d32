// One run: one slider over the iterations for every picture, curves with events, shares, recipe.

import {ago, bytes, duration, figure, h, padded, replace, s, whole} from "../lib/dom.js";
import {get, listen, picture} from "../lib/net.js";
import {Chart} from "../lib/chart.js";
import {openViewer, shownFigures} from "../lib/viewer.js";
import {actions, lamp} from "./runs.js";

const AT_FIRST = 12; // cases that are shown before more are asked for
const PLAY_MS = 700;
const SMALL = 256; // px: a picture below it is enlarged by whole pixels

const CHARTS = [
  ["Cosine of critic and teachers", /^cosine( @|$)/, "healthy near 0.98"],
  ["Gap of critic and teachers", /^gap( @|$)/, "relative; small and steady"],
  ["Loss of the student", /^student_loss( @|$)/, ""],
  ["Loss of the critic", /^critic_loss$/, ""],
  ["Norms of gradients", /^(student|critic)_norm$/, "before clipping"],
  ["Saturation", /^saturation/, "share of latent values beyond 3 standard deviations"],
  ["Spread of the latents", /^latent_spread$/, "over the teachers'; healthy near 1"],
  ["Seconds an iteration", /^seconds$/, ""],
];

export async function open(place, fields, app) {
  const name = fields.run;
  let told = await get("/api/run/page", {run: name});
  let at = told.moments.length - 1;
  let follows = true; // the slider stays at the newest pictures until it is moved
  let playing = null;
  let figures = new Map();
  let viewer = null;
  let viewed = null;
  let shown = AT_FIRST;
  let charts = [];
  let filters = {group: told.groups[0]?.key ?? "", task: "", category: ""};
  let ended = false;

  const head = h("div", {class: "run-head"});
  const notices = h("div");
  const slider = h("input", {type: "range", min: 0, step: 1, aria: {label: "Iteration of the pictures"}});
  const output = h("output", {});
  const play = h("button", {type: "button", aria: {pressed: "false"}, onclick: () => toggle()}, "Play");
  const timeline = h(
    "div",
    {class: "timeline"},
    output,
    h("button", {type: "button", aria: {label: "Earlier pictures"}, onclick: () => step(-1)}, "◀"),
    slider,
    h("button", {type: "button", aria: {label: "Later pictures"}, onclick: () => step(1)}, "▶"),
    play,
  );
  const chooser = h("div", {class: "row"});
  const cases = h("div", {class: "cases"});
  const more = h("button", {type: "button", onclick: () => ((shown += 24), drawCases())}, "More cases");
  const pictures = h("section", {aria: {label: "Pictures"}}, timeline, chooser, cases, more);
  const chartPlace = h("div", {class: "charts"});
  const examPlace = h("div", {class: "charts"});
  const curveNote = h("p", {class: "soft"});
  const eventPlace = h("section");
  const sharePlace = h("section");
  const recipePlace = h("section");
  const logPlace = h("section");
  replace(
    place,
    head,
    notices,
    pictures,
    h("section", {aria: {label: "Examinations"}}, h("h2", {}, "Examinations"), examPlace),
    h("section", {aria: {label: "Training"}}, h("h2", {}, "Training"), curveNote, chartPlace),
    eventPlace,
    sharePlace,
    recipePlace,
    logPlace,
  );

  // ---- head

  function drawHead() {
    const run = told.summary;
    app.title(`${run.name} ${run.iteration}/${run.iterations}`);
    const fact = (words, value) => (value === null || value === "–" ? null : h("span", {}, `${words} `, h("b", {}, value)));
    replace(
      head,
      lamp(run),
      h("h1", {}, run.name),
      h(
        "div",
        {class: "facts"},
        h("span", {class: `state ${run.state}`}, run.state),
        fact("iteration", `${whole(run.iteration)} of ${whole(run.iterations)}`),
        fact("left", run.state === "training" ? duration(run.seconds_left) : null),
        fact("s an iteration", figure(run.seconds, 3)),
        fact("GPU memory, most", run.gpu_memory ? bytes(run.gpu_memory) : null),
        fact("memory", run.memory ? bytes(run.memory) : null),
        fact("written", ago(run.changed)),
        run.best ? h("span", {}, `best ${run.best.name} `, h("b", {}, figure(run.best.value)), ` at ${whole(run.best.iteration)}`) : null,
      ),
      h("div", {class: "actions row"}, actions(run, app, reload), link("playground", "Playground"), link("ship", "Ship"), link("plan", "Plan"), link("data", "Data")),
    );
    replace(notices, [run.words, ...told.faults, ...run.damage].filter(Boolean).map((words) => h("p", {class: "notice"}, words)));
  }

  const link = (screen, words) => h("a", {class: "button", href: `#/${screen}?${new URLSearchParams({run: name})}`}, words);

  // What processes printed that the studio started for this run.
  function drawLog() {
    const text = h("pre", {tabindex: "0"});
    const details = h("details", {}, h("summary", {}, "Log"), text);
    details.addEventListener("toggle", async () => {
      if (details.open) text.textContent = (await get("/api/runs/log", {run: name})).tail || "Nothing: this studio or another one has started no process for this run.";
    });
    replace(logPlace, details);
  }

  // ---- pictures

  const group = () => told.groups.find((each) => each.key === filters.group) ?? told.groups[0];
  const moment = () => told.moments[at];

  // The newest picture of a group that is not after the slider.
  function momentOf(each) {
    const before = each.moments.filter((one) => one <= moment());
    return before.length ? before.at(-1) : each.moments[0];
  }

  function chosen() {
    const fitting = (group()?.cases ?? []).filter((one) => (!filters.task || one.task === filters.task) && (!filters.category || one.category === filters.category));
    return alternating(fitting);
  }

  function drawChooser() {
    const all = group()?.cases ?? [];
    const select = (label, field, values) => {
      if (values.length < 2) return null;
      const options = [h("option", {value: ""}, `all ${label}`), ...values.map((each) => h("option", {value: each}, each))];
      const element = h("select", {aria: {label}}, options);
      element.value = filters[field];
      element.addEventListener("change", () => {
        filters[field] = element.value;
        shown = AT_FIRST;
        drawCases();
      });
      return element;
    };
    const groups = told.groups.length > 1
      ? h("span", {class: "group", role: "group", aria: {label: "Which pictures"}}, told.groups.map((each) => h("button", {type: "button", aria: {pressed: String(each.key === group().key)}, onclick: () => ((filters = {group: each.key, task: "", category: ""}), (shown = AT_FIRST), drawChooser(), drawCases())}, each.title)))
      : null;
    replace(
      chooser,
      groups,
      select("tasks", "task", [...new Set(all.map((one) => one.task).filter(Boolean))]),
      select("categories", "category", [...new Set(all.map((one) => one.category).filter(Boolean))].sort()),
      h("small", {}, group()?.note ?? ""),
    );
  }

  let tiles = [];

  function drawCases() {
    const all = chosen();
    tiles = [];
    replace(cases, all.slice(0, shown).map((one) => caseElement(one)));
    more.hidden = all.length <= shown;
    more.textContent = `More cases (${all.length - shown} left)`;
    pictures.hidden = !told.groups.length;
    drawMoment();
  }

  function caseElement(one) {
    const row = h("div", {class: "tiles"});
    one.source.forEach((path, i) => row.append(tile(one, one.source.length > 1 ? `source ${i + 1}` : "source", path)));
    one.fixed.forEach((each) => row.append(tile(one, each.label, each.path)));
    const student = tile(one, "student", null);
    row.append(student);
    tiles.push({one, element: student});
    const words = one.prompt || one.id;
    return h("article", {class: "case"}, h("div", {class: "case-head"}, h("p", {title: words}, words), drawAgain(one)), row);
  }

  // To the Playground with this case. Where it leads is settled at the click: the slider may have moved.
  function drawAgain(one) {
    const anchor = h("a", {class: "again", href: "#/playground", aria: {label: `Draw in the Playground: ${one.prompt || one.id}`}}, "Playground");
    const settle = () => (anchor.href = `#/playground?${new URLSearchParams({run: name, group: group().key, case: group().cases.indexOf(one), moment: moment() ?? 0})}`);
    for (const kind of ["pointerdown", "focus", "mouseenter"]) anchor.addEventListener(kind, settle);
    settle();
    return anchor;
  }

  function tile(one, label, path) {
    const image = h("img", {alt: `${label}: ${one.prompt || one.id}`, loading: "lazy", decoding: "async"});
    const gone = h("span", {class: "gone", hidden: true}, "not there (any more)");
    image.addEventListener("load", () => {
      image.classList.toggle("small", image.naturalWidth < SMALL);
      image.parentElement.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
      image.hidden = false;
      gone.hidden = true;
    });
    image.addEventListener("error", () => {
      image.hidden = true;
      gone.hidden = false;
    });
    if (path) image.src = picture(name, path, 640);
    return h(
      "button",
      {class: `tile ${label === "student" ? "student" : ""}`, type: "button", title: label, onclick: () => view(one, label)},
      h("span", {class: "frame"}, image, gone),
      h("span", {class: "caption"}, label),
    );
  }

  function drawMoment() {
    slider.max = String(Math.max(0, told.moments.length - 1));
    slider.value = String(at);
    const here = group();
    if (!here || !here.moments.length) {
      output.textContent = "no pictures yet";
      return;
    }
    const now = momentOf(here);
    output.textContent = `iteration ${whole(moment())}`;
    slider.setAttribute("aria-valuetext", `iteration ${moment()}`);
    for (const {one, element} of tiles) {
      const url = picture(name, one.student.replace("{moment}", padded(now)), 640);
      const image = element.querySelector("img");
      if (image.getAttribute("src") !== url) image.src = url;
      const found = figures.get(now)?.[`${one.id} ${one.seed}`];
      element.querySelector(".caption").textContent = ["student", now === moment() ? null : `at ${whole(now)}`, ...shownFigures(found).slice(0, 2)].filter(Boolean).join(" · ");
    }
    charts.forEach((chart) => chart.mark(moment()));
    if (here.key === "exam" && !figures.has(now)) fetchFigures(now);
    viewer?.refresh();
    ahead(here);
  }

  async function fetchFigures(now) {
    figures.set(now, {});
    figures.set(now, await get("/api/run/figures", {run: name, iteration: now}).catch(() => ({})));
    if (!ended) drawMoment();
  }

  // The neighbours of what is shown are fetched, so that the slider moves without a wait.
  function ahead(here) {
    for (const by of [1, -1]) {
      const next = here.moments[here.moments.indexOf(momentOf(here)) + by];
      if (next === undefined) continue;
      for (const {one} of tiles.slice(0, 24)) new Image().src = picture(name, one.student.replace("{moment}", padded(next)), 640);
    }
  }

  function step(by) {
    go(at + by);
  }

  function go(to) {
    at = Math.min(Math.max(0, to), told.moments.length - 1);
    follows = at === told.moments.length - 1;
    drawMoment();
  }

  function toggle() {
    if (playing) {
      clearInterval(playing);
      playing = null;
    } else {
      if (at === told.moments.length - 1) go(0);
      playing = setInterval(() => {
        if (at >= told.moments.length - 1) toggle();
        else step(1);
      }, PLAY_MS);
    }
    play.setAttribute("aria-pressed", String(Boolean(playing)));
    play.textContent = playing ? "Pause" : "Play";
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  const keys = (event) => {
    if (viewer || document.querySelector("dialog[open]") || event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === " " && !event.target.matches("button, summary, a")) toggle();
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", keys);

  function sourcesOf(one) {
    const fixed = [
      ...one.source.map((path, i) => ({label: one.source.length > 1 ? `source ${i + 1}` : "source", path})),
      ...one.fixed.map((each) => ({label: each.label, path: each.path})),
    ];
    const here = group();
    const now = momentOf(here);
    const others = here.moments.map((each) => ({label: `student at ${each}`, path: one.student.replace("{moment}", padded(each))}));
    return [...fixed, {label: "student", name: `student, iteration ${whole(now)}`, path: one.student.replace("{moment}", padded(now))}, ...others].map((each) => ({...each, url: picture(name, each.path)}));
  }

  function view(one, label) {
    viewed = one;
    viewer = openViewer({
      sources: () => sourcesOf(viewed),
      start(all) {
        const student = all.findIndex((each) => each.label === "student");
        const clicked = all.findIndex((each) => each.label === label);
        return label === "student" ? [Math.max(0, student - 1), student] : [clicked, student];
      },
      words() {
        const now = momentOf(group());
        const found = figures.get(now)?.[`${viewed.id} ${viewed.seed}`];
        const facts = [viewed.prompt ? viewed.id : null, viewed.task, viewed.category, viewed.seed === null ? null : `seed ${viewed.seed}`, `iteration ${whole(now)}`, ...shownFigures(found)];
        return {prompt: viewed.prompt, id: viewed.id, facts: facts.filter(Boolean)};
      },
      step,
      next(by) {
        const all = chosen();
        viewed = all[(all.indexOf(viewed) + by + all.length) % all.length];
        viewer.refresh();
      },
      shift: (a, b) => get("/api/run/shift", {run: name, a, b}),
      closed: () => (viewer = null),
    });
  }

  // ---- curves

  async function drawCurves() {
    const found = await get("/api/run/curves", {run: name});
    if (ended) return;
    const end = told.summary.iterations;
    const events = found.events.shown;
    charts = [];
    const used = new Set();
    const make = (title, names, note) => {
      if (!names.length) return;
      names.forEach((each) => used.add(each));
      const lines = names.map((each) => ({name: lineName(each, names), key: each, points: found.curves[each]}));
      charts.push(new Chart({title, note, lines, events, end}, pickMoment));
    };
    const all = Object.keys(found.curves);
    for (const [title, pattern, note] of CHARTS) make(title, all.filter((each) => pattern.test(each)), note);
    for (const teacher of new Set(all.filter((each) => each.startsWith("pull/")).map((each) => each.split(" @ ")[0]))) {
      make(`Pull of ${teacher.slice(5)}`, all.filter((each) => each.startsWith(`${teacher} @`)), "against the base; 1 where the two balance");
    }
    const main = charts.length;
    for (const each of all.filter((one) => !used.has(one))) make(each.replaceAll("_", " "), [each], "");
    const rest = charts.slice(main).map((chart) => chart.element);
    replace(chartPlace, charts.slice(0, main).map((chart) => chart.element), rest.length ? h("details", {class: "further"}, h("summary", {}, `${rest.length} more figures`), h("div", {class: "charts"}, rest)) : null);
    const exams = found.examined.map((each) => new Chart({title: each.name, note: [each.words, aim(each.aim)].filter(Boolean).join("; "), unit: each.unit, band: each.band, few: each.few, lines: [{name: "student", points: each.points}], events, end}, pickMoment));
    replace(examPlace, exams.map((chart) => chart.element));
    examPlace.parentElement.hidden = !exams.length;
    chartPlace.parentElement.hidden = !all.length;
    charts.push(...exams);
    curveNote.textContent = found.complete ? "" : `A long run: every ${Math.max(2, Math.round(found.iteration / 2000))}th iteration is shown until all are read.`;
    curveNote.hidden = found.complete;
    if (moment() !== undefined) charts.forEach((chart) => chart.mark(moment()));
    drawEvents(found.events);
    if (!found.complete) setTimeout(() => !ended && drawCurves(), 3000);
  }

  function pickMoment(iteration) {
    if (!told.moments.length) return;
    const near = told.moments.reduce((best, each, i) => (Math.abs(each - iteration) < Math.abs(told.moments[best] - iteration) ? i : best), 0);
    go(near);
  }

  function drawEvents(events) {
    eventPlace.hidden = !events.all;
    const left = events.all - events.shown.length;
    replace(eventPlace, h("h2", {}, "Events"), h("ul", {class: "events", tabindex: "0"}, events.shown.map((event) => h("li", {}, event.words))), left ? h("p", {class: "soft"}, `${whole(left)} earlier ones are in metrics.jsonl.`) : null);
  }

  function drawShares() {
    sharePlace.hidden = !told.shares.length;
    const rows = told.shares.map((row) => {
      const real = row.count / Math.max(1, row.all);
      return h(
        "tr",
        {},
        h("td", {}, row.of === "task" ? h("b", {}, row.name) : row.name.split("/").slice(1).join("/")),
        h("td", {class: "number"}, whole(row.count)),
        h("td", {class: "number"}, `${(100 * real).toFixed(1)} %`),
        h("td", {class: "number soft"}, row.declared === null || row.declared === undefined ? "by the cases" : `${(100 * row.declared).toFixed(1)} %`),
        h("td", {}, h("span", {class: "bar"}, s("svg", {viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true"}, s("rect", {class: "f0", width: 100 * real, height: 6})))),
      );
    });
    const header = h("tr", {}, ["Task, category", "Samples", "Realised", "Declared", ""].map((each, i) => h("th", {scope: "col", class: i && i < 4 ? "number" : null}, each || h("span", {class: "unseen"}, "Share"))));
    replace(sharePlace, h("h2", {}, "What it was trained on"), h("div", {class: "scroll"}, h("table", {class: "table"}, h("thead", {}, header), h("tbody", {}, rows))));
  }

  function drawRecipe() {
    const rows = told.recipe.map((row) =>
      h("tr", {}, h("td", {class: "mono", title: row.meaning ?? null}, row.key), h("td", {class: "mono"}, row.changed ? h("b", {}, row.value) : row.value), h("td", {class: "soft"}, row.source)),
    );
    const header = h("tr", {}, ["Key", "Value", "Where it comes from"].map((each) => h("th", {scope: "col"}, each)));
    replace(recipePlace, h("details", {}, h("summary", {}, "Recipe"), h("p", {class: "soft"}, "Values that differ from the shipped recipe are bold."), h("div", {class: "scroll"}, h("table", {class: "table recipe"}, h("thead", {}, header), h("tbody", {}, rows)))));
  }

  // ---- while it goes on

  async function reload() {
    const before = moment();
    told = await get("/api/run/page", {run: name});
    const same = told.moments.indexOf(before);
    at = follows || same < 0 ? told.moments.length - 1 : same;
    drawAll();
  }

  function drawAll() {
    drawHead();
    drawChooser();
    drawCases();
    drawShares();
    drawRecipe();
  }

  async function change(message) {
    if (message.gone) {
      replace(notices, h("p", {class: "notice"}, message.gone));
      return;
    }
    if (message.pictures) await quiet();
    if (message.gap || message.pictures) await drawCurves();
    else {
      for (const {i, v} of message.points) for (const [key, value] of Object.entries(v)) addPoint(key, i, value);
      charts.filter((chart) => chart.stale).forEach((chart) => chart.draw());
    }
  }

  function addPoint(key, iteration, value) {
    for (const chart of charts) {
      const line = chart.told.lines.find((each) => each.key === key);
      if (line) chart.add(line.name, iteration, value);
    }
  }

  // New pictures: cases that are shown stay where they are, so that nothing jumps under the reader.
  async function quiet() {
    const before = {moments: told.moments.length, cases: told.groups.flatMap((each) => each.cases).length, moment: moment()};
    told = await get("/api/run/page", {run: name});
    filters.group ||= told.groups[0]?.key ?? "";
    const same = told.moments.indexOf(before.moment);
    at = follows || same < 0 ? told.moments.length - 1 : same;
    drawHead();
    drawShares();
    if (told.groups.flatMap((each) => each.cases).length !== before.cases) {
      drawChooser();
      drawCases();
    } else drawMoment();
  }

  drawAll();
  drawLog();
  drawCurves();
  const deaf = listen(name, {
    run: change,
    runs(list) {
      const mine = list.changed.find((each) => each.name === name);
      if (mine) {
        told.summary = mine;
        drawHead();
      }
    },
    again: () => reload().then(drawCurves),
  });
  return () => {
    ended = true;
    clearInterval(playing);
    document.removeEventListener("keydown", keys);
    viewer?.close();
    deaf();
  };
}

// Two cases of each task in turn, so that edits are seen beside prompts at once.
function alternating(cases) {
  const tasks = [...new Set(cases.map((one) => one.task))].map((task) => cases.filter((one) => one.task === task));
  const found = [];
  for (let at = 0; found.length < cases.length; at += 2) for (const each of tasks) found.push(...each.slice(at, at + 2));
  return found;
}

function lineName(key, all) {
  const [name, step] = key.split(" @ ");
  if (step !== undefined) return `step ${step}`;
  return all.length > 1 ? name.replaceAll("_", " ") : name.replaceAll("_", " ").replace(/^(student|critic) loss$/, "$1");
}

const aim = (which) => ({higher: "higher is better", lower: "lower is better", teacher: "the teacher's own is best"})[which] ?? "";
