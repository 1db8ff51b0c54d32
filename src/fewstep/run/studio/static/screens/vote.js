// Blind votes: two pictures of one case, whose they are is not known here. Keys: ← left, → right, ↓ or space neither,
// u takes the last vote back, r shows the result.

import {figure, h, replace, s, whole} from "../lib/dom.js";
import {address, get, post} from "../lib/net.js";

const KEYS = {ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", " ": "tie"};
const SMALL = 256; // px: a picture below it is enlarged by whole pixels

export async function open(place, fields, app) {
  const told = await get("/api/vote/galleries");
  if (!fields.a || !fields.b || !fields.voter || fields.show === "choice") return choose(place, told.galleries, fields, app);
  if (fields.show === "result") return result(place, fields, app);
  return ballot(place, fields, app);
}

// ---- which galleries, and who votes

function choose(place, galleries, fields, app) {
  app.title("Vote");
  const usable = galleries.filter((each) => !each.fault);
  const name = h("input", {type: "text", autocomplete: "off", maxlength: 40, value: fields.voter ?? remembered(), "aria-describedby": "voter-note"});
  const first = select(usable, fields.a);
  const second = h("select", {});
  const fill = () => {
    const chosen = usable.find((each) => each.name === first.value);
    const fitting = usable.filter((each) => each !== chosen && each.suite_hash === chosen?.suite_hash);
    const before = second.value || fields.b;
    replace(second, fitting.map((each) => h("option", {value: each.name}, words(each))));
    if (fitting.some((each) => each.name === before)) second.value = before;
    begin.disabled = !fitting.length;
    note.textContent = fitting.length ? "" : "No other gallery here answers the same suite. Draw one: fewstep generate MODEL --suite SUITE --to GALLERY";
  };
  const begin = h("button", {class: "main", type: "submit"}, "Vote");
  const note = h("p", {class: "soft"});
  first.addEventListener("change", fill);
  const go = (show) => {
    const voter = name.value.trim();
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$/.test(voter)) {
      app.say("Your name is letters, digits, . _ and -, at most 40.", "fault");
      name.focus();
      return;
    }
    localStorage.setItem("voter", voter);
    app.go("vote", {a: first.value, b: second.value, voter, ...show});
  };
  const form = h(
    "form",
    {class: "vote-choice", onsubmit: (event) => (event.preventDefault(), go({}))},
    h("label", {class: "field"}, h("span", {}, "One system"), first),
    h("label", {class: "field"}, h("span", {}, "The other"), second),
    h("label", {class: "field"}, h("span", {}, "Your name"), name, h("small", {id: "voter-note"}, "Votes are kept as those of the judge human:NAME, and go on where you stopped.")),
    h("div", {class: "row"}, begin, h("button", {type: "button", onclick: () => go({show: "result"})}, "Result")),
    note,
  );
  const faults = galleries.filter((each) => each.fault).map((each) => h("p", {class: "notice"}, each.fault));
  replace(
    place,
    h("h1", {}, "Vote"),
    h("p", {}, "Two pictures of one prompt and one noise, side by side. You say which is better, and do not know whose it is."),
    usable.length ? form : h("p", {class: "empty"}, "There is no gallery in the folders of this studio. Draw one: fewstep generate MODEL --suite SUITE --to GALLERY"),
    faults,
  );
  if (usable.length) fill();
}

const words = (each) => `${each.system} · ${each.suite}${each.system === each.name ? "" : ` · ${each.name}`}`;

function select(galleries, chosen) {
  const element = h("select", {}, galleries.map((each) => h("option", {value: each.name}, words(each))));
  if (galleries.some((each) => each.name === chosen)) element.value = chosen;
  return element;
}

function remembered() {
  try {
    return localStorage.getItem("voter") ?? "";
  } catch {
    return "";
  }
}

// ---- voting

