// A grid of cards of which only those in view exist: a hundred thousand open at once.

import { el } from "./dom.js";

const GAP = 14, LEAST = 172, CAPTION = 34;

export class Grid {
  // make(id): the content of a card as { picture, parts, label, classes }. open(id): it was chosen.
  constructor(label, make, open) {
    this.make = make;
    this.open = open;
    this.ids = [];
    this.at = 0;
    this.cards = new Map();
    this.inner = el("div", { class: "cards" });
    this.node = el("div", { class: "scroll", role: "listbox", tabindex: "0", "aria-label": label }, this.inner);
    this.node.addEventListener("scroll", () => this.#draw());
    this.node.addEventListener("click", (event) => {
      const card = event.target.closest(".card");
      if (card) this.open(Number(card.dataset.id));
    });
    new ResizeObserver(() => this.layout()).observe(this.node);
  }

  get here() { return this.ids[this.at]; }

  // Other ids; the place stays on the same one, or on the next that is left.
  show(ids, keep = true) {
    const old = this.here;
    const found = keep ? ids.indexOf(old) : 0;
    this.ids = ids;
    this.at = found >= 0 ? found : Math.max(0, Math.min(this.at, ids.length - 1));
    this.cards.forEach((card) => card.remove());
    this.cards.clear();
    this.layout();
  }

  layout() {
    const width = this.node.clientWidth - 32;
    if (width <= 0) return;
    this.perRow = Math.max(1, Math.floor((width + GAP) / (LEAST + GAP)));
    this.side = (width - GAP * (this.perRow - 1)) / this.perRow;
    this.high = this.side + CAPTION + GAP;
    this.inner.style.height = `${Math.ceil(this.ids.length / this.perRow) * this.high}px`;
    this.#draw();
  }

  move(step) {
    if (!this.ids.length) return;
    this.at = Math.max(0, Math.min(this.ids.length - 1, this.at + step));
    this.reveal();
  }

  reveal() {
    const top = Math.floor(this.at / this.perRow) * this.high;
    const { scrollTop, clientHeight } = this.node;
    if (top < scrollTop) this.node.scrollTop = top;
    else if (top + this.high > scrollTop + clientHeight) this.node.scrollTop = top + this.high - clientHeight;
    this.#draw();
  }

  #draw() {
    if (!this.high) return;
    const { scrollTop, clientHeight } = this.node;
    const first = Math.max(0, Math.floor(scrollTop / this.high) - 1) * this.perRow;
    const last = Math.min(this.ids.length, (Math.ceil((scrollTop + clientHeight) / this.high) + 1) * this.perRow);
    const wanted = new Set();
    for (let place = first; place < last; place += 1) wanted.add(this.ids[place]);
    for (const [id, card] of this.cards) if (!wanted.has(id)) { card.remove(); this.cards.delete(id); }
    for (let place = first; place < last; place += 1) this.#place(this.ids[place], place);
    this.node.setAttribute("aria-activedescendant", this.ids.length ? `card-${this.here}` : "");
  }

  #place(id, place) {
    let card = this.cards.get(id);
    if (!card) {
      card = this.#card(id);
      this.cards.set(id, card);
      this.inner.append(card);
    }
    card.style.left = `${(place % this.perRow) * (this.side + GAP)}px`;
    card.style.top = `${Math.floor(place / this.perRow) * this.high}px`;
    card.style.width = `${this.side}px`;
    card.setAttribute("aria-setsize", this.ids.length);
    card.setAttribute("aria-posinset", place + 1);
    card.setAttribute("aria-selected", place === this.at);
    card.classList.toggle("here", place === this.at);
  }

  #card(id) {
    const { picture, parts, label, classes, mark } = this.make(id);
    return el("div", { class: `card ${classes}`, id: `card-${id}`, "data-id": id, role: "option", "aria-label": label },
      el("img", { src: picture, alt: "", loading: "lazy", decoding: "async", draggable: "false" }),
      el("span", { class: "mark", text: mark }),
      el("div", { class: "caption" }, ...parts));
  }
}
