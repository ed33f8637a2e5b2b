// The first view: close-ups of objects, or images that may lack a label, with filters and counts.

import { get } from "./api.js";
import { byId, el, isTyping } from "./dom.js";
import { Grid } from "./grid.js";
import { ANY_FINDER, counts, FINDER_NAMES, newFilters, NO_FINDER, ORDERS, ranked, rankedImages, STATE_FILTERS, trust } from "./ranking.js";
import { REJECTED } from "./session.js";

const LOOK_MS = 700;
const MARKS = ["", "✓ accepted", "✓ changed", "+ added", "✕ rejected"];

export class Queue {
  // open(ids, place, isImage): the editor, on one of a list.
  constructor(session, open) {
    this.session = session;
    this.open = open;
    this.filters = { ...newFilters(), images: "todo", empty: false };
    this.tab = "objects";
    this.side = el("aside", { class: "side", "aria-label": "Filters" });
    this.head = el("div", { class: "list-head" });
    this.objects = new Grid("Objects", (id) => this.#objectCard(id), (id) => this.#enter(id));
    this.pictures = new Grid("Images", (id) => this.#imageCard(id), (id) => this.#enter(id));
    this.empty = el("div", { class: "empty", hidden: true });
    this.outlook = el("p", { class: "outlook", role: "status", hidden: true });
    byId("queue").append(this.side, el("div", { class: "list" }, this.head, this.outlook, this.empty, this.objects.node, this.pictures.node));
    session.addEventListener("changed", (event) => event.detail.isNew && (this.show(), this.#look(LOOK_MS)));
    this.show(false);
    this.#look(0);
  }

  // What can be said of the labels that are left, once no action came for a moment.
  #look(wait) {
    clearTimeout(this.looking);
    this.looking = setTimeout(async () => {
      const { left, lower, judged, right, goal, more } = await get("/api/remaining").catch(() => ({ lower: null }));
      const percent = (share) => `${Math.floor(share * 100)} %`;
      this.outlook.hidden = lower === null || lower === 0 || left === 0;
      if (this.outlook.hidden) return;
      this.outlook.textContent = `Of the ${left.toLocaleString("en")} left, at least ${percent(lower)} are expected above IoU 0.8.`
        + (goal === null ? "" : ` If the next ${more} are right too: at least ${percent(goal)}.`);
      this.outlook.title = `With 95 % confidence, if labels of a higher expected IoU are right at least as often. Of the ${judged} reviewed labels below them, ${right} were right.`;
    }, wait);
  }

  get grid() { return this.tab === "objects" ? this.objects : this.pictures; }

  show(keep = true) {
    const isObjects = this.tab === "objects";
    this.objects.node.hidden = !isObjects;
    this.pictures.node.hidden = isObjects;
    const images = rankedImages(this.session, this.filters);
    this.labels = images.labels;
    const ids = isObjects ? ranked(this.session, this.filters) : images.ids;
    this.#drawSide(ids.length);
    this.#drawHead(ids.length);
    this.empty.hidden = ids.length > 0;
    this.grid.node.hidden = ids.length === 0;
    this.empty.replaceChildren(el("strong", { text: this.#nothing() }),
      "Choose another filter, or export the labels with pipeline export.");
    this.grid.show(ids, keep);
  }

  #nothing() {
    const none = this.session.count === 0 && this.tab === "objects";
    return none ? "These labels have no object." : this.filters.state === "todo" ? "Nothing is left to review here." : "Nothing passes the filters.";
  }

  #objectCard(id) {
    const { columns, rowOf, categories, images } = this.session;
    const row = rowOf.get(id);
    const value = trust(columns, row), state = columns.state[row];
    const category = categories[columns.category[row]] ?? "";
    const figure = Number.isNaN(value) ? "" : value.toFixed(2);
    const named = !Number.isNaN(columns.expected_iou[row]) ? "expected IoU" : "score";
    return {
      picture: `/close-up/${id}?r=${columns.revision[row]}`,
      mark: MARKS[state],
      classes: state === REJECTED ? "rejected" : "",
      label: [category, figure && `${named} ${figure}`, MARKS[state].slice(2) || "to review",
        images.get(columns.image[row])?.name].filter(Boolean).join(", "),
      parts: [el("span", { class: "dot", colour: this.session.colour(columns.category[row]) }),
        el("span", { class: "name", text: category, title: category }),
        el("span", { class: "figure", text: figure, title: named })],
    };
  }

  #imageCard(id) {
    const image = this.session.images.get(id);
    const count = this.labels.get(id) ?? 0;
    const figure = image.missed ?? image.anomaly;
    const mark = image.state === "unreviewed" ? "" : image.state === "good" ? "✓ good" : "✓ checked";
    const text = figure === null ? "" : figure.toFixed(2);
    return {
      picture: `/small/${id}?r=${this.session.touched.get(id) ?? 0}`,
      mark,
      classes: "",
      label: [image.name, `${count} labels`, text && `missed defect ${text}`, mark.slice(2)].filter(Boolean).join(", "),
      parts: [el("span", { class: "name end", title: image.name }, el("bdi", { text: image.name.split("/").pop() })),
        figure === null ? el("span", { class: "quiet", text: count ? `${count} ${count === 1 ? "label" : "labels"}` : "no label" })
          : el("span", { class: "figure", text, title: image.missed === null ? "anomaly score" : "probability that a label is missing" })],
    };
  }

  #enter(id) {
    const place = this.grid.ids.indexOf(id);
    this.grid.at = Math.max(place, 0);
    this.open(this.grid.ids.slice(), this.grid.at, this.tab === "images");
  }

  #drawHead(count) {
    const what = this.tab === "objects" ? (count === 1 ? "object" : "objects") : (count === 1 ? "image" : "images");
    const order = el("select", { "aria-label": "Order", onchange: (event) => { this.filters.order = event.target.value; this.show(false); } },
      ...ORDERS.map(([name, text]) => el("option", { value: name, text, selected: name === this.filters.order })));
    this.head.replaceChildren(el("span", {}, el("strong", { text: count.toLocaleString("en") }), ` ${what}`),
      el("span", { class: "spacer" }), this.tab === "objects" ? order : el("span", { text: "Most likely to lack a label first" }));
  }

