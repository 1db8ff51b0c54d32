// A process of the server that the page waits for.

import {duration, h, replace} from "./dom.js";
import {get} from "./net.js";

// Asks once a second until the job has ended; `onchange` is called with each answer. Returns what ends the asking.
export function follow(path, job, onchange, fields = {}) {
  let stopped = false;
  (async () => {
    let now = job;
    onchange(now);
    while (!stopped && now.state === "working") {
      await new Promise((done) => setTimeout(done, 1000));
      if (stopped) return;
      try {
        now = await get(path, {job: job.id, ...fields});
      } catch (error) {
        now = {...now, state: "failed", tail: error.message};
      }
      if (!stopped) onchange(now);
    }
  })();
  return () => (stopped = true);
}

// What a job says, for a reader.
export function jobElement(job) {
  const words = {working: `at work for ${duration(job.seconds)}`, done: `done in ${duration(job.seconds)}`, failed: `ended with ${job.code}`, abandoned: "ended without a word: it was stopped, killed, or its machine was"};
  return [
    h("p", {}, h("b", {class: `state ${job.state === "done" ? "done" : job.state === "working" ? "training" : "failed"}`}, job.title), ` ${words[job.state]}`, job.state === "working" ? h("progress", {aria: {label: job.title}}) : null),
    job.tail ? h("pre", {tabindex: "0"}, job.tail.trimEnd()) : null,
  ];
}

export function copyButton(text) {
  const button = h("button", {type: "button"}, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      replace(button, "Copied");
    } catch {
      replace(button, "Select and copy by hand");
    }
    setTimeout(() => replace(button, "Copy"), 2000);
  });
  return button;
}
