// Which screen is shown: #/NAME?field=value. A screen is a module screens/NAME.js with
//   export async function open(place, fields, app) -> a function that ends it, or nothing
// place: the element to fill. fields: of the address. app: {say, go, title}.

import {h, replace} from "./lib/dom.js";
import {get} from "./lib/net.js";

const content = document.getElementById("content");
const messages = document.getElementById("messages");
let close = null;
let turn = 0;
let screens = [];

const app = {
  // A sentence for the reader. kind: note or fault; a fault stays until it is closed.
  say(sentence, kind = "note") {
    const text = String(sentence);
    for (const old of messages.children) if (old.dataset.text === text) old.remove();
    const line = h("div", {class: `message ${kind}`, data: {text}}, h("span", {}, text));
    line.append(h("button", {class: "quiet", type: "button", aria: {label: "Close this message"}, onclick: () => line.remove()}, "×"));
    messages.append(line);
    if (kind === "note") setTimeout(() => line.remove(), 6000);
  },
  go(name, fields = {}) {
    const words = new URLSearchParams(fields).toString();
    location.hash = `#/${name}${words ? `?${words}` : ""}`;
  },
  title(words) {
    document.title = words ? `${words} · fewstep studio` : "fewstep studio";
  },
};

async function show() {
  const mine = ++turn;
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  const known = screens.map((screen) => screen.name);
  const chosen = known.includes(name) ? name : known[0];
  if (close) close();
  close = null;
  messages.replaceChildren();
  mark(chosen);
  app.title("");
  const place = h("div", {class: `screen screen-${chosen}`});
  replace(content, place);
  try {
    const module = await import(`./screens/${chosen}.js`);
    const ended = await module.open(place, Object.fromEntries(new URLSearchParams(query)), app);
    if (mine === turn) close = ended ?? null;
    else ended?.();
  } catch (error) {
    if (mine === turn) replace(place, h("p", {class: "fault-page"}, error.message), h("p", {}, h("a", {href: "#/runs"}, "All runs")));
  }
}

function mark(chosen) {
  const navigation = document.getElementById("navigation");
  const shown = screens.filter((screen) => screen.title);
  const here = chosen === "run" ? "runs" : chosen;
  replace(
    navigation,
    shown.map((screen) => h("a", {href: `#/${screen.name}`, "aria-current": screen.name === here ? "page" : null}, screen.title)),
  );
}

async function begin() {
  try {
    screens = (await get("/api/screens")).screens;
  } catch (error) {
    replace(content, h("p", {class: "fault-page"}, error.message));
    return;
  }
  window.addEventListener("hashchange", show);
  window.addEventListener("unhandledrejection", (event) => {
    app.say(event.reason?.message ?? String(event.reason), "fault");
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    content.focus();
  });
  await show();
}

begin();
