// What the page asks the server. Every answer is JSON; a refusal has a sentence, which is thrown as the error's message.

const HIDDEN_MS = 10_000;
const token = document.querySelector('meta[name="studio-token"]').content;

export function address(path, query = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined) words.set(name, value);
  const text = words.toString();
  return text ? `${path}?${text}` : path;
}

export const get = (path, query = {}) => ask(address(path, query), {});

export const post = (path, fields = {}) =>
  ask(path, {
    method: "POST",
    headers: {"content-type": "application/json", "x-studio-token": token},
    body: JSON.stringify(fields),
  });

// A form with files (Playground): FormData, without a content type of our own.
export const postForm = (path, form) => ask(path, {method: "POST", headers: {"x-studio-token": token}, body: form});

async function ask(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new Error("The studio does not answer; it may have ended.");
  }
  const held = await answer.json().catch(() => ({error: `an answer that is no JSON (status ${answer.status})`}));
  if (!answer.ok) throw new Error(held.error ?? `status ${answer.status}`);
  return held;
}

export const picture = (run, path, side = null) => address("/picture", {run, path, side});

// Listens to what changes (events.py). handlers: {runs, run, again}; `again` is called when a broken connection is back,
// since messages may have been missed. A page that nobody sees lets go after a while: a browser holds six connections to
// one address, and a seventh page would wait for ever. Returns what ends it.
export function listen(run, handlers) {
  let source = null;
  let broken = false;
  let leaving = null;

  function open() {
    source = new EventSource(address("/api/events", {run}));
    source.addEventListener("hello", () => {
      state("live", true);
      if (broken) handlers.again?.();
      broken = false;
    });
    source.addEventListener("error", () => {
      state("connection lost; trying again", false);
      broken = true;
    });
    for (const kind of ["runs", "run"]) {
      source.addEventListener(kind, (event) => handlers[kind]?.(JSON.parse(event.data)));
    }
  }

  function seen() {
    clearTimeout(leaving);
    if (document.visibilityState === "visible") {
      if (!source) open();
    } else {
      leaving = setTimeout(() => {
        source?.close();
        source = null;
        broken = true;
      }, HIDDEN_MS);
    }
  }

  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(leaving);
    source?.close();
    state("", true);
  };
}

function state(words, good) {
  const place = document.getElementById("link-state");
  place.textContent = words;
  place.classList.toggle("lost", !good);
}