function ballot(place, fields, app) {
  const about = {a: fields.a, b: fields.b, voter: fields.voter};
  const prompt = h("p", {class: "vote-prompt", "aria-live": "polite"});
  const references = h("div", {class: "vote-references"});
  const sides = {left: side("left"), right: side("right")};
  const bar = h("progress", {max: 1, value: 0, aria: {label: "Pairs voted"}});
  const count = h("span", {class: "soft"});
  const buttons = h(
    "div",
    {class: "row vote-buttons"},
    h("button", {type: "button", onclick: () => vote("left")}, "← Left is better"),
    h("button", {type: "button", onclick: () => vote("tie")}, "↓ Neither"),
    h("button", {type: "button", onclick: () => vote("right")}, "Right is better →"),
    h("button", {type: "button", class: "quiet", onclick: () => undo()}, "Undo (U)"),
    h("button", {type: "button", class: "quiet", onclick: () => app.go("vote", {...about, show: "result"})}, "Result (R)"),
    count,
  );
  const pictures = h("div", {class: "vote-pair waiting"}, references, sides.left.figure, sides.right.figure);
  replace(place, h("h1", {class: "vote-title"}, "Which is better?"), prompt, pictures, buttons, bar);
  let state = null;
  let began = 0;
  let busy = true; // a key pressed before the next pair is seen is no vote

  const from = (number, which) => address("/api/vote/picture", {...about, pair: number, side: which});

  async function show(told) {
    state = told;
    app.title(`Vote ${told.voted}/${told.pairs}`);
    bar.value = told.pairs ? told.voted / told.pairs : 0;
    count.textContent = `${whole(told.voted)} of ${whole(told.pairs)} pairs`;
    if (!told.pair) {
      app.go("vote", {...about, show: "result"});
      return;
    }
    busy = true;
    pictures.classList.add("waiting");
    prompt.textContent = told.pair.prompt;
    pictures.classList.toggle("with-source", told.pair.references > 0);
    references.hidden = !told.pair.references;
    replace(references, Array.from({length: told.pair.references}, (_, i) => picture(from(told.pair.number, i), `Source ${i + 1}`)), told.pair.references ? h("small", {}, "the source") : null);
    await Promise.all(["left", "right"].map((which) => sides[which].load(from(told.pair.number, which))));
    if (state !== told) return;
    pictures.classList.remove("waiting");
    busy = false;
    began = performance.now();
    for (const number of told.upcoming) for (const which of ["left", "right"]) new Image().src = from(number, which);
  }

  async function act(path, more) {
    if (busy) return;
    busy = true;
    try {
      await show(await post(path, {...about, ...more}));
    } catch (error) {
      app.say(error.message, "fault");
      await show(await get("/api/vote/state", about));
    }
  }

  const vote = (answer) => act("/api/vote/vote", {pair: state?.pair?.number, answer, seconds: (performance.now() - began) / 1000});
  const undo = () => act("/api/vote/undo", {});

  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    if (event.target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key)) return;
    if (KEYS[event.key]) {
      event.preventDefault();
      vote(KEYS[event.key]);
    } else if (event.key.toLowerCase() === "u" || event.key === "Backspace") undo();
    else if (event.key.toLowerCase() === "r") app.go("vote", {...about, show: "result"});
  }

  document.addEventListener("keydown", pressed);
  get("/api/vote/state", about).then(show).catch((error) => replace(place, h("p", {class: "fault-page"}, error.message), back(about)));
  return () => document.removeEventListener("keydown", pressed);
}

function side(which) {
  const image = h("img", {alt: `The ${which} picture`, class: "vote-picture"});
  const load = (source) =>
    new Promise((resolve) => {
      image.onload = () => (image.classList.toggle("small", image.naturalWidth < SMALL), resolve());
      image.onerror = () => resolve();
      image.src = source;
    });
  return {figure: h("figure", {}, image, h("figcaption", {class: "unseen"}, which)), load};
}

function picture(source, alt) {
  const image = h("img", {src: source, alt});
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < SMALL));
  return image;
}

// ---- the result

async function result(place, fields, app) {
  const about = {a: fields.a, b: fields.b, voter: fields.voter};
  const told = await get("/api/vote/result", about);
  const [first, second] = told.systems;
  app.title(`Vote: ${first} or ${second}`);
  const cases = told.lead.overall.clusters;
  const facts = [
    ["Votes", `${whole(told.voted)} of ${whole(told.pairs)} pairs: ${whole(told.wins)} for ${first}, ${whole(told.losses)} for ${second}, ${whole(told.ties)} for neither`],
    [`${first} wins, ties half`, shares(told.share)],
    ["Wins minus losses, mean of categories", between(told.lead.overall, 100, " %")],
    [`Chance that ${first} is better`, told.better === null ? "no case is decided yet" : `${figure(100 * told.better, 3)} %`],
    ["Cases still needed", needed(told, cases)],
    ["Left minus right", `${between(told.left, 100, " %")}; sides are drawn by lot`],
  ];
  const again = told.voted < told.pairs ? h("button", {class: "main", type: "button", onclick: () => app.go("vote", about)}, told.voted ? "Go on voting" : "Begin") : null;
  replace(
    place,
    h("h1", {}, `${first} or ${second}?`),
    h("p", {class: "vote-verdict"}, verdict(told, first, second)),
    scale(told.lead.overall, first, second),
    h("dl", {class: "vote-facts"}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("p", {class: "soft"}, "Decide beforehand how many pairs you vote on: whoever looks often and stops where it pleases finds differences that are none."),
    h("div", {class: "row"}, again, back(about)),
    categories(told, first),
    others(told),
    h("p", {class: "soft"}, "These votes are the judge ", h("b", {}, told.voter), " of a report: ", h("code", {}, "fewstep bench report"), ". They lie in ", h("code", {}, told.file)),
  );
  const pressed = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape" || event.key.toLowerCase() === "v") app.go("vote", about);
  };
  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}

