// Bench: galleries beside each other, case by case, and the report's tables with their intervals.

import {figure, h, replace, s, whole} from "../lib/dom.js";
import {address, get, post} from "../lib/net.js";
import {follow, jobElement} from "../lib/job.js";
import {openViewer} from "../lib/viewer.js";

// The report's compact rows (bench/report/rows.py).
const [SUITE, TASK, CATEGORY, CASE, SEED, PROMPT, SOURCES, ANSWERS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [PICTURE, VALUES, VERDICTS, WHY] = [0, 1, 2, 3];
const [JUDGE, STATUS, SCORE, CRITERIA, SUBS, WORDS, MODES] = [0, 1, 2, 3, 4, 5, 6];
const PAGE = 20;
const FEW = 20;

export async function open(place, fields, app) {
  app.title("Bench");
  const known = (await get("/api/bench/galleries")).galleries;
  const boxes = known.map((each) => h("input", {type: "checkbox", value: each.name, disabled: Boolean(each.fault)}));
  const status = h("div", {aria: {live: "polite"}});
  const report = h("div");
  const show = h("button", {class: "main", type: "button", onclick: () => make()}, "Compare");
  let stop = () => {};
  let keys = null;
  replace(
    place,
    h("h1", {}, "Bench"),
    known.length
      ? [
          h("p", {class: "soft"}, "The first gallery that is chosen is the reference."),
          h("ul", {class: "plain"}, known.map((each, i) => h("li", {}, h("label", {class: "row"}, boxes[i], h("span", {}, h("b", {}, each.system || each.name), " ", h("span", {class: "soft"}, each.fault ?? [each.suite, each.name, each.judges.length ? `judged by ${each.judges.join(", ")}` : "not judged"].join(" · "))))))),
          show,
        ]
      : h("p", {class: "empty"}, "No gallery below the given folders. fewstep generate makes one; give its folder to fewstep studio beside the runs."),
    status,
    report,
  );
  const order = [];
  for (const box of boxes) {
    box.addEventListener("change", () => {
      if (box.checked) order.push(box.value);
      else order.splice(order.indexOf(box.value), 1);
    });
  }

  async function make() {
    stop();
    show.disabled = true;
    try {
      const told = await post("/api/bench/report", {galleries: order});
      if (told.job) {
        stop = follow("/api/bench/job", told.job, (now) => {
          replace(status, now.state === "done" ? null : jobElement(now));
          if (now.state === "working") return;
          show.disabled = false;
          if (now.state === "done") draw(told.report);
        });
      } else {
        replace(status);
        show.disabled = false;
        await draw(told.report);
      }
    } catch (error) {
      show.disabled = false;
      replace(status, h("p", {class: "notice"}, error.message));
    }
  }

  async function draw(key) {
    const data = await get("/api/bench/data", {report: key});
    keys?.();
    keys = drawReport(report, key, data);
  }

  return () => {
    stop();
    keys?.();
  };
}

function drawReport(place, key, data) {
  const filters = {q: "", suite: "", task: "", category: "", show: "all", measure: 0, system: Math.min(1, data.systems.length - 1), page: 0};
  const list = h("div", {class: "bench-cases"});
  const count = h("p", {class: "soft", role: "status"});
  const pager = h("div", {class: "row"});
  const url = (picture, small) => (picture ? address("/api/bench/picture", {report: key, path: small && picture[1] ? picture[1] : picture[0]}) : null);

  // ---- numbers of a row

  const value = (row, system) => {
    const answer = row[ANSWERS][system];
    return answer && data.measures.length ? answer[VALUES][filters.measure] ?? null : null;
  };
  const badness = (row, system) => {
    const x = value(row, system);
    if (x === null) return null;
    const better = data.measures[filters.measure].better;
    if (better) return better === "lower" ? x : -x;
    const aim = value(row, 0);
    return aim === null ? null : Math.abs(x - aim);
  };
  const gap = (row) => {
    const [mine, theirs] = [badness(row, filters.system), badness(row, 0)];
    return mine === null || theirs === null ? null : mine - theirs;
  };
  const failed = (row) => row[ANSWERS].some((answer) => answer && (answer[WHY] || answer[VERDICTS].some((verdict) => data.statuses[verdict[STATUS]] !== "ok")));
  const discord = (row) => {
    const answer = row[ANSWERS][filters.system];
    const scores = answer ? data.measures.flatMap((measure, i) => (measure.judge && answer[VALUES][i] !== undefined && answer[VALUES][i] !== null ? [answer[VALUES][i]] : [])) : [];
    return scores.length < 2 ? null : Math.max(...scores) - Math.min(...scores);
  };
  const words = (row) => [row[CASE], row[PROMPT], ...row[ANSWERS].flatMap((answer) => (answer ? [answer[WHY], ...answer[VERDICTS].flatMap((verdict) => [verdict[WORDS], ...verdict[MODES]])] : []))].join("\n").toLowerCase();
  const most = (rows, of, least = -Infinity) => rows.map((row) => [row, of(row)]).filter(([, x]) => x !== null && x > least).sort((a, b) => b[1] - a[1]).slice(0, FEW).map(([row]) => row);
  const KINDS = {
    all: ["all cases", (rows) => rows],
    worst: ["worst 20", (rows) => most(rows, (row) => badness(row, filters.system))],
    gaps: ["20 largest gaps to the reference", (rows) => most(rows, gap, 0)],
    gains: ["20 largest gains on the reference", (rows) => most(rows, (row) => (gap(row) === null ? null : -gap(row)), 0)],
    discord: ["20 where judges differ most", (rows) => most(rows, discord, 0)],
    failures: ["failures", (rows) => rows.filter(failed)],
  };

  function found() {
    const asked = filters.q.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = data.rows.filter(
      (row) =>
        (filters.suite === "" || row[SUITE] === Number(filters.suite)) &&
        (filters.task === "" || row[TASK] === Number(filters.task)) &&
        (filters.category === "" || row[CATEGORY] === Number(filters.category)) &&
        asked.every((word) => words(row).includes(word)),
    );
    return KINDS[filters.show][1](rows);
  }

  // ---- the list

  let rows = [];

  function drawCases() {
    rows = found();
    const pages = Math.max(1, Math.ceil(rows.length / PAGE));
    filters.page = Math.min(filters.page, pages - 1);
    const shown = rows.slice(filters.page * PAGE, (filters.page + 1) * PAGE);
    count.textContent = `${whole(rows.length)} of ${whole(data.rows.length)} cases`;
    replace(list, shown.map((row) => entry(row)));
    const turn = (by, label) => h("button", {type: "button", disabled: filters.page + by < 0 || filters.page + by >= pages, onclick: () => ((filters.page += by), drawCases(), list.scrollIntoView())}, label);
    replace(pager, turn(-1, "← Back"), `page ${filters.page + 1} of ${pages}`, turn(1, "On →"));
  }

  function entry(row) {
    const tiles = row[SOURCES].map((source, i) => tile(row, row[SOURCES].length > 1 ? `source ${i + 1}` : "source", source, "", ""));
    row[ANSWERS].forEach((answer, system) => {
      if (!answer) return;
      const mine = value(row, system);
      tiles.push(tile(row, data.systems[system], answer[PICTURE], answer[WHY] || (answer[PICTURE] ? "" : "no picture"), mine === null ? "" : figure(mine, 3)));
    });
    const verdicts = row[ANSWERS].flatMap((answer, system) => (answer ? answer[VERDICTS].map((verdict) => [system, verdict]) : []));
    const about = [row[CASE], `seed ${row[SEED]}`, data.tasks[row[TASK]], data.categories[row[CATEGORY]], data.suites.length > 1 ? data.suites[row[SUITE]] : ""].filter(Boolean).join(" · ");
    return h(
      "article",
      {class: "case"},
      h("p", {title: row[PROMPT]}, row[PROMPT] || row[CASE]),
      h("div", {class: "tiles"}, tiles),
      h("small", {}, about),
      verdicts.length ? h("details", {class: "words"}, h("summary", {}, `${verdicts.length} verdicts`), h("ul", {}, verdicts.map(([system, verdict]) => h("li", {}, h("b", {}, data.systems[system]), ` ${data.judges[verdict[JUDGE]]}: `, verdict[SCORE] === null ? h("i", {}, data.statuses[verdict[STATUS]]) : figure(verdict[SCORE], 3), " ", subs(verdict), h("div", {}, verdict[WORDS], verdict[MODES].length ? h("i", {class: "soft"}, ` ${verdict[MODES].join(", ")}`) : null))))) : null,
    );
  }

  const subs = (verdict) => h("span", {class: "soft"}, data.criteria[verdict[CRITERIA]].map((name, i) => `${name.replaceAll("_", " ")} ${figure(verdict[SUBS][i], 2)}`).join(", "));

  function tile(row, label, picture, why, under) {
    const frame = h("span", {class: "frame"});
    if (picture) {
      const image = h("img", {alt: `${label}: ${row[PROMPT]}`, loading: "lazy", decoding: "async", src: url(picture, true), class: picture[1] ? null : "small"});
      image.addEventListener("load", () => (frame.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`));
      frame.append(image);
    } else frame.append(h("span", {class: "gone"}, why));
    return h("button", {class: "tile", type: "button", title: label, disabled: !picture, onclick: () => view(row, label)}, frame, h("span", {class: "caption"}, under ? `${label} · ${under}` : label));
  }

  function view(first, label) {
    let row = first;
    const viewer = openViewer({
      sources: () => [
        ...row[SOURCES].map((source, i) => ({label: row[SOURCES].length > 1 ? `source ${i + 1}` : "source", url: url(source), path: ""})),
        ...row[ANSWERS].flatMap((answer, system) => (answer && answer[PICTURE] ? [{label: data.systems[system], url: url(answer[PICTURE]), path: ""}] : [])),
      ],
      start(all) {
        const at = all.findIndex((each) => each.label === label);
        const other = all.findIndex((each, i) => i !== at && each.label === data.systems[0]);
        return [other >= 0 ? other : Math.max(0, at - 1), at];
      },
      words: () => ({prompt: row[PROMPT], id: row[CASE], facts: [row[CASE], `seed ${row[SEED]}`, data.categories[row[CATEGORY]]].filter(Boolean)}),
      step: (by) => go(by),
      next: (by) => go(by),
      shift: null,
    });
    function go(by) {
      row = rows[(rows.indexOf(row) + by + rows.length) % rows.length];
      viewer.refresh();
    }
  }

  // ---- filters

  const choose = (words2, field, options) => {
    const element = h("select", {}, options.map(([each, label]) => h("option", {value: each}, label)));
    element.value = String(filters[field]);
    element.addEventListener("change", () => {
      filters[field] = field === "measure" || field === "system" ? Number(element.value) : element.value;
      filters.page = 0;
      drawCases();
    });
    return h("label", {}, words2, element);
  };
  const named = (names) => [["", "all"], ...names.map((name, i) => [i, name])];
  const search = h("input", {type: "search", placeholder: "prompt, case, a judge's words", aria: {label: "Search the cases"}});
  search.addEventListener("input", () => {
    filters.q = search.value;
    filters.page = 0;
    drawCases();
  });
  const bar = h(
    "div",
    {class: "row", role: "search"},
    search,
    data.suites.length > 1 ? choose("suite", "suite", named(data.suites)) : null,
    data.tasks.length > 1 ? choose("task", "task", named(data.tasks)) : null,
    data.categories.length > 1 ? choose("category", "category", named(data.categories)) : null,
    choose("show", "show", Object.entries(KINDS).map(([name, [label]]) => [name, label])),
    data.systems.length > 1 ? choose("of", "system", data.systems.map((name, i) => [i, name])) : null,
    data.measures.length ? choose("by", "measure", data.measures.map((measure, i) => [i, measure.name])) : null,
  );
  const tables = data.sections.filter((section) => section.tables.length);
  replace(
    place,
    h("h2", {}, data.title),
    h("p", {}, data.summary),
    tables.slice(0, 1).map((section) => sectionElement(section)),
    h("h2", {}, "Cases"),
    bar,
    count,
    list,
    pager,
    tables.slice(1).map((section) => h("details", {}, h("summary", {}, section.title), sectionElement(section, false))),
  );
  drawCases();
  const slash = (event) => {
    if (event.key !== "/" || event.target.matches("input, select, textarea")) return;
    event.preventDefault();
    search.focus();
  };
  document.addEventListener("keydown", slash);
  return () => document.removeEventListener("keydown", slash);
}

// ---- tables

function sectionElement(section, titled = true) {
  return h("section", {}, titled ? h("h2", {}, section.title) : null, section.note ? h("p", {class: "soft"}, section.note) : null, section.tables.map((table) => tableElement(table)));
}

function tableElement(table) {
  const header = h("tr", {}, [table.first, ...table.columns].map((each) => h("th", {scope: "col"}, each)));
  const body = [];
  let group = "";
  for (const line of table.lines) {
    if (line.group && line.group !== group) body.push(h("tr", {}, h("th", {colspan: table.columns.length + 1, scope: "rowgroup"}, line.group)));
    group = line.group;
    body.push(h("tr", {}, h("td", {}, line.strong ? h("b", {}, line.name) : line.name, line.note ? h("div", {}, h("small", {}, line.note)) : null), line.cells.map((cell, i) => cellElement(cell, table, i))));
  }
  return h("figure", {class: "bench-table"}, h("figcaption", {}, h("b", {}, table.title), table.note ? h("small", {}, ` ${table.note}`) : null), h("div", {class: "scroll"}, h("table", {class: "table"}, h("thead", {}, header), h("tbody", {}, body))));
}

function cellElement(cell, table, column) {
  return h("td", {class: cell.mark ? `mark-${cell.mark}` : null}, cell.text, cell.whisker ? whiskerElement(cell.whisker, span(table, column, cell.whisker.scale)) : null, cell.under ? h("div", {}, h("small", {}, cell.under)) : null);
}

function span(table, column, scale) {
  const ends = table.lines.flatMap((line) => line.cells.filter((_, i) => table.common || i === column)).flatMap((cell) => (cell.whisker && cell.whisker.scale === scale ? [cell.whisker.value, cell.whisker.low, cell.whisker.high, cell.whisker.at] : [])).filter((x) => x !== null);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const pad = 0.06 * (high - low) || 0.1;
  return [low - pad, high + pad];
}

function whiskerElement(whisker, [low, high]) {
  const x = (value) => (100 * (value - low)) / (high - low);
  const line = (value, from, to, name) => s("line", {class: name, x1: x(value), x2: x(value), y1: from, y2: to});
  const words = whisker.low === null ? figure(whisker.value) : `${figure(whisker.value)}, ${figure(whisker.low)} to ${figure(whisker.high)}`;
  return s(
    "svg",
    {class: "whisker", viewBox: "0 0 100 12", preserveAspectRatio: "none", role: "img", "aria-label": words},
    whisker.at === null ? null : line(whisker.at, 0, 12, "at"),
    whisker.low === null ? null : s("line", {class: "range", x1: x(whisker.low), x2: x(whisker.high), y1: 6, y2: 6}),
    line(whisker.value, 2, 10, "value"),
  );
}
