// The session as the page knows it: a column of numbers for each figure, and the images.

import { get, getBytes, post } from "./api.js";
import { notice, toast } from "./dom.js";

export const UNREVIEWED = 0, ACCEPTED = 1, CHANGED = 2, ADDED = 3, REJECTED = 4;
const POLL_MS = 1500;

export class Session extends EventTarget {
  async open() {
    const [about, queue] = await Promise.all([get("/api/session"), getBytes("/api/queue")]);
    Object.assign(this, { title: about.title, who: about.who, categories: about.categories,
      colours: about.colours, states: about.states, finders: about.finders, tile: about.tile, hasHeat: about.has_heat });
    about.notices.forEach((text, number) => notice(`start${number}`, text));
    this.images = new Map();
    for (const row of about.images) this.#setImage(row);
    this.#unpack(queue);
    this.sam = { status: "loading", name: "", note: "", number: 0 };
    this.learn = { state: "off", line: "", generation: 0 };
    this.canUndo = this.canRedo = false;
    this.pending = Promise.resolve();
    this.waiting = 0;
    await this.refresh();
    setInterval(() => document.hidden || this.waiting || this.refresh().catch(() => {}), POLL_MS);
  }

  #unpack(buffer) {
    const bytes = new Uint8Array(buffer);
    const end = bytes.indexOf(10);
    const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    this.revision = head.revision;
    this.names = head.columns;
    this.count = head.count;
    this.columns = {};
    head.columns.forEach((name, number) => {
      const start = end + 1 + number * head.count * 8;
      this.columns[name] = new Float64Array(buffer, start, head.count);
    });
    this.rowOf = new Map();
    for (let row = 0; row < head.count; row += 1) this.rowOf.set(this.columns.id[row], row);
    this.touched = new Map(); // of an image: the last action on it or its objects
    for (let row = 0; row < head.count; row += 1) this.#touch(row);
  }

  #touch(row) {
    const image = this.columns.image[row];
    this.touched.set(image, Math.max(this.touched.get(image) ?? 0, this.columns.revision[row]));
  }

  #setImage([id, name, width, height, state, missed, anomaly, revision]) {
    this.images.set(id, { id, name, width, height, state, missed, anomaly, revision });
  }

  #setObject(values) {
    const id = values[0];
    let row = this.rowOf.get(id);
    if (row === undefined) {
      row = this.count;
      if (row >= this.columns.id.length) this.#grow();
      this.count += 1;
      this.rowOf.set(id, row);
    }
    this.names.forEach((name, number) => { this.columns[name][row] = values[number] ?? NaN; });
    this.#touch(row);
  }

  #grow() {
    for (const name of this.names) {
      const bigger = new Float64Array(Math.max(64, this.columns[name].length * 2));
      bigger.set(this.columns[name]);
      this.columns[name] = bigger;
    }
  }

  // What changed since the last time, in this window or in another.
  async refresh() {
    const since = this.revision;
    const news = await get(`/api/changes?since=${since}`);
    this.categories = news.categories;
    this.sam = news.sam;
    this.learn = news.learn;
    this.canUndo = news.can_undo;
    this.canRedo = news.can_redo;
    this.revision = Math.max(this.revision, news.revision);
    news.objects.forEach((row) => this.#setObject(row));
    news.images.forEach((row) => this.#setImage(row));
    const touched = new Set(news.actions.map((action) => action.image)); // the first of many alone
    for (const row of news.objects) touched.add(row[1]);
    for (const id of news.removed) {
      const row = this.rowOf.get(id);
      if (row === undefined) continue;
      this.columns.state[row] = NaN;
      touched.add(this.columns.image[row]);
    }
    for (const image of touched) this.touched.set(image, news.revision);
    this.dispatchEvent(new CustomEvent("changed", { detail: { news, touched, isNew: news.revision > since } }));
    return news;
  }

  // One action after the other; each is sent when the one before is known. `make` gives the body.
  send(path, make) {
    this.waiting += 1;
    const done = this.pending.then(async () => {
      const body = make();
      if (body === null) return null;
      try {
        return await post(path, body);
      } catch (error) {
        toast(error.status === 409 ? `${error.message}: it is shown as it is now` : error.message);
        throw error;
      } finally {
        await this.refresh().catch(() => {});
      }
    });
    this.pending = done.catch(() => null).finally(() => { this.waiting -= 1; });
    return done;
  }

  act(make) {
    return this.send("/api/act", make);
  }

  // A judgement of one object, from the queue or the editor.
  judge(id, kind, change) {
    return this.act(() => {
      const row = this.rowOf.get(id);
      return row === undefined ? null : { kind, image: this.columns.image[row], object: id,
        objects: [{ id, revision: this.columns.revision[row], ...change }] };
    });
  }

  undo() { return this.send("/api/undo", () => ({})); }

  redo() { return this.send("/api/redo", () => ({})); }

  colour(category) { return this.colours[category % this.colours.length]; }
}