function back(about) {
  return h("a", {class: "button", href: `#/vote?${new URLSearchParams({...about, show: "choice"})}`}, "Other galleries");
}

function verdict(told, first, second) {
  if (!told.voted) return "There is no vote yet.";
  if (told.unspoken) return `Of fewer than 6 cases nothing follows; there are ${told.lead.overall.clusters}.`;
  if (told.lead.outcome === "better") return `${first} is preferred.`;
  if (told.lead.outcome === "worse") return `${second} is preferred.`;
  return "Neither is shown to be better.";
}

function needed(told, cases) {
  if (told.still === null) return told.voted ? "cannot be said yet" : "–";
  if (told.still === 0) return `none for a lead of this size; ${whole(cases)} were voted on`;
  return `about ${whole(told.still)} more, to show a lead of this size with power 0.8; ${whole(told.pairs - told.voted)} pairs are left here`;
}

const shares = (estimate) => between(estimate, 100, " %");

function between(estimate, factor, unit) {
  if (estimate.value === null) return "–";
  const value = `${figure(factor * estimate.value, 3)}${unit}`;
  const [low, high] = [Math.max(estimate.low, -1), Math.min(estimate.high, 1)]; // shares: what lies beyond is arithmetic
  return estimate.low === null ? `${value}, no interval` : `${value} (95 %: ${figure(factor * low, 3)} to ${figure(factor * high, 3)}${unit})`;
}

// The lead with its interval, from -1 (all for the second) to 1 (all for the first).
function scale(estimate, first, second) {
  if (estimate.value === null) return null;
  const x = (value) => 160 - 150 * value;
  const parts = [s("line", {class: "vote-axis", x1: 10, x2: 310, y1: 18, y2: 18}), s("line", {class: "vote-middle", x1: 160, x2: 160, y1: 6, y2: 30})];
  if (estimate.low !== null) parts.push(s("line", {class: "vote-range", x1: x(Math.min(1, estimate.high)), x2: x(Math.max(-1, estimate.low)), y1: 18, y2: 18}));
  parts.push(s("circle", {class: "vote-point", cx: x(estimate.value), cy: 18, r: 5}));
  const said = `wins minus losses of ${first}: ${between(estimate, 100, " %")}`;
  return h("div", {class: "vote-scale"}, h("span", {}, first), s("svg", {viewBox: "0 0 320 36", role: "img", "aria-label": said}, ...parts), h("span", {}, second));
}

function categories(told, first) {
  const held = Object.entries(told.lead.categories);
  if (held.length < 2) return null;
  return h(
    "section",
    {},
    h("h2", {}, "By category"),
    h("div", {class: "scroll"}, h("table", {class: "table"}, h("thead", {}, h("tr", {}, h("th", {scope: "col"}, "Category"), h("th", {scope: "col", class: "number"}, "Cases"), h("th", {scope: "col", class: "number"}, `Wins minus losses of ${first}`))), h("tbody", {}, held.map(([name, estimate]) => h("tr", {}, h("td", {}, name), h("td", {class: "number"}, whole(estimate.clusters)), h("td", {class: "number"}, between(estimate, 100, " %"))))))),
  );
}

function others(told) {
  if (!told.others.length) return h("p", {class: "soft"}, "No other judge has compared these galleries yet.");
  const head = ["Judge", "asked about", "pairs of both", "same answer", "Kendall's τ", "Krippendorff's α"];
  return h(
    "section",
    {},
    h("h2", {}, "Agreement with other judges"),
    h(
      "div",
      {class: "scroll"},
      h(
        "table",
        {class: "table"},
        h("thead", {}, h("tr", {}, head.map((words, i) => h("th", {scope: "col", class: i > 1 ? "number" : ""}, words)))),
        h("tbody", {}, told.others.map((one) => h("tr", {}, h("td", {}, one.judge), h("td", {}, one.kind === "pairs" ? "pairs" : "single pictures"), h("td", {class: "number"}, whole(one.n)), h("td", {class: "number"}, shares(one.same)), h("td", {class: "number"}, figure(one.kendall, 3)), h("td", {class: "number"}, figure(one.alpha, 3))))),
      ),
    ),
  );
}
