// The picture: tiles of the image, masks on it, and what a tool is about to draw.

import { REJECTED } from "./session.js";

const LEAST_SCALE = 0.02, MOST_SCALE = 64, KEPT_TILES = 500;

export class Stage {
  constructor(canvas, session) {
    this.canvas = canvas;
    this.session = session;
    this.tiles = new Map();
    this.drawn = new Map(); // of an object: its fill and outline, by its mask and colour
    this.scale = 1;
    this.left = this.top = 0;
    this.showMasks = true;
    this.showHeat = false;
    this.heat = null;
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    this.ratio = ratio;
    this.canvas.width = Math.max(1, Math.round(clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * ratio));
    if (this.image && !this.placed) this.fit();
    this.redraw();
  }

  setImage(image) {
    if (this.image?.id !== image.id) {
      this.tiles.clear();
      this.drawn.clear();
      this.heat = null;
      this.placed = false;
    }
    this.image = image;
  }

  fit() { this.show([0, 0, this.image.width, this.image.height], 1.0); }

  // A box in the middle, with room around it.
  show([x0, y0, x1, y1], room = 2.4) {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !this.image) return;
    const wide = Math.max((x1 - x0) * room, room > 1 ? 64 : 1), high = Math.max((y1 - y0) * room, room > 1 ? 64 : 1);
    const whole = Math.min((clientWidth - 32) / this.image.width, (clientHeight - 32) / this.image.height);
    this.scale = Math.max(Math.min(clientWidth / wide, clientHeight / high, 8), whole);
    if (room === 1) this.scale = whole;
    this.left = clientWidth / 2 - ((x0 + x1) / 2) * this.scale;
    this.top = clientHeight / 2 - ((y0 + y1) / 2) * this.scale;
    if (room > 1) this.#keepInside();
    this.placed = true;
    this.redraw();
  }

  // Less empty ground beside an image that is larger than the view.
  #keepInside() {
    const { clientWidth, clientHeight } = this.canvas;
    const wide = this.image.width * this.scale, high = this.image.height * this.scale;
    this.left = wide <= clientWidth ? (clientWidth - wide) / 2 : Math.min(16, Math.max(clientWidth - wide - 16, this.left));
    this.top = high <= clientHeight ? (clientHeight - high) / 2 : Math.min(16, Math.max(clientHeight - high - 16, this.top));
  }

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const scale = Math.min(MOST_SCALE, Math.max(LEAST_SCALE, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.redraw();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.redraw();
  }

  toImage(x, y) { return { x: (x - this.left) / this.scale, y: (y - this.top) / this.scale }; }

  toScreen(x, y) { return { x: x * this.scale + this.left, y: y * this.scale + this.top }; }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; if (this.image) this.#draw(); });
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    const { ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.clientWidth, this.canvas.clientHeight);
    context.save();
    context.translate(this.left, this.top);
    context.scale(this.scale, this.scale);
    this.#drawTiles(context);
    if (this.showHeat && this.session.hasHeat) this.#drawHeat(context);
    if (this.showMasks && this.objects) this.#drawObjects(context);
    this.overlay?.(context, this.scale);
    context.restore();
    this.cursor?.(context);
  }

  #drawTiles(context) {
    const { image, session } = this;
    const best = Math.max(0, Math.min(image.levels - 1, Math.floor(Math.log2(1 / (this.scale * this.ratio)))));
    context.imageSmoothingEnabled = this.scale < 3;
    for (let level = image.levels - 1; level >= best; level -= 1) { // the coarse ones below, until the fine are there
      if (level !== best && level !== image.levels - 1) continue;
      const side = session.tile * 2 ** level;
      const from = this.toImage(0, 0), to = this.toImage(this.canvas.clientWidth, this.canvas.clientHeight);
      for (let row = Math.max(0, Math.floor(from.y / side)); row * side < Math.min(to.y, image.height); row += 1) {
        for (let column = Math.max(0, Math.floor(from.x / side)); column * side < Math.min(to.x, image.width); column += 1) {
          const tile = this.#tile(level, column, row);
          if (!tile.complete || !tile.naturalWidth) continue;
          const wide = Math.min(side, image.width - column * side), high = Math.min(side, image.height - row * side);
          context.drawImage(tile, column * side, row * side, wide, high);
        }
      }
    }
  }

  #tile(level, column, row) {
    const key = `${this.image.id}/${level}/${column}/${row}`;
    if (!this.tiles.has(key)) {
      const tile = new Image();
      tile.onload = () => this.redraw();
      tile.src = `/tile/${key}`;
      this.tiles.set(key, tile);
      if (this.tiles.size > KEPT_TILES) this.tiles.delete(this.tiles.keys().next().value);
    }
    return this.tiles.get(key);
  }

  #drawHeat(context) {
    if (!this.heat) {
      this.heat = new Image();
      this.heat.onload = () => this.redraw();
      this.heat.src = `/heat/${this.image.id}`;
    }
    if (this.heat.complete && this.heat.naturalWidth) context.drawImage(this.heat, 0, 0, this.image.width, this.image.height);
  }

  #drawObjects(context) {
    context.imageSmoothingEnabled = false;
    for (const object of this.objects.values()) {
      const isHere = object.id === this.selected, isMarked = this.marked?.has(object.id);
      if (object.state === REJECTED && !isHere) continue;
      const colour = object.state === REJECTED ? "#9aa3ad" : this.session.colour(object.category);
      if (!object.mask) { this.#drawBox(context, object, colour, isHere); continue; }
      const { fill, path } = this.#shape(object, colour);
      context.globalAlpha = isHere || isMarked ? 0.34 : 0.2;
      if (fill) context.drawImage(fill, object.mask.x, object.mask.y);
      context.globalAlpha = 1;
      context.lineJoin = "round";
      context.strokeStyle = "#0b0d10cc";
      context.lineWidth = (isHere ? 4 : 2.6) / this.scale;
      context.stroke(path);
      context.strokeStyle = isMarked ? "#ffffff" : colour;
      context.lineWidth = (isHere ? 2 : 1.2) / this.scale;
      context.stroke(path);
    }
  }

  #drawBox(context, object, colour, isHere) {
    const [x0, y0, x1, y1] = object.box;
    context.strokeStyle = colour;
    context.lineWidth = (isHere ? 2.5 : 1.5) / this.scale;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }

  #shape(object, colour) {
    const kept = this.drawn.get(object.id);
    if (kept && kept.mask === object.mask && kept.colour === colour && kept.version === object.version) return kept;
    const { w, h, data } = object.mask;
    let fill = null;
    if (w && h) {
      fill = new OffscreenCanvas(w, h);
      const pixels = new ImageData(w, h);
      const packed = new Uint32Array(pixels.data.buffer);
      const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
      const value = (255 << 24 | b << 16 | g << 8 | r) >>> 0;
      for (let at = 0; at < data.length; at += 1) if (data[at]) packed[at] = value;
      fill.getContext("2d").putImageData(pixels, 0, 0);
    }
    const shape = { mask: object.mask, colour, version: object.version, fill, path: object.mask.outline() };
    this.drawn.set(object.id, shape);
    return shape;
  }
}
