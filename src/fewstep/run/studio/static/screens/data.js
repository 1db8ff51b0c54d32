// Data: the cases of a run, with what is wrong with them.

import {h, replace, s, whole} from "../lib/dom.js";
import {address, get} from "../lib/net.js";
import {openViewer} from "../lib/viewer.js";

export async function open(place, fields, app) {
  app.title("Data");
  const runs = (await get("/api/runs/list")).runs;
  if (!runs.length) {
    replace(place, h("h1", {}, "Data"), h("p", {class: "empty"}, "No run in the given folders."));
    return null;
  }
  let file = null;
  let page = 0;
  let turn = 0;
  let ended = false;
  const run = h("select", {}, runs.map((each) => h("option", {value: each.name}, each.name)));
  if (runs.some((each) => each.name === fields.run)) run.value = fields.run;
  const files = h("div");
  const about = h("div");
  const search = h("input", {type: "search", placeholder: "words of a prompt, or a case", aria: {label: "Search the cases"}});
  const category = h("select", {aria: {label: "Category"}});
  const count = h("span", {class: "soft", role: "status"});
  const list = h("div", {class: "cases"});
  const pager = h("div", {class: "row"});
  const browser = h("section", {}, h("h2", {}, "Cases"), h("div", {class: "row", role: "search"}, search, category, count), list, pager);
  replace(place, h("div", {class: "row"}, h("h1", {}, "Data"), h("label", {}, "run", run)), files, about, browser);

  async function loadRun() {
    const told = await get("/api/data/files", {run: run.value});
    file = told.files.findIndex((each) => !each.why);
    const radios = told.files.map((each, i) =>
      h("li", {}, h("label", {class: "row"}, h("input", {type: "radio", name: "file", value: i, checked: i === file, disabled: Boolean(each.why), onchange: () => ((file = i), loadFile(told.suites))}), h("b", {class: "mono"}, each.label), h("small", {}, each.why || [each.task, each.note].filter(Boolean).join(" · ")))),
    );
    replace(files, told.files.length ? h("ul", {class: "plain"}, radios) : h("p", {class: "empty"}, "The recipe of this run names no cases, or cannot be read."));
    if (file >= 0) await loadFile(told.suites);
    else {
      replace(about);
      browser.hidden = true;
    }
  }

  async function loadFile(suites) {
    const mine = ++turn;
    page = 0;
    replace(about, h("p", {class: "soft", role: "status"}, "reading ", h("progress", {aria: {label: "reading the cases"}})));
    browser.hidden = true;
    let told;
    try {
      told = await get("/api/data/summary", {run: run.value, file});
    } catch (error) {
      if (mine === turn && !ended) replace(about, h("p", {class: "notice"}, error.message));
      return;
    }
    if (mine !== turn || ended) return;
    browser.hidden = false;
    const most = Math.max(1, ...told.counts.map((each) => each.count));
    const rows = told.counts.map((each) =>
      h("tr", {}, h("td", {}, each.task), h("td", {}, each.category), h("td", {class: "number"}, whole(each.count)), h("td", {class: "number"}, `${((100 * each.count) / told.cases).toFixed(1)} %`), h("td", {}, h("span", {class: "bar"}, s("svg", {viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true"}, s("rect", {class: "f0", width: (100 * each.count) / most, height: 6}))))),
    );
    const header = h("tr", {}, ["Task", "Category", "Cases", "Share", ""].map((each, i) => h("th", {scope: "col", class: i === 2 || i === 3 ? "number" : null}, each || h("span", {class: "unseen"}, "Share"))));
    replace(
      about,
      h("h2", {}, `${whole(told.cases)} cases`),
      told.part ? h("p", {class: "notice"}, `This is ${told.part}. Shares and duplicates are of these.`) : null,
      h("div", {class: "scroll"}, h("table", {class: "table"}, h("thead", {}, header), h("tbody", {}, rows))),
      told.bad_count ? h("details", {open: true}, h("summary", {}, `${whole(told.bad_count)} lines that cannot be used`), h("ul", {class: "events", tabindex: "0"}, told.bad.map((each) => h("li", {}, each)))) : null,
      told.duplicate_count ? h("details", {}, h("summary", {}, `${whole(told.duplicate_count)} groups of cases that say the same`), h("ul", {class: "events", tabindex: "0"}, told.duplicates.map((group) => h("li", {}, group.slice(0, 4).map((each) => h("div", {}, each)), group.length > 4 ? `and ${group.length - 4} more` : null)))) : h("p", {class: "soft"}, "No two cases say the same."),
      overlapElement(suites),
    );
    replace(category, h("option", {value: ""}, "all categories"), [...new Set(told.counts.map((each) => each.category))].map((each) => h("option", {value: each}, each)));
    await loadCases();
  }

  function overlapElement(suites) {
    const which = h("select", {aria: {label: "A suite"}}, suites.map((each) => h("option", {value: each}, each)));
    const found = h("div", {aria: {live: "polite"}});
    const button = h("button", {type: "button"}, "Compare");
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const told = await get("/api/data/overlap", {run: run.value, file, suite: which.value});
        replace(found, h("p", {}, `${whole(told.count)} cases share a run of words with ${which.value}.`), told.count ? h("ul", {class: "events", tabindex: "0"}, told.shown.map((each) => h("li", {}, `${each.where} and ${each.suite}: `, h("q", {}, each.words)))) : null);
      } catch (error) {
        replace(found, h("p", {class: "notice"}, error.message));
      }
      button.disabled = false;
    });
    return h("div", {}, h("h3", {}, "Words that are examined too"), h("div", {class: "row"}, which, button), found);
  }

  async function loadCases() {
    const mine = ++turn;
    const told = await get("/api/data/cases", {run: run.value, file, q: search.value, category: category.value, page});
    if (mine !== turn || ended) return;
    page = told.page;
    count.textContent = `${whole(told.count)} cases`;
    replace(list, told.cases.map((each) => entry(each)));
    const step = (by, label) => h("button", {type: "button", disabled: page + by < 0 || page + by >= told.pages, onclick: () => ((page += by), loadCases().then(() => browser.scrollIntoView()))}, label);
    replace(pager, told.pages > 1 ? [step(-1, "← Back"), `page ${whole(page + 1)} of ${whole(told.pages)}`, step(1, "On →")] : null);
  }

  const url = (one, which, side) => address("/api/data/picture", {run: run.value, file, case: one.number, which, side});

  function entry(one) {
    const tiles = one.pictures.map((which) => {
      const image = h("img", {src: url(one, which, 640), alt: `${which} of ${one.id}`, loading: "lazy", decoding: "async"});
      const frame = h("span", {class: "frame"}, image);
      image.addEventListener("load", () => {
        image.classList.toggle("small", image.naturalWidth < 256);
        frame.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`;
      });
      image.addEventListener("error", () => replace(frame, h("span", {class: "gone"}, "cannot be read")));
      return h("button", {class: "tile", type: "button", onclick: () => view(one)}, frame, h("span", {class: "caption"}, which));
    });
    const facts = [one.id, one.task, one.category, one.size, one.where].filter(Boolean);
    return h(
      "article",
      {class: "case data-case"},
      h("p", {class: "whole"}, one.prompt),
      one.teacher_prompt ? h("details", {class: "words"}, h("summary", {}, "what the teachers read"), h("p", {}, one.teacher_prompt)) : null,
      tiles.length ? h("div", {class: "tiles"}, tiles) : null,
      one.hidden ? h("small", {}, `${one.hidden} pictures lie outside the given folders. `) : null,
      h("small", {}, facts.join(" · ")),
    );
  }

  function view(one) {
    openViewer({
      sources: () => one.pictures.map((which) => ({label: which, url: url(one, which, null), path: ""})),
      start: (all) => [0, all.length - 1],
      words: () => ({prompt: one.prompt, id: one.id, facts: [one.id, one.category].filter(Boolean)}),
      step: () => {},
      next: () => {},
      shift: null,
    });
  }

  let waiting = null;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    page = 0;
    waiting = setTimeout(loadCases, 200);
  });
  category.addEventListener("change", () => {
    page = 0;
    loadCases();
  });
  run.addEventListener("change", loadRun);
  await loadRun();
  return () => {
    ended = true;
    clearTimeout(waiting);
  };
}
