// The second view: one image with its objects, and the tools that correct them.

import { get, post } from "./api.js";
import { byId, el, icon, isTyping, toast } from "./dom.js";
import { Mask } from "./mask.js";
import { Panel } from "./panel.js";
import { REJECTED } from "./session.js";
import { Stage } from "./stage.js";
import { HINTS, TOOLS, Tools } from "./tools.js";

const PREPARED_MS = 900; // on an image, before SAM encodes it
const BOX_ROOM = 2.4; // how much of the image is shown around an object
const OTHERS = [
  ["new", "W", "New defect: nothing is chosen", "M12 5v14M5 12h14"],
  ["fill", "F", "Fill holes", "M12 3a9 9 0 100 18 9 9 0 000-18zM12 8a4 4 0 100 8 4 4 0 000-8z"],
  ["merge", "M", "Merge the chosen ones", "M4 7h7v7H4zM11 10h9v9h-9v-5"],
  ["masks", "H", "Hide or show masks", "M2 12s3.5-6.5 10-6.5S22 12 22 12s-3.5 6.5-10 6.5S2 12 2 12zM12 9.5a2.5 2.5 0 100 5 2.5 2.5 0 000-5z"],
  ["heat", "T", "Heat map", "M12 3c1 4-4 5-4 10a4 4 0 008 0c0-2-1-3-1-4-1 1-2 1.5-2 1.5C13 8 13.5 5 12 3z"],
];

export class Editor {
  // back(): to the queue.
  constructor(session, back) {
    this.session = session;
    this.back = back;
    this.objects = new Map();
    this.clicks = [];
    this.marked = new Set();
    this.category = 0;
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": "Image. Arrow keys move a cross, Space presses, ? shows all keys." });
    this.name = el("div", { class: "name" });
    this.hint = el("div", { class: "hint" });
    const zoom = (text, label, act) => el("button", { text, "aria-label": label, title: label, onclick: act });
    this.stage = new Stage(this.canvas, session);
    this.tools = new Tools(this.stage, this);
    this.bar = el("div", { class: "tools", role: "toolbar", "aria-label": "Tools", "aria-orientation": "vertical" });
    this.panel = new Panel(this);
    byId("editor").append(this.bar, el("div", { class: "stage" }, this.canvas, this.name, this.hint,
      el("div", { class: "zoom" }, zoom("−", "Zoom out (-)", () => this.stage.zoom(0.8)), zoom("Fit", "Whole image (0)", () => this.stage.fit()),
        zoom("+", "Zoom in (+)", () => this.stage.zoom(1.25)))), this.panel.node);
    session.addEventListener("changed", (event) => this.#changed(event.detail));
    this.use("view");
  }

  get isOpen() { return !byId("editor").hidden; }

  get selected() { return this.objects.get(this.stage.selected) ?? null; }

  // One of a list of objects or images.
  async open(ids, place, isImage) {
    Object.assign(this, { ids, place, isImage });
    await this.#load();
    this.canvas.focus({ preventScroll: true });
  }

  async #load() {
    const id = this.ids[this.place];
    const { columns, rowOf } = this.session;
    const image = this.isImage ? id : columns.image[rowOf.get(id)];
    this.wanted = image;
    await this.#read(image);
    if (this.wanted !== image) return; // another one was asked for meanwhile
    this.select(this.isImage ? null : id, true);
    if (this.isImage) this.stage.fit();
    this.#prepareSoon();
    this.#prefetch();
  }

