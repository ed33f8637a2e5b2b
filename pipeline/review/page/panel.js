// The right side of the editor: a verdict, the category, what is known, and what was done.

import { get } from "./api.js";
import { el } from "./dom.js";
import { FINDER_NAMES } from "./ranking.js";

const FIGURES = [["expected_iou", "Expected IoU"], ["probability", "Probability"], ["score", "Score"], ["predicted_iou", "SAM's own IoU"], ["stability", "Stability"]];
const KINDS = { accept: "accepted", reject: "rejected", relabel: "other category", edit: "drew", fill: "filled holes", add: "added", split: "split",
  merge: "merged", good: "image is good", check: "image is checked", reset: "to review again", propose: "proposed", undo: "undid", redo: "did again" };

export class Panel {
  constructor(editor) {
    this.editor = editor;
    this.node = el("aside", { class: "panel", "aria-label": "Object" });
    this.past = el("ul", { class: "past" });
  }

  // isOther: another object was chosen, so its history is read.
  draw(isOther = false) {
    const { editor } = this;
    if (!editor.image) return;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const typed = this.node.querySelector("input")?.value ?? "";
    const object = editor.selected;
    this.node.replaceChildren(...this.#place(), ...(object ? this.#verdict(object) : this.#nothing()), ...this.#categories(object, typed),
      ...(object ? this.#facts(object) : []), ...this.#imageActions(), ...(object ? [el("h2", { text: "History" }), this.past] : []));
    if (focused) this.node.querySelector(`[data-name="${CSS.escape(focused)}"]`)?.focus();
    if (object && (isOther || this.shown !== `${object.id}/${object.revision}`)) this.#history(object);
  }

  #place() {
    const { editor } = this;
    const button = (name, text, key, act, disabled) => el("button", { "data-name": name, disabled, onclick: act }, text, " ", el("kbd", { text: key }));
    return [el("div", { class: "row" }, el("button", { "data-name": "back", onclick: () => editor.back() }, "← Queue ", el("kbd", { text: "Esc" }))),
      el("div", { class: "row" }, button("previous", "Previous", "P", () => editor.go(-1), editor.place === 0),
        button("next", "Next", "N", () => editor.go(1), editor.place >= editor.ids.length - 1)),
      el("p", { class: "quiet", text: `${editor.place + 1} of ${editor.ids.length} in this list` })];
  }

  #verdict(object) {
    const { editor } = this;
    const state = editor.session.states[object.state];
    return [el("h2", { text: state === "unreviewed" ? "To review" : `Now ${state}` }), el("div", { class: "verdict" },
      el("button", { class: "accept", "data-name": "accept", onclick: () => editor.judge("accepted") }, "Accept ", el("kbd", { text: "A" })),
      el("button", { class: "reject", "data-name": "reject", onclick: () => editor.judge("rejected") }, "Reject ", el("kbd", { text: "R" }))),
    object.state ? el("div", { class: "row" }, el("button", { "data-name": "reset", onclick: () => editor.judge("unreviewed") }, "To review again ", el("kbd", { text: "U" }))) : null].filter(Boolean);
  }

  #nothing() {
    const count = [...this.editor.objects.values()].filter((each) => this.editor.session.states[each.state] !== "rejected").length;
    return [el("h2", { text: "No object is chosen" }), el("p", { class: "quiet",
      text: `The image has ${count} ${count === 1 ? "label" : "labels"}. Click one, or draw a defect that is missing.` })];
  }

  #categories(object, typed) {
    const { editor } = this;
    const { session } = editor;
    const here = object ? object.category : editor.category;
    return [el("h2", { text: object ? "Category" : "Category of a new defect" }), el("div", { role: "radiogroup", "aria-label": "Category" },
      ...session.categories.map((name, number) => el("button", { class: "choice", role: "radio", "aria-checked": String(number === here), "data-name": `category-${number}`,
        onclick: () => editor.relabel(number) }, el("span", { class: "dot", colour: session.colour(number) }), el("span", { class: "name", text: name, title: name }),
      number < 9 ? el("kbd", { class: "count", text: number + 1 }) : null))),
    el("input", { "aria-label": "New category", placeholder: "New category, then Enter", "data-name": "new-category", value: typed, maxlength: 100,
      onkeydown: (event) => {
        if (event.key === "Escape") editor.canvas.focus();
        if (event.key !== "Enter" || !event.target.value.trim()) return;
        const name = event.target.value.trim();
        event.target.value = "";
        session.send("/api/category", () => ({ name })).then((number) => { editor.canvas.focus(); return editor.relabel(number); }).catch(() => {});
      } })];
  }

  #facts(object) {
    const area = object.mask ? object.mask.area : 0;
    const rows = FIGURES.filter(([name]) => name in object.figures).map(([name, text]) => [text, object.figures[name].toFixed(2)]);
    if (object.finder) rows.push(["Found by", FINDER_NAMES[object.finder]]);
    rows.push(["Size", `${Math.round(object.box[2] - object.box[0])} × ${Math.round(object.box[3] - object.box[1])}`], ["Pixels", area.toLocaleString("en")]);
    return [el("h2", { text: `Object ${object.id}` }), el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })]))];
  }

  #imageActions() {
    const { editor } = this;
    const { missed, anomaly, state } = editor.image;
    const known = [missed === null ? "" : `a label is missing with probability ${missed.toFixed(2)}`, anomaly === null ? "" : `anomaly score ${anomaly.toFixed(2)}`,
      state === "unreviewed" ? "" : `marked ${state}`].filter(Boolean).join(", ");
    return [el("h2", { text: "Image" }), known ? el("p", { class: "quiet", text: known }) : null,
      el("div", { class: "row" }, el("button", { "data-name": "good", title: "Reject all labels: the image has no defect", onclick: () => editor.good() }, "Is good ", el("kbd", { text: "G" })),
        el("button", { "data-name": "checked", title: "Accept all labels: no defect is missing", onclick: () => editor.checked() }, "Checked ", el("kbd", { text: "K" })))].filter(Boolean);
  }

  async #history(object) {
    this.shown = `${object.id}/${object.revision}`;
    const { shown } = this;
    const actions = await get(`/api/history/${object.id}`).catch(() => []);
    if (this.shown !== shown) return;
    const lines = actions.slice(-12).reverse().map((action) => el("li", { text: `${action.time.slice(11, 16)} ${action.who} ${KINDS[action.kind] ?? action.kind}` }));
    this.past.replaceChildren(...(lines.length ? lines : [el("li", { text: "Nothing yet." })]));
  }
}
