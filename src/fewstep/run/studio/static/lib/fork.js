// A fork: which checkpoint, what changes, and the recipe's difference before it begins.

import {h, replace} from "./dom.js";
import {get, post} from "./net.js";

export function forkDialog(run, app, after) {
  const name = h("input", {value: `${run.name.split("/").pop().slice(0, 80)}-fork`, required: true, autocomplete: "off"});
  const which = h("input", {value: "last", autocomplete: "off", size: 10});
  const changes = h("textarea", {rows: 4, placeholder: "student.learning_rate=0.0005\nrun.iterations=400", spellcheck: "false"});
  const difference = h("div", {aria: {live: "polite"}});
  const start = h("button", {class: "main", type: "button", disabled: true}, "Start the fork");
  const fields = () => ({run: run.name, name: name.value.trim(), which: which.value.trim(), changes: changes.value.split("\n")});
  let turn = 0;
  let waiting = null;

  const look = async () => {
    const mine = ++turn;
    start.disabled = true;
    try {
      const plan = await post("/api/runs/fork-plan", fields());
      if (mine !== turn) return;
      replace(
        difference,
        plan.changed.length ? h("pre", {}, plan.changed.join("\n")) : h("p", {class: "soft"}, "Nothing changes: the fork would end as the run itself."),
        h("p", {}, h("small", {}, "As a command")),
        h("pre", {}, plan.command),
      );
      start.disabled = false;
    } catch (error) {
      if (mine === turn) replace(difference, h("p", {class: "notice"}, error.message));
    }
  };
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, 250);
  };
  for (const field of [name, which, changes]) field.addEventListener("input", soon);

  const dialog = h(
    "dialog",
    {aria: {label: `Fork ${run.name}`}, onclose: () => dialog.remove()},
    h("h2", {}, `Fork ${run.name}`),
    h("label", {class: "field"}, h("span", {}, "Name of the new run"), name),
    h("label", {class: "field"}, h("span", {}, "From the checkpoint"), which, h("small", {}, "last, best, or an iteration that was saved")),
    h("label", {class: "field"}, h("span", {}, "Changes, one key=value a line"), changes),
    h("h3", {}, "What the recipe changes"),
    difference,
    h("div", {class: "row"}, start, h("button", {type: "button", onclick: () => dialog.close()}, "Cancel")),
  );
  start.addEventListener("click", async () => {
    start.disabled = true;
    try {
      const job = await post("/api/runs/fork", fields());
      dialog.close();
      app.say(`${job.title}: started`);
      follow(job, app, after);
    } catch (error) {
      replace(difference, h("p", {class: "notice"}, error.message));
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  look();
}

// Says when a started process ends badly; its run appears in the list by itself.
export async function follow(job, app, after) {
  for (let turn = 0; turn < 90; turn++) {
    await new Promise((done) => setTimeout(done, 2000));
    const now = await get("/api/runs/job", {job: job.id}).catch(() => null);
    if (!now) return;
    if (now.state === "failed") {
      app.say(`${now.title} ended with ${now.code}:\n${now.tail.trim().split("\n").slice(-6).join("\n")}`, "fault");
      return;
    }
    if (turn % 3 === 0) await after?.();
  }
}
