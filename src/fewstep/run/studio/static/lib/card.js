// A model card for reading: headings, paragraphs, lists, tables and code of Markdown. All of it is set as text.

import {h} from "./dom.js";

export function cardElement(text) {
  const lines = text.replace(/^---\n[\s\S]*?\n---\n/, "").split("\n");
  const place = h("div", {class: "card"});
  while (lines.length) place.append(...block(lines));
  return place;
}

function block(lines) {
  const line = lines.shift();
  if (!line.trim()) return [];
  const heading = line.match(/^(#{1,4})\s+(.*)/);
  if (heading) return [h(`h${Math.min(4, heading[1].length + 1)}`, {}, inline(heading[2]))];
  if (line.startsWith("```")) {
    const code = [];
    while (lines.length && !lines[0].startsWith("```")) code.push(lines.shift());
    lines.shift();
    return [h("pre", {tabindex: "0"}, code.join("\n"))];
  }
  if (line.startsWith("|")) {
    const rows = [line];
    while (lines.length && lines[0].startsWith("|")) rows.push(lines.shift());
    const cells = rows.filter((row) => !/^\|[\s|:-]+\|$/.test(row)).map((row) => row.split("|").slice(1, -1));
    return [h("div", {class: "scroll"}, h("table", {class: "table"}, h("tbody", {}, cells.map((row) => h("tr", {}, row.map((cell) => h("td", {}, inline(cell.trim()))))))))];
  }
  if (line.startsWith("- ")) {
    const items = [line.slice(2)];
    while (lines.length && /^(- |  )/.test(lines[0])) {
      const next = lines.shift();
      if (next.startsWith("- ")) items.push(next.slice(2));
      else items[items.length - 1] += ` ${next.trim()}`;
    }
    return [h("ul", {}, items.map((item) => h("li", {}, inline(item))))];
  }
  const words = [line];
  while (lines.length && lines[0].trim() && !/^(#|```|\||- )/.test(lines[0])) words.push(lines.shift());
  return [h("p", {}, inline(words.join(" ")))];
}

// Bold and code. Links are shown as their words: the card's own addresses lead nowhere here.
function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]*\))/).map((part) => {
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return h("b", {}, part.slice(2, -2));
    if (part.startsWith("[")) return part.slice(1, part.indexOf("]"));
    return part;
  });
}
