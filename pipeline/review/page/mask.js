// A mask: the pixels of a box in an image, one byte each. Pixel (i, j) is drawn when its centre is.

export class Mask {
  constructor(x = 0, y = 0, w = 0, h = 0, data = new Uint8Array(w * h)) {
    Object.assign(this, { x, y, w, h, data });
  }

  static of({ x, y, w, h, runs }) {
    const data = new Uint8Array(w * h);
    let at = 0;
    runs.forEach((length, number) => {
      if (number % 2) data.fill(1, at, at + length);
      at += length;
    });
    return new Mask(x, y, w, h, data);
  }

  copy() { return new Mask(this.x, this.y, this.w, this.h, this.data.slice()); }

  at(x, y) {
    const i = x - this.x, j = y - this.y;
    return i >= 0 && j >= 0 && i < this.w && j < this.h ? this.data[j * this.w + i] : 0;
  }

  get area() {
    let sum = 0;
    for (const value of this.data) sum += value;
    return sum;
  }

  // The same pixels in their smallest box; of 0 x 0 without any.
  tight() {
    let left = this.w, right = -1, top = this.h, bottom = -1;
    for (let j = 0; j < this.h; j += 1) for (let i = 0; i < this.w; i += 1) if (this.data[j * this.w + i]) {
      if (i < left) left = i;
      if (i > right) right = i;
      if (j < top) top = j;
      bottom = j;
    }
    return right < 0 ? new Mask() : this.cut(this.x + left, this.y + top, right - left + 1, bottom - top + 1);
  }

  // The pixels of another box.
  cut(x, y, w, h) {
    const part = new Mask(x, y, w, h);
    const left = Math.max(x, this.x), right = Math.min(x + w, this.x + this.w);
    for (let row = Math.max(y, this.y); row < Math.min(y + h, this.y + this.h); row += 1) {
      if (right <= left) break;
      const from = (row - this.y) * this.w + left - this.x;
      part.data.set(this.data.subarray(from, from + right - left), (row - y) * w + left - x);
    }
    return part;
  }

  // Room for the box from (x0, y0) to (x1, y1), as far as it is in the image.
  reach(x0, y0, x1, y1, width, height) {
    x0 = Math.max(0, Math.floor(x0)); y0 = Math.max(0, Math.floor(y0));
    x1 = Math.min(width, Math.ceil(x1)); y1 = Math.min(height, Math.ceil(y1));
    if (x1 <= x0 || y1 <= y0) return;
    if (this.w && x0 >= this.x && y0 >= this.y && x1 <= this.x + this.w && y1 <= this.y + this.h) return;
    const left = this.w ? Math.min(x0, this.x) : x0, top = this.w ? Math.min(y0, this.y) : y0;
    const right = this.w ? Math.max(x1, this.x + this.w) : x1, bottom = this.w ? Math.max(y1, this.y + this.h) : y1;
    Object.assign(this, this.cut(left, top, right - left, bottom - top));
  }

  // A stroke of a round brush from one point to another.
  stroke(from, to, radius, value, width, height) {
    const x0 = Math.min(from.x, to.x) - radius, x1 = Math.max(from.x, to.x) + radius;
    const y0 = Math.min(from.y, to.y) - radius, y1 = Math.max(from.y, to.y) + radius;
    if (value) this.reach(x0, y0, x1, y1, width, height);
    const dx = to.x - from.x, dy = to.y - from.y, long = dx * dx + dy * dy;
    const least = Math.max(radius * radius, 0.25);
    for (let y = Math.max(this.y, Math.floor(y0)); y < Math.min(this.y + this.h, Math.ceil(y1)); y += 1) {
      for (let x = Math.max(this.x, Math.floor(x0)); x < Math.min(this.x + this.w, Math.ceil(x1)); x += 1) {
        const px = x + 0.5 - from.x, py = y + 0.5 - from.y;
        const share = long ? Math.max(0, Math.min(1, (px * dx + py * dy) / long)) : 0;
        const ex = px - share * dx, ey = py - share * dy;
        const own = long === 0 && radius < 0.75 ? x === Math.floor(from.x) && y === Math.floor(from.y) : ex * ex + ey * ey <= least;
        if (own) this.data[(y - this.y) * this.w + x - this.x] = value;
      }
    }
  }

  add(other) {
    this.reach(other.x, other.y, other.x + other.w, other.y + other.h, Infinity, Infinity);
    for (let j = 0; j < other.h; j += 1) for (let i = 0; i < other.w; i += 1) {
      if (other.data[j * other.w + i]) this.data[(other.y + j - this.y) * this.w + other.x + i - this.x] = 1;
    }
  }