  #drawSide(shown) {
    const focused = document.activeElement?.dataset?.name;
    const tab = (name, text) => el("button", { role: "tab", "aria-selected": String(this.tab === name), "data-name": `tab-${name}`,
      text, onclick: () => { this.tab = name; this.show(false); } });
    const tabs = el("div", { class: "tabs", role: "tablist", "aria-label": "What to review" }, tab("objects", "Objects"), tab("images", "Images"));
    const parts = this.tab === "objects" ? this.#objectFilters() : this.#imageFilters(shown);
    this.side.replaceChildren(tabs, ...parts);
    if (focused) this.side.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
  }

  #choice(name, text, count, isOn, choose, colour = null) {
    return el("button", { class: "choice", "aria-pressed": String(isOn), "data-name": name, onclick: () => { choose(); this.show(false); } },
      colour && el("span", { class: "dot", colour }), el("span", { class: "name", text, title: text }),
      count === null ? null : el("span", { class: "count", text: count.toLocaleString("en") }));
  }

  #number(name, text, options) {
    return el("label", { class: "field" }, text, el("input", { type: "number", "data-name": name, value: this.filters[name], ...options,
      onchange: (event) => { this.filters[name] = Number(event.target.value); this.show(false); } }));
  }

  #nameField() {
    return el("label", { class: "field wide" }, "Image name has", el("input", { type: "search", "data-name": "name", value: this.filters.name,
      oninput: (event) => { this.filters.name = event.target.value; this.show(false); } }));
  }

  #objectFilters() {
    const { states, categories, finders } = counts(this.session, this.filters);
    const { filters } = this;
    return [
      el("h2", { text: "State" }),
      ...STATE_FILTERS.map(([name, text]) => this.#choice(`state-${name}`, text, states.get(name), filters.state === name, () => { filters.state = name; })),
      el("h2", { text: "Category" }),
      this.#choice("category-all", "All categories", null, filters.category < 0, () => { filters.category = -1; }),
      ...this.session.categories.map((text, number) => this.#choice(`category-${number}`, text, categories[number] ?? 0,
        filters.category === number, () => { filters.category = number; }, this.session.colour(number))),
      ...this.#finderFilters(finders),
      el("h2", { text: "Figures" }),
      this.#number("iou", "Expected IoU up to", { min: 0, max: 1, step: 0.05 }),
      this.#number("probability", "Probability up to", { min: 0, max: 1, step: 0.05 }),
      this.#number("width", "Width from, in pixels", { min: 0, step: 1 }),
      this.#nameField(),
    ];
  }

  // None where no finder is known.
  #finderFilters(finders) {
    const { filters, session } = this;
    if (![...finders.keys()].some((finder) => finder >= 0)) return [];
    const choice = (finder, text, count) => this.#choice(`finder-${finder}`, text, count, filters.finder === finder, () => { filters.finder = finder; });
    return [el("h2", { text: "Found by" }), choice(ANY_FINDER, "All finders", null),
      ...[...finders].map(([finder, count]) => choice(finder, finder === NO_FINDER ? "Not known" : FINDER_NAMES[session.finders[finder]], count))];
  }

  #imageFilters() {
    const { filters } = this;
    const state = (name, text) => this.#choice(`images-${name}`, text, null, filters.images === name, () => { filters.images = name; });
    return [el("h2", { text: "State" }), state("todo", "To review"), state("done", "Good or checked"), state("all", "All"),
      el("h2", { text: "Labels" }),
      this.#choice("empty", "Only without a label", null, filters.empty, () => { filters.empty = !filters.empty; }),
      this.#nameField()];
  }

  key(event) {
    if (isTyping(event)) return false;
    const { grid } = this;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: grid.perRow, ArrowUp: -grid.perRow, PageDown: grid.perRow * 3,
      PageUp: -grid.perRow * 3, Home: -Infinity, End: Infinity, n: 1, p: -1 };
    if (event.target.closest?.(".side, .bar") && event.key !== "n" && event.key !== "p" && !/^[ar1-9]$/.test(event.key)) return false;
    if (event.key in steps) { grid.move(steps[event.key]); return true; }
    if (grid.here === undefined) return false;
    if (event.key === "Enter" || event.key === "e") { this.#enter(grid.here); return true; }
    if (this.tab === "objects") return this.#judge(event.key, grid.here);
    if (event.key === "g") { this.onGood(grid.here); return true; }
    return false;
  }

  #judge(key, id) {
    if (key === "a") this.session.judge(id, "accept", { state: "accepted" }).catch(() => {});
    else if (key === "r") this.session.judge(id, "reject", { state: "rejected" }).catch(() => {});
    else if (/^[1-9]$/.test(key) && Number(key) <= this.session.categories.length) {
      this.session.judge(id, "relabel", { category: Number(key) - 1 }).catch(() => {});
    } else return false;
    if (this.filters.state !== "todo") this.grid.move(1);
    return true;
  }
}
