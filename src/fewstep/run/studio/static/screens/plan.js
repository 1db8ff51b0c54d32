// Plan: memory, hours and disk of a recipe, told while its keys are changed.

import {ago, duration, figure, h, replace, s, whole} from "../lib/dom.js";
import {get, post} from "../lib/net.js";
import {copyButton, follow, jobElement} from "../lib/job.js";

const WAIT_MS = 700;
// Bytes of one table in one unit, so that they stand under each other.
const gb = (count, most = count) => {
  if (count === null || count === undefined) return "–";
  return most >= 1e9 ? `${(count / 1e9).toFixed(2)} GB` : `${(count / 1e6).toFixed(1)} MB`;
};

export async function open(place, fields, app) {
  app.title("Plan");
  const known = await get("/api/plan/recipes");
  const recipe = h(
    "select",
    {},
    h("optgroup", {label: "Shipped recipes"}, known.shipped.map((each) => h("option", {value: `recipe:${each}`}, each))),
    known.runs.length ? h("optgroup", {label: "Recipes of runs"}, known.runs.map((each) => h("option", {value: `run:${each}`}, each))) : null,
  );
  recipe.value = fields.run ? `run:${fields.run}` : `recipe:${fields.recipe ?? "pocket"}`;
  if (!recipe.value) recipe.value = "recipe:pocket";
  const keys = h("div", {class: "keys-grid"});
  const further = h("textarea", {rows: 3, placeholder: "student.adapter.alpha=64", spellcheck: "false"});
  const number = (words, name, placeholder) => h("label", {class: "field"}, h("span", {}, words), h("input", {type: "number", min: 0, step: "any", data: {name}, placeholder}));
  const numbers = [number("Memory of a GPU, GB", "gpu", "24, 48, 80, 141"), number("GPUs", "gpus", "1"), number("GPUs of a machine", "per_machine", "8"), number("Seconds an iteration", "seconds", "a rate for the hours"), number("or a GPU's peak, TFLOP/s", "tflops", "40 % are taken to be reached")];
  const measured = h("select", {}, h("option", {value: ""}, "no run"), known.runs.map((each) => h("option", {value: each}, each)));
  const command = h("pre", {tabindex: "0"});
  const commanded = h("div", {hidden: true}, h("h2", {}, "Command"), command, copyButton(() => command.textContent));
  const status = h("div", {aria: {live: "polite"}});
  const found = h("div");
  const earlier = h("section");
  let stop = () => {};
  let before = "";
  let waiting = null;
  let turn = 0;
  let inputs = [];

  replace(
    place,
    h("div", {class: "row"}, h("h1", {}, "Plan"), h("label", {}, "recipe", recipe)),
    h(
      "div",
      {class: "columns"},
      h(
        "section",
        {},
        keys,
        h("label", {class: "field"}, h("span", {}, "Further changes, one key=value a line"), further),
        h("div", {class: "keys-grid"}, numbers, h("label", {class: "field"}, h("span", {}, "or as a run was measured"), measured)),
      ),
      h("section", {}, status, found, commanded, earlier),
    ),
  );

  const source = () => ({[recipe.value.split(":")[0]]: recipe.value.slice(recipe.value.indexOf(":") + 1)});

  async function load() {
    const told = await get("/api/plan/keys", source());
    inputs = told.keys.map((each) => ({...each, input: h("input", {value: each.value, spellcheck: "false", autocomplete: "off"})}));
    replace(keys, inputs.map((each) => h("label", {class: "field", title: each.meaning}, h("span", {class: "mono"}, each.key), each.input, h("small", {}, each.meaning))));
    if (before) await look();
    else ask();
  }

  function wanted() {
    const changed = inputs.filter((each) => each.input.value.trim() !== each.value).map((each) => `${each.key}=${each.input.value.trim()}`);
    const told = Object.fromEntries(numbers.map((each) => [each.querySelector("input").dataset.name, each.querySelector("input").value]));
    return {...source(), ...told, measured: measured.value, changes: [...changed, ...further.value.split("\n")], before};
  }

  // A forecast loads the system for seconds, so the first one waits for a word or a change.
  function ask() {
    replace(status, h("button", {class: "main", type: "button", onclick: look}, "Forecast"), h("p", {class: "soft"}, "Seconds to a minute, without weights and without a GPU. After that, every change is forecast at once."));
    replace(found);
    command.textContent = "";
    commanded.hidden = true;
  }

  // Forecasts of before, of any studio of this user.
  async function drawEarlier() {
    const list = (await get("/api/plan/known")).forecasts.filter((each) => each.id !== before || each.state !== "working");
    earlier.hidden = !list.length;
    replace(
      earlier,
      h("details", {}, h("summary", {}, `Earlier forecasts (${list.length})`), h("ul", {class: "plain"}, list.map((each) => h("li", {}, h("button", {type: "button", class: "quiet", onclick: () => show(each)}, each.title), h("span", {class: each.state === "done" ? "soft" : "state failed"}, ` ${each.state === "done" ? "" : `${each.state}, `}${ago(each.when)}`))))),
    );
  }

  async function show(job) {
    const mine = ++turn;
    stop();
    command.textContent = job.command;
    commanded.hidden = false;
    replace(found);
    try {
      const now = await get("/api/plan/result", {job: job.id});
      if (mine !== turn) return;
      stop = follow("/api/plan/result", now, (each) => {
        progress(each);
        if (each.needs) replace(status, h("p", {class: "soft"}, `An earlier forecast: ${job.title}, ${ago(job.when)}.`));
      });
      place.scrollIntoView({block: "start"});
    } catch (error) {
      app.say(error.message, "fault");
    }
  }

  // What a forecast says as it comes.
  function progress(now) {
    if (now.needs) {
      replace(status);
      found.classList.remove("old");
      draw(now.needs);
    } else if (now.state === "working") replace(status, h("p", {class: "soft"}, `rehearsing an iteration, ${duration(now.seconds)}`, h("progress", {aria: {label: "rehearsing"}})));
    else replace(status, now.tail ? h("p", {class: "notice"}, now.tail.trim().replace(/^fewstep: /, "")) : jobElement(now));
    if (now.state !== "working") drawEarlier();
  }

  async function look() {
    const mine = ++turn;
    stop();
    for (const each of inputs) each.input.classList.toggle("changed", each.input.value.trim() !== each.value);
    try {
      const job = await post("/api/plan/start", wanted());
      before = job.id;
      command.textContent = job.command;
      commanded.hidden = false;
      if (mine !== turn) return;
      found.classList.add("old");
      stop = follow("/api/plan/result", job, progress);
    } catch (error) {
      if (mine === turn) replace(status, h("p", {class: "notice"}, error.message));
    }
  }

  function draw(needs) {
    const tasks = Object.entries(needs.tasks);
    const peak = Math.max(...tasks.map(([, each]) => each.peak_bytes));
    const verdict = needs.fits === null || needs.fits === undefined ? null : needs.fits ? h("b", {class: "state done"}, `fits ${gb(needs.card_bytes)}`) : h("b", {class: "state failed"}, `does not fit ${gb(needs.card_bytes)}`);
    replace(
      found,
      h(
        "dl",
        {class: "needs"},
        fact("Memory at the fullest moment", gb(peak), verdict),
        fact("Hours", needs.hours === null ? "–" : figure(needs.hours, 3), needs.hours === null ? "give a rate" : null),
        fact("Disk of the run", gb(needs.disk_bytes), `${gb(needs.checkpoint_bytes)} a checkpoint, ${gb(needs.student_bytes)} a kept student`),
        fact("Conditioning store", gb(needs.store_bytes), null),
        fact("Work of an iteration", `${figure(needs.flops_mean / 1e12, 3)} TFLOP`, null),
      ),
      needs.changes.length ? [h("h3", {}, "What makes it fit"), h("ul", {}, needs.changes.map((each) => h("li", {}, changeWords(each))))] : null,
      h("h3", {}, "Memory by part"),
      h("div", {class: "scroll"}, partsTable(tasks, peak)),
      h("ul", {class: "soft"}, [needs.licence, needs.basis, ...needs.levels, ...needs.layouts, ...needs.notes].filter(Boolean).map((each) => h("li", {}, typeof each === "string" ? each : JSON.stringify(each)))),
    );
  }

  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, WAIT_MS);
  };
  recipe.addEventListener("change", load);
  place.addEventListener("input", (event) => event.target !== recipe && soon());
  await load();
  await drawEarlier();
  return () => {
    turn++;
    clearTimeout(waiting);
    stop();
    if (before) post("/api/plan/end", {job: before}).catch(() => {});
  };
}