  // Every hole filled: what background outside of the box cannot reach.
  filled() {
    const w = this.w + 2, h = this.h + 2;
    const outside = new Uint8Array(w * h);
    const stack = [0];
    outside[0] = 1;
    while (stack.length) {
      const at = stack.pop(), i = at % w;
      for (const next of [i > 0 ? at - 1 : -1, i < w - 1 ? at + 1 : -1, at - w, at + w]) {
        if (next < 0 || next >= w * h || outside[next] || this.at(this.x + (next % w) - 1, this.y + Math.floor(next / w) - 1)) continue;
        outside[next] = 1;
        stack.push(next);
      }
    }
    const full = new Mask(this.x, this.y, this.w, this.h);
    for (let j = 0; j < this.h; j += 1) for (let i = 0; i < this.w; i += 1) full.data[j * this.w + i] = outside[(j + 1) * w + i + 1] ? 0 : 1;
    return full;
  }

  // The 8-connected parts, the largest first.
  parts() {
    const seen = new Uint8Array(this.w * this.h);
    const found = [];
    for (let start = 0; start < seen.length; start += 1) {
      if (!this.data[start] || seen[start]) continue;
      const part = new Mask(this.x, this.y, this.w, this.h);
      const stack = [start];
      seen[start] = 1;
      while (stack.length) {
        const at = stack.pop(), i = at % this.w, j = (at - i) / this.w;
        part.data[at] = 1;
        for (let b = Math.max(0, j - 1); b <= Math.min(this.h - 1, j + 1); b += 1) for (let a = Math.max(0, i - 1); a <= Math.min(this.w - 1, i + 1); a += 1) {
          const next = b * this.w + a;
          if (this.data[next] && !seen[next]) { seen[next] = 1; stack.push(next); }
        }
      }
      found.push(part.tight());
    }
    return found.sort((a, b) => b.area - a.area);
  }

  // The pixels on either side of a line through two points.
  split(from, to) {
    const sides = [new Mask(this.x, this.y, this.w, this.h), new Mask(this.x, this.y, this.w, this.h)];
    for (let at = 0; at < this.data.length; at += 1) if (this.data[at]) {
      const x = this.x + (at % this.w) + 0.5, y = this.y + Math.floor(at / this.w) + 0.5;
      const side = (to.x - from.x) * (y - from.y) - (to.y - from.y) * (x - from.x) > 0 ? 1 : 0;
      sides[side].data[at] = 1;
    }
    return sides.map((side) => side.tight()).filter((side) => side.w);
  }

  static polygon(points, width, height) {
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const mask = new Mask();
    mask.reach(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys), width, height);
    for (let j = 0; j < mask.h; j += 1) {
      const y = mask.y + j + 0.5;
      const cuts = [];
      points.forEach((p, n) => {
        const q = points[(n + 1) % points.length];
        if ((p.y <= y) !== (q.y <= y)) cuts.push(p.x + ((y - p.y) / (q.y - p.y)) * (q.x - p.x));
      });
      cuts.sort((a, b) => a - b);
      for (let n = 0; n + 1 < cuts.length; n += 2) {
        const left = Math.max(0, Math.ceil(cuts[n] - 0.5) - mask.x), right = Math.min(mask.w, Math.ceil(cuts[n + 1] - 0.5) - mask.x);
        if (right > left) mask.data.fill(1, j * mask.w + left, j * mask.w + right);
      }
    }
    return mask;
  }

  wire() {
    const { x, y, w, h, data } = this.tight();
    const runs = [];
    let value = 0, length = 0;
    for (const pixel of data) {
      if (pixel === value) length += 1;
      else { runs.push(length); value = pixel; length = 1; }
    }
    runs.push(length);
    return { x, y, w, h, runs };
  }

  // The edges of the pixels as a path in pixels of the image.
  outline() {
    const path = new Path2D();
    const { x, y, w, h, data } = this;
    for (let j = 0; j <= h; j += 1) for (let i = 0, start = -1; i <= w; i += 1) {
      const edge = i < w && (j < h ? data[j * w + i] : 0) !== (j > 0 ? data[(j - 1) * w + i] : 0);
      if (edge && start < 0) start = i;
      if (!edge && start >= 0) { path.moveTo(x + start, y + j); path.lineTo(x + i, y + j); start = -1; }
    }
    for (let i = 0; i <= w; i += 1) for (let j = 0, start = -1; j <= h; j += 1) {
      const edge = j < h && (i < w ? data[j * w + i] : 0) !== (i > 0 ? data[j * w + i - 1] : 0);
      if (edge && start < 0) start = j;
      if (!edge && start >= 0) { path.moveTo(x + i, y + start); path.lineTo(x + i, y + j); start = -1; }
    }
    return path;
  }
}
