"use strict";
// The browser of cases. Everything that a prompt or a judge says goes through textContent: it is data, never markup.
(() => {
  const data = window.fewstepReport;
  const [SUITE, TASK, CATEGORY, CASE, SEED, PROMPT, SOURCES, ANSWERS] = [0, 1, 2, 3, 4, 5, 6, 7];
  const [PICTURE, VALUES, VERDICTS, WHY] = [0, 1, 2, 3];
  const [JUDGE, STATUS, SCORE, CRITERIA, SUBS, WORDS, MODES] = [0, 1, 2, 3, 4, 5, 6];
  const FEW = 20; // of "worst 20" and its like
  const PAGE = 20; // rows on a page
  const START = { q: "", suite: "", task: "", category: "", show: "all", measure: "0", system: "", sort: "suite", page: "1", case: "", seed: "", against: "reference", gain: "4" };
  const by = (id) => document.getElementById(id);
  const list = by("case-list");
  const dialog = by("case");
  const form = by("filters");
  let state = { ...START };
  let found = [];

  const node = (tag, options = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") made.textContent = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  };

  // ---- numbers of a row

  const student = () => {
    const named = data.systems.indexOf(state.system);
    return named >= 0 ? named : Math.min(1, data.systems.length - 1); // the reference stands first
  };
  const measure = () => data.measures[Number(state.measure)] || data.measures[0];
  const value = (row, system, index = Number(state.measure)) => {
    const answer = row[ANSWERS][system];
    return answer && index < data.measures.length ? answer[VALUES][index] ?? null : null;
  };
  const badness = (row, system) => {
    const x = value(row, system);
    if (x === null || measure().better) return x === null ? null : measure().better === "lower" ? x : -x;
    const aim = value(row, 0); // where neither direction is better, the reference is the aim
    return aim === null ? null : Math.abs(x - aim);
  };
  const gap = (row) => { // how much worse than the reference, in the measure's own units
    const [mine, theirs] = [badness(row, student()), badness(row, 0)];
    return mine === null || theirs === null ? null : mine - theirs;
  };
  const parts = new Set(data.rows.flatMap((row) => row[ANSWERS].flatMap((answer, system) => (answer ? [`${system}/${row[SUITE]}`] : []))));
  const takesPart = (system, suite) => parts.has(`${system}/${suite}`);
  const failed = (row) => row[ANSWERS].some((answer) =>
    answer && (answer[WHY] || answer[VERDICTS].some((verdict) => data.statuses[verdict[STATUS]] !== "ok")));
  const discord = (row) => {
    const scores = data.measures.flatMap((m, i) => (m.judge ? [value(row, student(), i)] : [])).filter((x) => x !== null);
    return scores.length < 2 ? null : Math.max(...scores) - Math.min(...scores);
  };
  const said = new Map();
  const text = (row) => { // all that a search looks through; made when first searched
    if (!said.has(row)) {
      const words = row[ANSWERS].flatMap((answer) => (answer ? [answer[WHY], ...answer[VERDICTS].flatMap((v) => [v[WORDS], ...v[MODES]])] : []));
      said.set(row, [row[CASE], row[PROMPT], ...words].join("\n").toLowerCase());
    }
    return said.get(row);
  };

  // ---- which rows, in which order

  const most = (rows, key, count = Infinity) => rows
    .map((row) => [row, key(row)])
    .filter(([, x]) => x !== null)
    .sort((a, b) => b[1] - a[1])
    .slice(0, count)
    .map(([row]) => row);
  const last = (rows, key) => [...most(rows, key), ...rows.filter((row) => key(row) === null)];
  const SHOWN = {
    all: (rows) => rows,
    worst: (rows) => most(rows, (row) => badness(row, student()), FEW),
    gaps: (rows) => most(rows, gap, FEW).filter((row) => gap(row) > 0),
    gains: (rows) => most(rows, (row) => (gap(row) === null ? null : -gap(row)), FEW).filter((row) => gap(row) < 0),
    discord: (rows) => most(rows, discord, FEW).filter((row) => discord(row) > 0),
    failures: (rows) => rows.filter(failed),
  };
  const SORTED = {
    suite: (rows) => rows,
    worst: (rows) => last(rows, (row) => badness(row, student())),
    best: (rows) => last(rows, (row) => (badness(row, student()) === null ? null : -badness(row, student()))),
    gap: (rows) => last(rows, gap),
  };
  const NOTHING = {
    gaps: "Among these, the system is nowhere worse than the reference.",
    gains: "Among these, the system is nowhere better than the reference.",
    discord: "Among these, judges differ nowhere.",
    failures: "Nothing failed among these.",
  };
  const wanted = () => {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = data.rows.filter((row) =>
      (!state.suite || data.suites[row[SUITE]] === state.suite)
      && (!state.task || data.tasks[row[TASK]] === state.task)
      && (!state.category || data.categories[row[CATEGORY]] === state.category)
      && words.every((word) => text(row).includes(word)));
    return (SORTED[state.sort] || SORTED.suite)((SHOWN[state.show] || SHOWN.all)(rows));
  };

  // ---- pictures

  const image = (picture, alt, full) => node("img", { src: full || !picture[1] ? picture[0] : picture[1], alt, loading: "lazy", decoding: "async", class: picture[1] ? "" : "small" });
  const difference = (a, b, full) => {
    // Blended by the browser: a page opened from a file may not read the pixels of its own pictures.
    const both = node("span", { class: "difference", role: "img", "aria-label": "Difference of the two pictures" },
      image(a, "", full), image(b, "", full));
    both.style.setProperty("--gain", state.gain);
    return both;
  };
  const absent = (why) => node("span", { class: "absent", text: why });
  const tile = (label, content, under, mark) => node("figure", { class: mark ? "tile mark" : "tile" }, content,
    node("figcaption", {}, node("span", { text: label }), under ? node("b", { text: under }) : null));
  const written = (x) => (x === null ? "–" : Math.abs(x) >= 100 ? x.toFixed(0) : x.toFixed(2));
  const compared = (row) => {
    const mine = row[ANSWERS][student()];
    const theirs = state.against === "source" && row[SOURCES].length ? row[SOURCES][0] : row[ANSWERS][0] && row[ANSWERS][0][PICTURE];
    return mine && mine[PICTURE] && theirs && theirs !== mine[PICTURE] ? [theirs, mine[PICTURE]] : null;
  };
  const tiles = (row, full) => {
    const shown = data.pictures ? row[SOURCES].map((source, i) => tile(row[SOURCES].length > 1 ? `source ${i + 1}` : "source", image(source, "Source picture", full), "")) : [];
    row[ANSWERS].forEach((answer, system) => {
      if (!takesPart(system, row[SUITE])) return;
      const name = data.systems[system];
      const content = !answer ? absent("not asked") : answer[WHY] ? absent(answer[WHY])
        : answer[PICTURE] ? image(answer[PICTURE], `${name}: ${row[PROMPT]}`, full) : data.pictures ? absent("no picture") : null;
      const linked = full && answer && answer[PICTURE] ? node("a", { href: answer[PICTURE][0], target: "_blank", title: "Open the file" }, content) : content;
      shown.push(tile(name, linked, written(value(row, system)), system === student() && system > 0));
    });
    const pair = data.pictures ? compared(row) : null;
    if (pair) shown.push(tile(`difference to the ${pair[0] === row[SOURCES][0] ? "source" : "reference"}`, difference(...pair, full), `× ${state.gain}`));
    return shown;
  };
  const facts = (row) => [row[CASE], `seed ${row[SEED]}`, data.tasks[row[TASK]], data.categories[row[CATEGORY]],
    data.suites.length > 1 ? data.suites[row[SUITE]] : ""].filter(Boolean).join(" · ");

  // ---- the list

  const hash = (changes = {}) => {
    const next = { ...state, ...changes };
    const kept = Object.entries(next).filter(([name, x]) => x !== START[name]);
    return `#cases?${new URLSearchParams(kept)}`;
  };
  const entry = (row) => {
    const strip = node("div", { class: "strip" }, ...tiles(row, false));
    strip.style.setProperty("--n", strip.childElementCount);
    strip.addEventListener("click", () => { location.hash = hash({ case: row[CASE], seed: String(row[SEED]) }); });
    return node("li", {},
      node("a", { class: "prompt", href: hash({ case: row[CASE], seed: String(row[SEED]) }), text: row[PROMPT] }),
      node("small", { text: facts(row) }), strip);
  };
  const draw = () => {
    found = wanted();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const page = Math.min(Math.max(1, Number(state.page) || 1), pages);
    list.replaceChildren(...found.slice((page - 1) * PAGE, page * PAGE).map(entry));
    by("case-count").textContent = found.length
      ? `${found.length.toLocaleString("en")} of ${data.rows.length.toLocaleString("en")} pictures asked for`
      : NOTHING[state.show] || "Nothing fits these filters.";
    by("page-of").textContent = `Page ${page} of ${pages}`;
    by("page-back").disabled = page <= 1;
    by("page-on").disabled = page >= pages;
    state.page = String(page);
  };
  const change = (changes) => {
    state = { ...state, page: "1", ...changes };
    history.replaceState(null, "", hash());
    draw();
  };

  // ---- one case

  const verdictOf = (verdict) => {
    const status = data.statuses[verdict[STATUS]];
    const subs = (verdict[SUBS] || []).map((x, i) => `${data.criteria[verdict[CRITERIA]][i].replaceAll("_", " ")} ${written(x)}`);
    return node("div", { class: "verdict" },
      node("p", {}, node("b", { text: data.judges[verdict[JUDGE]] }), ` ${status === "ok" ? written(verdict[SCORE]) : status.replaceAll("_", " ")}`),
      verdict[WORDS] ? node("p", { class: "words", text: verdict[WORDS] }) : null,
      subs.length ? node("p", { class: "subs", text: subs.join(" · ") }) : null,
      verdict[MODES].length ? node("p", { class: "modes", text: `Failures named: ${verdict[MODES].join(", ").replaceAll("_", " ")}` }) : null);
  };
  const opinion = (row, system) => {
    const answer = row[ANSWERS][system];
    const figures = answer ? data.measures.flatMap((m, i) => (m.metric && answer[VALUES][i] !== null && answer[VALUES][i] !== undefined ? [`${m.name} ${written(answer[VALUES][i])}`] : [])) : [];
    return node("section", { class: system === student() && system > 0 ? "mark" : "" },
      node("h3", { text: data.systems[system] + (system === 0 && data.systems.length > 1 ? ", the reference" : "") }),
      ...(answer ? answer[VERDICTS].map(verdictOf) : [node("p", { text: "Not asked." })]),
      answer && answer[WHY] ? node("p", { class: "modes", text: answer[WHY] }) : null,
      figures.length ? node("details", {}, node("summary", { text: "Metrics" }), node("ul", {}, ...figures.map((line) => node("li", { text: line })))) : null);
  };
  const show = (row) => {
    by("case-prompt").textContent = row[PROMPT];
    by("case-facts").textContent = facts(row);
    const large = by("case-pictures");
    large.replaceChildren(...tiles(row, true));
    large.style.setProperty("--n", large.childElementCount);
    by("case-words").replaceChildren(...data.systems.flatMap((_, system) => (takesPart(system, row[SUITE]) ? [opinion(row, system)] : [])));
    by("against").hidden = !data.pictures || !row[SOURCES].length;
    const at = found.indexOf(row);
    by("case-at").textContent = at < 0 ? "" : `${at + 1} of ${found.length.toLocaleString("en")}`;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  const opened = () => data.rows.find((row) => row[CASE] === state.case && (!state.seed || String(row[SEED]) === state.seed)
    && (!state.suite || data.suites[row[SUITE]] === state.suite));
  const go = (steps) => {
    const at = found.indexOf(opened());
    const next = found[(at + steps + found.length) % found.length];
    if (!next) return;
    state = { ...state, case: next[CASE], seed: String(next[SEED]), page: String(Math.floor(found.indexOf(next) / PAGE) + 1) };
    history.replaceState(null, "", hash());
    draw();
    show(next);
  };

  // ---- what the reader does

  const filled = () => {
    for (const field of form.elements) if (field.name in state) field.value = state[field.name];
    if (!form.elements.system.value) form.elements.system.value = data.systems[student()];
    for (const field of by("difference").elements) if (field.type === "radio") field.checked = field.value === state[field.name];
  };
  const follow = () => {
    if (!location.hash.startsWith("#cases?")) return;
    state = { ...START, ...Object.fromEntries([...new URLSearchParams(location.hash.slice(7))].filter(([name]) => name in START)) };
    filled();
    draw();
    const row = state.case ? opened() : null;
    if (row) show(row);
    else if (dialog.open) dialog.close();
    if (!list.contains(document.activeElement)) by("cases").scrollIntoView({ behavior: "instant" });
  };
  const options = (name, values) => form.elements[name].append(...values.map(([key, label]) => node("option", { value: key, text: label })));
  const distinct = (column, names) => [...new Set(data.rows.map((row) => row[column]))].map((i) => [names[i], names[i]]);

  options("suite", distinct(SUITE, data.suites));
  options("task", distinct(TASK, data.tasks));
  options("category", distinct(CATEGORY, data.categories));
  options("measure", data.measures.map((m, i) => [String(i), m.name]));
  options("system", data.systems.map((name) => [name, name]));
  const useless = [...(data.systems.length < 2 ? ["gaps", "gains", "gap"] : []), ...(data.judges.length < 2 ? ["discord"] : [])];
  for (const option of form.querySelectorAll("option")) if (useless.includes(option.value)) option.remove();
  form.addEventListener("input", (event) => change({ [event.target.name]: event.target.value }));
  form.addEventListener("submit", (event) => event.preventDefault());
  by("difference").addEventListener("input", (event) => {
    change({ [event.target.name]: event.target.value, page: state.page });
    const row = opened();
    if (row) show(row);
  });
  by("reset").addEventListener("click", () => { change(START); filled(); });
  by("page-back").addEventListener("click", () => { change({ page: String(Number(state.page) - 1) }); by("cases").scrollIntoView(); });
  by("page-on").addEventListener("click", () => { change({ page: String(Number(state.page) + 1) }); by("cases").scrollIntoView(); });
  by("case-back").addEventListener("click", () => go(-1));
  by("case-on").addEventListener("click", () => go(1));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    const href = hash();
    state = { ...state, case: "", seed: "" };
    history.replaceState(null, "", hash());
    draw();
    const link = [...list.querySelectorAll("a.prompt")].find((a) => a.getAttribute("href") === href);
    if (link) link.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select, textarea");
    if (dialog.open) {
      if (event.key === "ArrowRight" && !event.target.matches("input")) go(1);
      if (event.key === "ArrowLeft" && !event.target.matches("input")) go(-1);
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      form.elements.q.focus();
    } else if (event.key === "Escape" && event.target === form.elements.q) {
      event.preventDefault();
      change({ q: "" });
      form.elements.q.value = "";
      form.elements.q.blur();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (event.target === form.elements.q || list.contains(event.target))) {
      const links = [...list.querySelectorAll("a.prompt")];
      const at = links.findIndex((link) => link.closest("li").contains(event.target));
      const next = links[at + (event.key === "ArrowDown" ? 1 : -1)];
      if (next) { event.preventDefault(); next.focus(); }
    }
  });
  window.addEventListener("hashchange", follow);
  filled();
  draw();
  follow();
  document.documentElement.dataset.drawn = performance.now().toFixed(0); // ms since navigation; read by the benchmark
})();