const fact = (words, value, note) => [h("dt", {}, words), h("dd", {}, h("b", {}, value), note ? [" ", h("span", {class: "soft"}, note)] : null)];

function changeWords(change) {
  if (typeof change === "string") return change;
  return `${change.words}: ${gb(change.bytes)}${change.fits ? ", fits" : ""}`;
}

function partsTable(tasks, peak) {
  const names = [...new Set(tasks.flatMap(([, each]) => Object.keys(each.parts)))].sort((a, b) => Math.max(...tasks.map(([, each]) => each.parts[b] ?? 0)) - Math.max(...tasks.map(([, each]) => each.parts[a] ?? 0)));
  const header = h("tr", {}, ["Part", ...tasks.map(([name, each]) => `${name} (${each.peak_phase})`), ""].map((each, i) => h("th", {scope: "col", class: i && each ? "number" : null}, each || h("span", {class: "unseen"}, "Share"))));
  const rows = names.map((name) => {
    const most = Math.max(...tasks.map(([, each]) => each.parts[name] ?? 0));
    return h("tr", {}, h("td", {}, name), tasks.map(([, each]) => h("td", {class: "number"}, gb(each.parts[name], peak))), h("td", {}, h("span", {class: "bar"}, s("svg", {viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true"}, s("rect", {class: "f0", width: (100 * most) / peak, height: 6})))));
  });
  rows.push(h("tr", {}, h("td", {}, h("b", {}, "together")), tasks.map(([, each]) => h("td", {class: "number"}, h("b", {}, gb(each.peak_bytes, peak)))), h("td")));
  rows.push(h("tr", {}, h("td", {}, "iterations of the run"), tasks.map(([, each]) => h("td", {class: "number"}, whole(each.iterations))), h("td")));
  return h("table", {class: "table"}, h("thead", {}, header), h("tbody", {}, rows));
}
