// Elements and words. Text is only ever set as text, so prompts and names are inert.

// h("p", {class: "note", onclick: f}, "text", child): properties that begin with "on" are listeners, `data` and `aria`
// are objects, null and false are left out.
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "data") for (const [key, part] of Object.entries(value)) element.dataset[key] = part;
  else if (name === "aria") for (const [key, part] of Object.entries(value)) element.setAttribute(`aria-${key}`, part);
  else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
  else element.setAttribute(name, value === true ? "" : value);
}

const SVG = "http://www.w3.org/2000/svg";

export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// ---- words

export const whole = (number) => Number(number).toLocaleString("en");

export function figure(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${(hours / 24).toFixed(1)} days`;
}

export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const gib = count / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.round(count / 2 ** 20)} MiB`;
}

export function ago(seconds) {
  if (!seconds) return "–";
  const past = Date.now() / 1000 - seconds;
  return past < 10 ? "now" : `${duration(past)} ago`;
}

export const padded = (moment) => String(moment).padStart(6, "0");
