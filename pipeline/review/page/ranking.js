// Which objects and images are shown, in which order. Plain functions of the columns.

import { ACCEPTED, ADDED, CHANGED, REJECTED, UNREVIEWED } from "./session.js";

export const STATE_FILTERS = [
  ["todo", "To review", (state) => state === UNREVIEWED],
  ["accepted", "Accepted", (state) => state === ACCEPTED],
  ["changed", "Changed", (state) => state === CHANGED],
  ["added", "Added", (state) => state === ADDED],
  ["rejected", "Rejected", (state) => state === REJECTED],
  ["all", "All", () => true],
];

export const ORDERS = [
  ["worst", "Worst first"],
  ["image", "By image"],
  ["small", "Smallest first"],
  ["large", "Largest first"],
];

export const FINDER_NAMES = { segmenter: "Segmenter", detector: "Detector", anomaly: "Anomaly model", person: "Person" };
export const ANY_FINDER = -1, NO_FINDER = -2; // else the number of a finder

export const newFilters = () => ({ state: "todo", category: -1, finder: ANY_FINDER, iou: 1, probability: 1, width: 0, name: "", order: "worst" });

// The figure that an object is ranked by: expected IoU, else probability, else score.
export function trust(columns, row) {
  for (const name of ["expected_iou", "probability", "score"]) {
    const value = columns[name][row];
    if (!Number.isNaN(value)) return value;
  }
  return NaN;
}

export const widthOf = (columns, row) => Math.min(columns.x1[row] - columns.x0[row], columns.y1[row] - columns.y0[row]);

// Who found an object: a number of the session's finders, or `NO_FINDER`.
export const finderOf = (columns, row) => (Number.isNaN(columns.finder[row]) ? NO_FINDER : columns.finder[row]);

// The rows that pass all filters but those of `without`.
export function passing(session, filters, without = "") {
  const { columns } = session;
  const state = STATE_FILTERS.find(([name]) => name === filters.state)[2];
  const named = filters.name.toLowerCase();
  const images = named && without !== "name"
    ? new Set([...session.images.values()].filter((i) => i.name.toLowerCase().includes(named)).map((i) => i.id)) : null;
  const rows = [];
  for (let row = 0; row < session.count; row += 1) {
    const own = columns.state[row];
    if (Number.isNaN(own) || (without !== "state" && !state(own))) continue;
    if (without !== "category" && filters.category >= 0 && columns.category[row] !== filters.category) continue;
    if (without !== "finder" && filters.finder !== ANY_FINDER && finderOf(columns, row) !== filters.finder) continue;
    if (filters.iou < 1 && !(columns.expected_iou[row] <= filters.iou)) continue;
    if (filters.probability < 1 && !(columns.probability[row] <= filters.probability)) continue;
    if (filters.width > 0 && widthOf(columns, row) < filters.width) continue;
    if (images && !images.has(columns.image[row])) continue;
    rows.push(row);
  }
  return rows;
}

// The ids of objects in the order of the filters.
export function ranked(session, filters) {
  const { columns } = session;
  const rows = passing(session, filters);
  const area = (row) => (columns.x1[row] - columns.x0[row]) * (columns.y1[row] - columns.y0[row]);
  const key = new Float64Array(session.count);
  for (const row of rows) {
    if (filters.order === "worst") key[row] = trust(columns, row);
    else if (filters.order === "image") key[row] = columns.image[row];
    else key[row] = filters.order === "small" ? area(row) : -area(row);
    if (Number.isNaN(key[row])) key[row] = 2; // without a figure: after those that have one
  }
  const second = columns.probability;
  return rows.sort((a, b) => key[a] - key[b] || (second[a] - second[b]) || columns.id[a] - columns.id[b])
    .map((row) => columns.id[row]);
}

// The finders of all objects, in order, those without one last, and the one that is chosen.
function foundBy({ columns, count }, { finder }) {
  const found = new Set(finder === ANY_FINDER ? [] : [finder]);
  for (let row = 0; row < count; row += 1) if (!Number.isNaN(columns.state[row])) found.add(finderOf(columns, row));
  const known = [...found].filter((each) => each >= 0).sort((a, b) => a - b);
  return [...known, ...(found.has(NO_FINDER) ? [NO_FINDER] : [])];
}

export function counts(session, filters) {
  const { columns } = session;
  const states = new Map(STATE_FILTERS.map(([name]) => [name, 0]));
  for (const row of passing(session, filters, "state")) {
    for (const [name, , test] of STATE_FILTERS) if (test(columns.state[row])) states.set(name, states.get(name) + 1);
  }
  const categories = new Array(session.categories.length).fill(0);
  for (const row of passing(session, filters, "category")) categories[columns.category[row]] += 1;
  const finders = new Map(foundBy(session, filters).map((finder) => [finder, 0]));
  for (const row of passing(session, filters, "finder")) finders.set(finderOf(columns, row), finders.get(finderOf(columns, row)) + 1);
  return { states, categories, finders };
}

// Images to look at for missed defects: those that most probably lack a label first, then the most
// unusual, then those without a label.
export function rankedImages(session, filters) {
  const labels = new Map();
  const { columns } = session;
  for (let row = 0; row < session.count; row += 1) {
    const state = columns.state[row];
    if (!Number.isNaN(state) && state !== REJECTED) labels.set(columns.image[row], (labels.get(columns.image[row]) ?? 0) + 1);
  }
  const named = filters.name.toLowerCase();
  const kept = [...session.images.values()].filter((image) => (filters.images === "all"
    || (filters.images === "todo" ? image.state === "unreviewed" : image.state !== "unreviewed"))
    && (!filters.empty || !labels.get(image.id)) && image.name.toLowerCase().includes(named));
  const worth = (image) => [image.missed ?? -1, image.anomaly ?? -1, labels.get(image.id) ? 0 : 1];
  const order = kept.map((image) => [image.id, worth(image)]).sort(([a, x], [b, y]) =>
    y[0] - x[0] || y[1] - x[1] || y[2] - x[2] || a - b);
  return { ids: order.map(([id]) => id), labels };
}
