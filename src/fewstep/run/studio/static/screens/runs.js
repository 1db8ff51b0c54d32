// The list of runs, living ones first.

import {ago, bytes, duration, figure, h, replace, s, whole} from "../lib/dom.js";
import {get, listen, post} from "../lib/net.js";
import {follow, forkDialog} from "../lib/fork.js";

const LAMPS = {good: "healthy", watch: "an event lately", bad: "failed, or told to stop", none: "nothing to judge by yet"};

export async function open(place, fields, app) {
  const runs = new Map();
  const told = await get("/api/runs/list");
  for (const run of told.runs) runs.set(run.name, run);
  const search = h("input", {type: "search", placeholder: "name, model, state", aria: {label: "Only runs with these words"}, oninput: () => draw()});
  const count = h("span", {class: "soft"});
  const body = h("tbody");
  const table = h("table", {class: "table runs"}, head(), body);
  const empty = h("p", {class: "empty"});
  const rows = new Map();
  replace(
    place,
    h("div", {class: "row"}, h("h1", {}, "Runs"), search, count),
    told.missing.map((root) => h("p", {class: "notice"}, `${root} is not there yet. Runs that are made in it appear here.`)),
    table,
    empty,
  );
  app.title("Runs");

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = [...runs.values()].filter((run) => words.every((word) => text(run).includes(word)));
    shown.sort((a, b) => Number(b.living) - Number(a.living) || (b.changed ?? 0) - (a.changed ?? 0) || a.name.localeCompare(b.name));
    const wanted = shown.map((run) => row(run));
    if (wanted.length !== body.children.length || wanted.some((each, i) => body.children[i] !== each)) replace(body, wanted);
    table.hidden = !shown.length;
    const living = shown.filter((run) => run.living).length;
    count.textContent = `${shown.length} ${shown.length === 1 ? "run" : "runs"}${living ? `, ${living} at work` : ""}`;
    empty.textContent = shown.length ? "" : runs.size ? "No run has these words." : `No run in ${told.roots.join(", ")}. fewstep distill makes one, and it appears here.`;
  }

  // A row is filled anew only when its run has changed, so that focus and selection stay.
  function row(run) {
    const key = JSON.stringify({...run, changed: null, memory: null});
    const held = rows.get(run.name) ?? {element: h("tr"), key: ""};
    if (held.key !== key) {
      replace(held.element, cells(run, app, refresh));
      held.key = key;
      rows.set(run.name, held);
    }
    return held.element;
  }

  async function refresh() {
    const again = await get("/api/runs/list");
    runs.clear();
    for (const run of again.runs) runs.set(run.name, run);
    draw();
  }

  draw();
  return listen(null, {
    runs(change) {
      for (const name of change.gone) {
        runs.delete(name);
        rows.delete(name);
      }
      for (const run of change.changed) runs.set(run.name, run);
      draw();
    },
    again: refresh,
  });
}

const text = (run) => [run.name, run.recipe, run.model, run.state].join(" ").toLowerCase();

function head() {
  const names = ["Run", "State", "Iteration", "Left, or written", "s / iteration", "Memory", "Best", "Gap", ""];
  const numbers = ["Left, or written", "s / iteration", "Memory"];
  return h("thead", {}, h("tr", {}, names.map((name) => h("th", {scope: "col", class: numbers.includes(name) ? "number" : null}, name || h("span", {class: "unseen"}, "Actions")))));
}

function cells(run, app, refresh) {
  return [
    h("td", {class: "name"}, h("div", {class: "row"}, lamp(run), h("a", {href: link(run)}, run.name)), h("small", {}, [run.recipe, run.model].filter(Boolean).filter((each, i, all) => all.indexOf(each) === i).join(" · "))),
    h("td", {}, h("span", {class: `state ${run.state}`}, run.state), [run.words, ...run.damage.filter((each) => !run.words.startsWith("its recipe.yaml") || !each.startsWith("recipe.yaml"))].filter(Boolean).map((words) => h("div", {class: "why"}, words))),
    h("td", {class: "progress"}, `${whole(run.iteration)} of ${whole(run.iterations)}`, h("progress", {value: run.iteration, max: run.iterations || 1, aria: {label: `Iterations of ${run.name}`}})),
    h("td", {class: "number", data: {label: run.living ? "left" : "written"}}, run.living ? duration(run.seconds_left) : ago(run.changed)),
    h("td", {class: "number", data: {label: "s / iteration"}}, figure(run.seconds, 3)),
    h("td", {class: "number", data: {label: "memory"}, title: run.gpu_memory ? "The most of its GPU's memory so far" : "Main memory of the process"}, bytes(run.gpu_memory ?? run.memory), run.gpu_memory ? h("div", {class: "soft"}, "GPU") : null),
    h("td", {class: "best", data: {label: "best"}}, best(run)),
    h("td", {}, spark(run)),
    h("td", {class: "actions"}, actions(run, app, refresh)),
  ];
}

const link = (run) => `#/run?${new URLSearchParams({run: run.name})}`;

export function lamp(run) {
  const words = `${run.damage.length ? `damaged: ${run.damage.join("; ")}` : LAMPS[run.health]}${run.events ? `; ${run.events} events` : ""}`;
  return h("span", {class: `lamp ${run.health}`, role: "img", title: words, aria: {label: words}});
}

function best(run) {
  if (!run.best) return h("span", {class: "soft"}, "–");
  return [h("b", {}, figure(run.best.value)), ` at ${whole(run.best.iteration)}`, h("div", {}, h("small", {}, run.best.name))];
}

function spark(run) {
  if (!run.spark || run.spark.values.length < 2) return null;
  const values = run.spark.values;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const points = values.map((value, i) => `${((120 * i) / (values.length - 1)).toFixed(1)} ${(24 - (22 * (value - low)) / (high - low || 1)).toFixed(1)}`);
  const words = `${run.spark.name}: ${figure(values[0], 3)} to ${figure(values.at(-1), 3)}`;
  return s("svg", {class: "spark", viewBox: "0 0 120 26", preserveAspectRatio: "none", role: "img", "aria-label": words}, s("title", {}, words), s("path", {d: `M${points.join("L")}`}));
}

// Stop, resume and fork, for the list and for the page of a run.
export function actions(run, app, after) {
  const act = async (path, button) => {
    button.disabled = true;
    try {
      const answer = await post(path, {run: run.name});
      app.say(answer.said ?? `${answer.title}: started`);
      if (answer.id) follow(answer, app, after);
      await after?.();
    } catch (error) {
      app.say(error.message, "fault");
    } finally {
      button.disabled = false;
    }
  };
  const button = (words, label, onclick) => h("button", {type: "button", aria: {label}, onclick}, words);
  const parts = [];
  if (run.process) parts.push(button("Stop", `Stop ${run.name}`, (event) => confirm(`Stop ${run.name} after its present iteration? Resume goes on from there.`) && act("/api/runs/stop", event.currentTarget)));
  else if (run.resumable) parts.push(button("Resume", `Resume ${run.name}`, (event) => act("/api/runs/resume", event.currentTarget)));
  if (run.iteration) parts.push(button("Fork…", `Fork ${run.name}`, () => forkDialog(run, app, after)));
  return parts;
}
