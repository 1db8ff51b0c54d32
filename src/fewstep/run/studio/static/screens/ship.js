// Ship: pick a student of a run and a form, write it, verify it, read its card.

import {ago, bytes, figure, h, replace, whole} from "../lib/dom.js";
import {get, post} from "../lib/net.js";
import {cardElement} from "../lib/card.js";
import {copyButton, follow, jobElement} from "../lib/job.js";

const FORMS = [
  ["merged", "A whole pipeline folder", "opens with DiffusionPipeline.from_pretrained"],
  ["adapter", "The LoRA alone", "run on the base"],
];
const LORAS = [
  ["", "as the form needs"],
  ["diffusers", "diffusers"],
  ["comfyui", "ComfyUI, with workflows"],
  ["both", "diffusers and ComfyUI"],
  ["plain", "plain (DiffSynth-Studio and ComfyUI), with workflows"],
];

export async function open(place, fields, app) {
  app.title("Ship");
  const runs = (await get("/api/runs/list")).runs.filter((run) => run.iteration > 0);
  if (!runs.length) {
    replace(place, h("h1", {}, "Ship"), h("p", {class: "empty"}, "No run has trained yet."));
    return null;
  }
  let told = null;
  let stop = () => {};
  let turn = 0;
  let named = false;
  const run = h("select", {}, runs.map((each) => h("option", {value: each.name}, each.name)));
  run.value = runs.some((each) => each.name === fields.run) ? fields.run : runs[0].name;
  const checkpoints = h("div", {class: "scroll", role: "group", aria: {label: "Which student"}});
  const form = choice("form", FORMS);
  const weights = select([["average", "the moving average"], ["raw", "the student itself (whole checkpoints)"]]);
  const dtype = select([["", "bf16 merged, fp32 LoRA"], ["bf16", "bf16"], ["fp32", "fp32"]]);
  const lora = select(LORAS);
  const rank = h("input", {type: "number", min: 1, size: 6, placeholder: "as trained"});
  const single = h("input", {type: "checkbox"});
  const verify = h("input", {type: "checkbox", checked: true});
  const name = h("input", {autocomplete: "off", spellcheck: "false", size: 34});
  const command = h("pre", {tabindex: "0"});
  const fault = h("p", {class: "notice", hidden: true, role: "alert"});
  const start = h("button", {class: "main", type: "button"}, "Write it");
  const work = h("div", {aria: {live: "polite"}});
  const tasks = h("section");
  const where = h("p", {class: "soft"});
  const shipped = h("section");
  const card = h("section");

  replace(
    place,
    h("div", {class: "row"}, h("h1", {}, "Ship"), h("label", {}, "run", run)),
    h(
      "div",
      {class: "columns"},
      h("section", {}, h("h2", {}, "Which student"), checkpoints, h("label", {class: "field"}, h("span", {}, "Weights"), weights)),
      h(
        "section",
        {},
        h("h2", {}, "In which form"),
        form.element,
        h("label", {class: "field"}, h("span", {}, "Whose keys the LoRA has"), lora),
        h("label", {class: "field"}, h("span", {}, "Cut the LoRA down to rank"), rank),
        h("label", {class: "field"}, h("span", {}, "Stored as"), dtype),
        h("label", {class: "row"}, single, "the whole transformer once more, as ComfyUI's one file"),
        h("label", {class: "row"}, verify, "verify: stock diffusers opens it, and its pictures are held against the run's"),
        h("label", {class: "field"}, h("span", {}, "Name of the folder"), name),
      ),
    ),
    h("h2", {}, "Command"),
    command,
    where,
    fault,
    h("div", {class: "row"}, start, copyButton(() => command.textContent)),
    work,
    tasks,
    shipped,
    card,
  );

  const chosen = () => place.querySelector("input[name=checkpoint]:checked")?.value ?? "best";
  const wanted = () => ({
    run: run.value,
    checkpoint: chosen(),
    form: form.value(),
    weights: weights.value,
    dtype: dtype.value,
    lora: lora.value,
    svd_rank: rank.value,
    single_file: single.checked,
    verify: verify.checked,
    name: name.value.trim(),
  });

  async function look() {
    const mine = ++turn;
    if (!named) name.value = `${run.value.split("/").pop().slice(0, 60)}-${chosen()}${form.value() === "adapter" ? "-lora" : ""}`;
    try {
      const plan = await post("/api/ship/plan", wanted());
      if (mine !== turn) return;
      command.textContent = plan.command;
      where.textContent = `It is written into ${plan.out}, inside the run folder, and goes on if this page or the studio ends.`;
      fault.hidden = true;
      start.disabled = false;
    } catch (error) {
      if (mine !== turn) return;
      fault.textContent = error.message;
      fault.hidden = false;
      start.disabled = true;
    }
  }

  async function load() {
    told = await get("/api/ship/students", {run: run.value});
    const by = told.best?.name;
    const rows = [
      {value: "best", words: "best", note: told.best ? `by ${by}, or as fewstep rank chose` : "the last, where no figure decided"},
      {value: "last", words: "last", note: "the newest whole checkpoint"},
      ...[...told.saved].reverse().map((each) => ({value: String(each.iteration), words: whole(each.iteration), note: each.whole ? "" : "the averaged student alone", figures: each.figures})),
    ];
    const shown = [by, "composite", "t2i.psnr", "edit.psnr"].filter((each, i, all) => each && all.indexOf(each) === i && told.saved.some((one) => each in one.figures));
    const header = h("tr", {}, ["Iteration", "", ...shown].map((each, i) => h("th", {scope: "col", class: i > 1 ? "number" : null}, each || h("span", {class: "unseen"}, "Note"))));
    const body = rows.map((row, i) =>
      h(
        "tr",
        {},
        h("td", {}, h("label", {}, h("input", {type: "radio", name: "checkpoint", value: row.value, checked: i === 0, onchange: look}), row.words)),
        h("td", {class: "soft"}, row.note),
        shown.map((each) => h("td", {class: "number"}, row.figures ? figure(row.figures[each]) : "")),
      ),
    );
    replace(checkpoints, h("table", {class: "table"}, h("thead", {}, header), h("tbody", {}, body)));
    if (told.full) form.only("merged");
    drawShipped();
    const working = told.tasks.find((each) => each.state === "working");
    stop();
    replace(work);
    if (working) watch(working);
    await look();
  }

  // An export of this page, of another one, or of a studio before this one.
  function watch(job) {
    const of = run.value;
    stop();
    stop = follow("/api/ship/job", job, async (now) => {
      replace(work, jobElement(now));
      start.disabled = now.state === "working";
      if (now.state === "working") return;
      told = await get("/api/ship/students", {run: of});
      if (now.state === "done") replace(work, jobElement(now));
      else replace(work);
      drawShipped();
      if (now.state === "done") await read({name: now.id, beside: false});
    }, {run: of});
  }

  function drawTasks() {
    const ended = told.tasks.filter((each) => each.state !== "working");
    tasks.hidden = !ended.length;
    const forget = (each) => post("/api/ship/forget", {run: run.value, job: each.id}).then(load, (error) => app.say(error.message, "fault"));
    replace(
      tasks,
      h("h2", {}, "Not finished"),
      ended.map((each) => h("details", {}, h("summary", {}, h("span", {class: "state failed"}, each.state), ` ${each.id}, ${ago(each.when)}`), h("pre", {tabindex: "0"}, [each.command, each.tail].filter(Boolean).join("\n")), h("button", {type: "button", onclick: () => forget(each)}, "Remove from this list"))),
    );
  }

  function drawShipped() {
    drawTasks();
    shipped.hidden = !told.shipped.length;
    replace(
      shipped,
      h("h2", {}, "Shipped"),
      h("p", {class: "soft"}, told.place),
      h("ul", {class: "plain"}, told.shipped.map((each) => h("li", {class: "row"}, h("button", {type: "button", onclick: () => read(each)}, each.name), h("span", {class: "soft"}, `${each.form === "merged" ? "pipeline folder" : "LoRA"}, ${ago(each.when)}${each.beside ? ", in students/ beside the run" : ""}`)))),
    );
  }

  async function read({name: which, beside}) {
    const found = await get("/api/ship/card", {run: run.value, name: which, beside});
    replace(
      card,
      h("h2", {}, which),
      h("div", {class: "row"}, h("code", {}, found.folder), copyButton(() => found.folder)),
      cardElement(found.card),
      h("details", {}, h("summary", {}, `${found.files.length} files`), h("table", {class: "table"}, h("tbody", {}, found.files.map((file) => h("tr", {}, h("td", {class: "mono"}, file.path), h("td", {class: "number"}, bytes(file.bytes))))))),
    );
    card.scrollIntoView({block: "start"});
  }

  start.addEventListener("click", async () => {
    start.disabled = true;
    try {
      watch(await post("/api/ship/start", wanted()));
    } catch (error) {
      app.say(error.message, "fault");
      start.disabled = false;
    }
  });
  run.addEventListener("change", () => {
    named = false;
    replace(card);
    load();
  });
  name.addEventListener("input", () => {
    named = true;
    look();
  });
  for (const element of [weights, dtype, lora, rank, single, verify, form.element]) element.addEventListener("change", look);
  await load();
  return () => stop();
}

const select = (options) => h("select", {}, options.map(([value, words]) => h("option", {value}, words)));

function choice(name, options) {
  const inputs = options.map(([value], i) => h("input", {type: "radio", name, value, checked: i === 0}));
  const element = h("div", {role: "radiogroup", aria: {label: "Form"}}, options.map(([, words, note], i) => h("label", {class: "row"}, inputs[i], words, h("small", {}, note))));
  return {
    element,
    value: () => inputs.find((input) => input.checked).value,
    only(value) {
      for (const input of inputs) {
        input.checked = input.value === value;
        input.disabled = input.value !== value;
      }
    },
  };
}