  #prepareSoon() {
    this.#prepare(["box", "click"].includes(this.tools.name) ? 0 : PREPARED_MS);
  }

  // SAM encodes the image once a tool of it is chosen, or a person stays on the image. A SAM that has
  // learned since encodes it again.
  #prepare(wait) {
    clearTimeout(this.preparing);
    const { wanted } = this;
    const number = `${wanted}/${this.session.sam.number}`;
    if (wanted === undefined || number === this.prepared || this.session.sam.status !== "ready") return;
    this.preparing = setTimeout(() => {
      this.prepared = number;
      post("/api/prepare", { image: wanted }).catch(() => {});
    }, wait);
  }

  #prefetch() {
    const next = this.ids[this.place + 1];
    if (next === undefined) return;
    const image = this.isImage ? next : this.session.columns.image[this.session.rowOf.get(next)];
    if (image !== this.image.id) get(`/api/image/${image}`).catch(() => {}); // decodes it on the server
  }

  async #read(id) {
    let image;
    try {
      image = await get(`/api/image/${id}`);
    } catch (error) {
      toast(error.message);
      throw error;
    }
    if (this.wanted !== id) return;
    this.image = image;
    this.stage.setImage(image);
    const before = this.objects;
    this.objects = new Map(image.objects.map((object) => [object.id, this.#object(object, before.get(object.id))]));
    this.stage.objects = this.objects;
    if (this.stage.selected !== null && !this.objects.has(this.stage.selected)) this.select(null);
    this.name.textContent = `${image.file_name} · ${image.width} × ${image.height}`;
    this.panel.draw();
    this.stage.redraw();
  }

  #object(object, before) {
    if (before && before.revision === object.revision) return before;
    return { ...object, mask: object.mask ? Mask.of(object.mask) : null, version: 0 };
  }

  #changed({ touched, isNew }) {
    if (!this.isOpen || !this.image) return;
    if (isNew && touched.has(this.image.id) && !this.tools.isDrawing) this.#read(this.image.id).catch(() => {});
    if (this.samNumber !== this.session.sam.number) {
      this.samNumber = this.session.sam.number;
      this.#prepareSoon();
    }
    this.#drawBar();
    this.panel.draw();
  }

  select(id, isShown = false) {
    this.stage.selected = id;
    this.clicks = [];
    this.clicked_from = null;
    this.marked.clear();
    this.stage.marked = this.marked;
    const object = this.selected;
    if (object && isShown) this.stage.show(object.box, BOX_ROOM);
    if (object) this.category = object.category;
    this.panel.draw(true);
    this.stage.redraw();
  }

  // The smallest object at a point; with `isMore`, it is marked to be merged.
  choose({ x, y }, isMore) {
    let best = null;
    for (const object of this.objects.values()) {
      if (object.state === REJECTED) continue;
      const [x0, y0, x1, y1] = object.box;
      const isIn = object.mask ? object.mask.at(Math.floor(x), Math.floor(y)) : x >= x0 && x < x1 && y >= y0 && y < y1;
      const size = (x1 - x0) * (y1 - y0);
      if (isIn && (!best || size < best.size)) best = { id: object.id, size };
    }
    if (!isMore || this.stage.selected === null) { this.select(best ? best.id : null); return; }
    if (best && best.id !== this.stage.selected) {
      if (!this.marked.delete(best.id)) this.marked.add(best.id);
      this.panel.draw();
      this.stage.redraw();
    }
  }

  use(name) {
    this.tools.use(name);
    this.hint.textContent = HINTS[name];
    if (name === "box" || name === "click") this.#prepare(0);
    this.#drawBar();
  }

  #drawBar() {
    const { sam } = this.session;
    const noSam = sam.status !== "ready";
    const button = ([name, key, label, path], isOn, act, disabled = false) => el("button", { "data-tool": name, title: `${label} (${key})`,
      "aria-label": `${label}, key ${key}`, "aria-pressed": isOn === null ? null : String(isOn), disabled, onclick: act }, icon(path), el("kbd", { text: key }));
    const focused = this.bar.contains(document.activeElement) ? document.activeElement.dataset.tool : null;
    this.bar.replaceChildren(...TOOLS.map((tool) => button(tool, this.tools.name === tool[0], () => { this.use(tool[0]); this.canvas.focus(); }, tool[0] === "click" && noSam)),
      el("hr"), ...OTHERS.map((tool) => button(tool, tool[0] === "masks" ? !this.stage.showMasks : tool[0] === "heat" ? this.stage.showHeat : null,
        () => this.other(tool[0]), tool[0] === "heat" && !this.session.hasHeat)));
    if (focused) this.bar.querySelector(`[data-tool="${focused}"]`)?.focus();
  }

  other(name) {
    if (name === "new") { this.select(null); if (!["click", "brush", "polygon"].includes(this.tools.name)) this.use("box"); this.hint.textContent = "Draw a new defect: box, clicks, brush or polygon"; }
    if (name === "fill") this.fill();
    if (name === "merge") this.merge();
    if (name === "masks") this.stage.showMasks = !this.stage.showMasks;
    if (name === "heat" && this.session.hasHeat) this.stage.showHeat = !this.stage.showHeat;
    this.stage.redraw();
    this.#drawBar();
  }

  // --- what the tools draw ---

  get clip() { return [this.image.width, this.image.height]; }

  async box([x0, y0, x1, y1]) {
    const [width, height] = this.clip;
    const box = [Math.max(0, x0), Math.max(0, y0), Math.min(width, x1), Math.min(height, y1)];
    if (box[2] <= box[0] || box[3] <= box[1]) return;
    this.stage.selected = null;
    if (this.session.sam.status !== "ready") {
      const mask = Mask.polygon([{ x: box[0], y: box[1] }, { x: box[2], y: box[1] }, { x: box[2], y: box[3] }, { x: box[0], y: box[3] }], width, height);
      await this.addMask(mask);
      toast("There is no SAM: the box is filled");
      return;
    }
    const mask = await this.#proposed({ box });
    if (mask) await this.addMask(mask);
  }

  async #proposed(prompt) {
    const image = this.image.id;
    this.canvas.style.cursor = "progress";
    try {
      const { mask, iou, is_expected: isExpected } = await post("/api/segment", { image, category: this.category, ...prompt });
      if (!mask.w) { toast("SAM finds nothing there"); return null; }
      this.hint.textContent = `${isExpected ? "Expected IoU" : "SAM rates its mask"} ${iou.toFixed(2)}`;
      return this.image.id === image ? Mask.of(mask) : null;
    } catch (error) {
      toast(error.message);
      return null;
    } finally {
      this.canvas.style.cursor = "crosshair";
    }
  }

  // A click corrects the chosen object, or begins a new one.
  async clicked({ x, y }, inside) {
    const [width, height] = this.clip;
    if (this.session.sam.status !== "ready" || x < 0 || y < 0 || x >= width || y >= height) return;
    if (!this.clicks.length) this.before = this.selected?.mask?.w ? this.selected.mask.wire() : null;
    this.clicks.push({ x, y, inside });
    this.stage.redraw();
    const mask = await this.#proposed({ clicks: this.clicks, before: this.before });
    if (!mask) { this.clicks.pop(); this.stage.redraw(); return; }
    const { clicks, before } = this;
    if (this.selected) await this.changeMask(mask, "edit");
    else await this.addMask(mask);
    Object.assign(this, { clicks, before });
    this.stage.redraw();
  }

  // A stroke under way, on the chosen object or on a new one.
  paint(draw, isBrush) {
    let object = this.selected;
    if (!object) {
      if (!isBrush) { toast("Choose an object to erase from"); return false; }
      object = { id: -1, category: this.category, state: 0, mask: new Mask(), box: [0, 0, 0, 0], version: 0, figures: {}, revision: -1 };
      this.objects.set(-1, object);
      this.stage.selected = -1;
    }
    if (!this.kept) this.kept = { id: object.id, mask: object.mask };
    if (object.mask === this.kept.mask) object.mask = (object.mask ?? Mask.polygon([{ x: object.box[0], y: object.box[1] }, { x: object.box[2], y: object.box[1] },
      { x: object.box[2], y: object.box[3] }, { x: object.box[0], y: object.box[3] }], ...this.clip)).copy();
    draw(object.mask, ...this.clip);
    object.version += 1;
    this.stage.redraw();
    return true;
  }

  paintCancelled() {
    if (!this.kept) return;
    if (this.kept.id === -1) { this.objects.delete(-1); this.stage.selected = null; } else if (this.selected) this.selected.mask = this.kept.mask;
    this.kept = null;
  }

  async painted() {
    const object = this.selected;
    const { kept } = this;
    this.kept = null;
    if (!object || !kept) return;
    if (kept.id === -1) {
      this.objects.delete(-1);
      this.stage.selected = null;
      if (object.mask.area) await this.addMask(object.mask);
    } else if (!object.mask.area) {
      object.mask = kept.mask;
      object.version += 1;
      this.stage.redraw();
      toast("An object needs a pixel: reject it with R");
    } else await this.changeMask(object.mask, "edit");
  }

  async polygon(mask) {
    if (!mask.area) return;
    const object = this.selected;
    if (!object) { await this.addMask(mask); return; }
    const both = object.mask ? object.mask.copy() : new Mask();
    both.add(mask);
    await this.changeMask(both, "edit");
  }

  async cut(from, to) {
    const object = this.selected;
    if (!object?.mask) { toast("Choose the object to split"); return; }
    const parts = object.mask.split(from, to);
    if (parts.length < 2) { toast("The line has to cross the object"); return; }
    await this.#split(object, parts);
  }

  async #split(object, parts) {
    parts.sort((a, b) => b.area - a.area);
    await this.#act("split", object, { objects: [{ id: object.id, mask: parts[0].wire() }],
      added: parts.slice(1).map((mask) => ({ category: object.category, mask: mask.wire() })) });
  }

  async fill() {
    const object = this.selected;
    if (!object?.mask) { toast("Choose an object to fill"); return; }
    await this.changeMask(object.mask.filled(), "fill");
  }

  async merge() {
    const object = this.selected;
    if (!object || !this.marked.size) { toast("Choose an object, and Shift-click those to merge with it"); return; }
    const all = object.mask ? object.mask.copy() : new Mask();
    const others = [...this.marked].map((id) => this.objects.get(id)).filter((each) => each);
    for (const other of others) if (other.mask) all.add(other.mask);
    await this.#act("merge", object, { objects: [{ id: object.id, mask: all.wire() }, ...others.map(({ id }) => ({ id, state: "rejected" }))] });
    this.marked.clear();
  }

  // --- actions ---

  async changeMask(mask, kind) {
    const object = this.selected;
    Object.assign(object, { mask, version: object.version + 1 });
    this.stage.redraw();
    await this.#act(kind, object, { objects: [{ id: object.id, mask: mask.wire() }] });
  }

  async addMask(mask) {
    if (!this.session.categories.length) await this.session.send("/api/category", () => ({ name: "defect" })).catch(() => {});
    const done = await this.#act("add", null, { added: [{ category: Math.min(this.category, this.session.categories.length - 1), mask: mask.wire() }] });
    if (!done) return;
    await this.#read(this.image.id);
    this.stage.selected = done.object;
    this.panel.draw(true);
    this.stage.redraw();
  }

  // The revisions are those known when the action is sent: a stroke may follow another at once.
  async #act(kind, object, { objects = [], added = [], state = null }) {
    const image = this.image.id;
    const { columns, rowOf } = this.session;
    try {
      return await this.session.act(() => ({ kind, image, object: object?.id ?? null, added, image_state: state,
        objects: objects.map((change) => ({ ...change, revision: columns.revision[rowOf.get(change.id)] })) }));
    } catch {
      await this.#read(image).catch(() => {}); // as it is there
      return null;
    }
  }

  async judge(state) {
    const object = this.selected;
    if (!object) { toast("Choose an object first, or mark the image good with G"); return; }
    const kind = { accepted: "accept", rejected: "reject", unreviewed: "reset" }[state];
    const isNext = state !== "unreviewed" && !this.isImage;
    const done = this.#act(kind, object, { objects: [{ id: object.id, state }] });
    if (isNext && this.ids[this.place] === object.id) this.go(1);
    await done;
  }

  async relabel(category) {
    this.category = category;
    const object = this.selected;
    if (object) await this.#act("relabel", object, { objects: [{ id: object.id, category }] });
    this.panel.draw();
  }

  // The image has no defect: all its objects are rejected, in one action.
  async good() {
    const left = [...this.objects.values()].filter((object) => object.state !== REJECTED);
    await this.#act("good", null, { state: "good", objects: left.map(({ id }) => ({ id, state: "rejected" })) });
    toast("The image is good: it has no defect");
    if (this.isImage) this.go(1);
  }

  // The labels of the image are all that there is.
  async checked() {
    const left = [...this.objects.values()].filter((object) => object.state === 0);
    await this.#act("check", null, { state: "checked", objects: left.map(({ id }) => ({ id, state: "accepted" })) });
    toast("The image is checked: its labels are accepted");
    if (this.isImage) this.go(1);
  }

  go(step) {
    const place = this.place + step;
    if (place < 0 || place >= this.ids.length) { toast(step > 0 ? "That was the last one of this list" : "This is the first one"); return; }
    this.place = place;
    this.#load().catch(() => {});
  }

  // The next object of the image.
  cycle(step) {
    const ids = [...this.objects.keys()];
    if (ids.length) this.select(ids[(ids.indexOf(this.stage.selected) + step + ids.length) % ids.length]);
  }

  key(event) {
    if (isTyping(event)) return false;
    const onPage = !event.target.closest?.("button, a") || (event.key !== " " && event.key !== "Enter");
    if (onPage && (event.target === this.canvas || event.target === document.body) && this.tools.key(event)) return true;
    const tool = TOOLS.find(([, key]) => key.toLowerCase() === event.key);
    if (tool) { if (tool[0] !== "click" || this.session.sam.status === "ready") this.use(tool[0]); this.canvas.focus(); return true; }
    const other = OTHERS.find(([, key]) => key.toLowerCase() === event.key);
    if (other) { this.other(other[0]); return true; }
    if (/^[1-9]$/.test(event.key)) { if (Number(event.key) <= this.session.categories.length) this.relabel(Number(event.key) - 1); return true; }
    const acts = { a: () => this.judge("accepted"), r: () => this.judge("rejected"), u: () => this.judge("unreviewed"), g: () => this.good(), k: () => this.checked(),
      n: () => this.go(1), p: () => this.go(-1), j: () => this.cycle(1), J: () => this.cycle(-1), "[": () => this.tools.resize(0.8), "]": () => this.tools.resize(1.25),
      "+": () => this.stage.zoom(1.25), "=": () => this.stage.zoom(1.25), "-": () => this.stage.zoom(0.8), 0: () => this.stage.fit(),
      Escape: () => this.#escape() };
    if (!(event.key in acts)) return false;
    acts[event.key]();
    return true;
  }

  #escape() {
    if (this.tools.isDrawing || this.tools.points.length) this.tools.cancel();
    else if (this.tools.name !== "view") this.use("view");
    else this.back();
  }
}
