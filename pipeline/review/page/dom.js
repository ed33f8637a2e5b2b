// Elements from names, attributes and text. Text is only ever set as text, never as HTML.

export const byId = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "text") node.textContent = value;
    else if (key === "colour") node.style.background = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

// An icon of 24 x 24 from the path of its lines.
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  for (const [key, value] of Object.entries({ fill: "none", stroke: "currentColor", "stroke-width": "1.8",
    "stroke-linecap": "round", "stroke-linejoin": "round" })) line.setAttribute(key, value);
  svg.append(line);
  return svg;
}

let hiding = 0;

export function toast(text) {
  const node = byId("toast");
  node.textContent = text;
  node.classList.add("shown");
  clearTimeout(hiding);
  hiding = setTimeout(() => node.classList.remove("shown"), 2600);
}

// A notice that stays until it is closed, or until it no longer holds. One of each name.
export function notice(name, text, closes = true) {
  clearNotice(name);
  const node = el("div", { class: "notice", "data-name": name }, el("span", { text }));
  if (closes) node.append(el("button", { text: "Close", onclick: () => node.remove() }));
  byId("notices").append(node);
}

export function clearNotice(name) {
  for (const node of byId("notices").children) if (node.dataset.name === name) node.remove();
}

export const isTyping = (event) => {
  const target = event.target;
  return target instanceof HTMLInputElement || target instanceof HTMLSelectElement
    || target instanceof HTMLTextAreaElement;
};
