// What the pointer does, by tool. Keyboard users move a cross with the arrows and press Space.

import { Mask } from "./mask.js";

export const TOOLS = [
  ["view", "V", "Move and choose", "M5 3l6 16 2.5-6.5L20 10z"],
  ["box", "B", "Box to SAM", "M4 8V5a1 1 0 011-1h3M16 4h3a1 1 0 011 1v3M20 16v3a1 1 0 01-1 1h-3M8 20H5a1 1 0 01-1-1v-3"],
  ["click", "C", "Clicks to SAM", "M12 4v4M12 16v4M4 12h4M16 12h4M12 12h.01"],
  ["brush", "D", "Brush", "M19 4l-8.5 9.5M10 13c-2.5-.5-4 1-4 3.5 0 1.5-1 2.5-2.5 2.5 1 1 2.5 1.5 4 1.5 3 0 4.5-2 4.5-4.5z"],
  ["erase", "E", "Eraser", "M8 19l-4-4 10-10 6 6-8 8zM9 10l6 6M8 19h12"],
  ["polygon", "O", "Polygon", "M12 3l8.5 6.5-3.5 10.5H7L3.5 9.5z"],
  ["cut", "X", "Split along a line", "M6 6l12 12M18 6L6 18"],
];

export const HINTS = {
  view: "Drag to move, wheel to zoom, click an object to choose it",
  box: "Drag a box around a defect",
  click: "Click the object; Alt or right click what is not of the object",
  brush: "Paint; [ and ] change the size",
  erase: "Erase; [ and ] change the size",
  polygon: "Click the corners; Enter closes, Backspace takes back",
  cut: "Drag a line across the object",
};

export class Tools {
  // editor: takes what was drawn: box(), clicked(), painted(), polygon(), cut(), choose().
  constructor(stage, editor) {
    this.stage = stage;
    this.editor = editor;
    this.name = "view";
    this.size = 12; // of the brush, in pixels of the screen
    this.points = [];
    this.cross = null; // of the keyboard, in pixels of the screen
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("pointerleave", () => { this.pointer = null; stage.redraw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.name === "polygon" && this.close());
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      stage.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
    }, { passive: false });
    stage.overlay = (context, scale) => this.#overlay(context, scale);
    stage.cursor = (context) => this.#cursor(context);
  }

  get isDrawing() { return this.start !== null && this.start !== undefined; }

  use(name) {
    this.cancel();
    this.name = name;
    this.stage.canvas.style.cursor = name === "view" ? "grab" : name === "brush" || name === "erase" ? "none" : "crosshair";
    this.stage.redraw();
  }

  cancel() {
    if (this.stroke) this.editor.paintCancelled();
    this.start = this.end = this.stroke = this.dragging = null;
    this.points = [];
    this.stage.redraw();
  }

  get radius() { return Math.max(0.5, this.size / this.stage.scale / 2); }

  resize(factor) {
    this.size = Math.max(1, Math.min(400, this.size * factor));
    this.stage.redraw();
  }

  #down(event) {
    this.cross = null;
    this.stage.canvas.focus({ preventScroll: true });
    this.stage.canvas.setPointerCapture(event.pointerId);
    if (event.button === 1 || (this.name === "view" && event.button === 0)) {
      this.dragging = { x: event.offsetX, y: event.offsetY, moved: 0, shift: event.shiftKey };
      return;
    }
    if (event.button === 2 && this.name !== "click") return;
    this.press(event.offsetX, event.offsetY, event.altKey || event.button === 2);
  }

  #move(event) {
    this.pointer = { x: event.offsetX, y: event.offsetY };
    if (this.dragging) {
      const dx = event.offsetX - this.dragging.x, dy = event.offsetY - this.dragging.y;
      this.dragging = { ...this.dragging, x: event.offsetX, y: event.offsetY, moved: this.dragging.moved + Math.abs(dx) + Math.abs(dy) };
      this.stage.pan(dx, dy);
      return;
    }
    this.move(event.offsetX, event.offsetY);
  }

  #up(event) {
    if (this.dragging) {
      const { moved, shift } = this.dragging;
      this.dragging = null;
      if (moved < 4 && this.name === "view") this.editor.choose(this.stage.toImage(event.offsetX, event.offsetY), shift);
      return;
    }
    this.release(event.offsetX, event.offsetY);
  }

  // Press, move and release, in pixels of the screen: of the pointer or of the keyboard's cross.
  press(x, y, isOther = false) {
    const at = this.stage.toImage(x, y);
    if (this.name === "click") this.editor.clicked(at, !isOther);
    else if (this.name === "polygon") this.points.push(at);
    else if (this.name === "view") this.editor.choose(at, isOther);
    else {
      this.start = this.end = at;
      if (this.name === "brush" || this.name === "erase") this.stroke = this.#paint(at, at);
    }
    this.stage.redraw();
  }

  move(x, y) {
    const at = this.stage.toImage(x, y);
    if (this.stroke) this.#paint(this.end, at);
    this.end = at;
    this.stage.redraw();
  }

  release(x, y) {
    const { start } = this;
    if (!start) return;
    const end = this.stage.toImage(x, y);
    const isStroke = this.stroke;
    this.start = this.stroke = null;
    if (isStroke) this.editor.painted();
    else if (this.name === "box") {
      const box = [Math.min(start.x, end.x), Math.min(start.y, end.y), Math.max(start.x, end.x), Math.max(start.y, end.y)];
      if ((box[2] - box[0]) * this.stage.scale > 3 && (box[3] - box[1]) * this.stage.scale > 3) this.editor.box(box);
    } else if (this.name === "cut" && Math.hypot(end.x - start.x, end.y - start.y) * this.stage.scale > 3) this.editor.cut(start, end);
    this.stage.redraw();
  }

  #paint(from, to) {
    return this.editor.paint((mask, width, height) => mask.stroke(from, to, this.radius, this.name === "brush" ? 1 : 0, width, height), this.name === "brush");
  }

  close() {
    const { width, height } = this.stage.image;
    const { points } = this;
    this.points = [];
    if (points.length > 2) this.editor.polygon(Mask.polygon(points, width, height));
    this.stage.redraw();
  }

  // Arrows and Space on the canvas; whether the key was one of them.
  key(event) {
    const step = event.shiftKey ? 48 : event.altKey ? 1 : 8;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const { clientWidth, clientHeight } = this.stage.canvas;
    if (event.key in moves) {
      this.cross ??= { x: clientWidth / 2, y: clientHeight / 2 };
      this.cross.x = Math.max(0, Math.min(clientWidth, this.cross.x + moves[event.key][0]));
      this.cross.y = Math.max(0, Math.min(clientHeight, this.cross.y + moves[event.key][1]));
      this.move(this.cross.x, this.cross.y);
    } else if (event.key === " ") {
      this.cross ??= { x: clientWidth / 2, y: clientHeight / 2 };
      if (this.start) this.release(this.cross.x, this.cross.y);
      else this.press(this.cross.x, this.cross.y, event.shiftKey);
    } else if (event.key === "Enter" && this.points.length) this.close();
    else if (event.key === "Backspace" && this.points.length) { this.points.pop(); this.stage.redraw(); } else return false;
    return true;
  }

  #overlay(context, scale) {
    const { start, end, points, name } = this;
    const line = () => {
      context.strokeStyle = "#0b0d10";
      context.lineWidth = 3.5 / scale;
      context.stroke();
      context.strokeStyle = "#ffffff";
      context.lineWidth = 1.5 / scale;
      context.stroke();
    };
    context.beginPath();
    if (start && end && name === "box") { context.rect(start.x, start.y, end.x - start.x, end.y - start.y); line(); }
    if (start && end && name === "cut") { context.moveTo(start.x, start.y); context.lineTo(end.x, end.y); line(); }
    if (points.length) {
      points.forEach((p, n) => (n ? context.lineTo(p.x, p.y) : context.moveTo(p.x, p.y)));
      if (end) context.lineTo(end.x, end.y);
      line();
      for (const p of points) { context.beginPath(); context.arc(p.x, p.y, 3.5 / scale, 0, 7); context.fillStyle = "#fff"; context.fill(); }
    }
    for (const click of this.editor.clicks) {
      context.beginPath();
      context.arc(click.x, click.y, 5 / scale, 0, 7);
      context.fillStyle = click.inside ? "#35c46a" : "#ff5a5f";
      context.fill();
      line();
    }
  }

  #cursor(context) {
    const at = this.cross ?? this.pointer;
    if (!at) return;
    const ring = (radius) => {
      for (const [colour, width] of [["#0b0d10", 3], ["#ffffff", 1.2]]) {
        context.beginPath();
        context.arc(at.x, at.y, radius, 0, 7);
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.stroke();
      }
    };
    if (this.name === "brush" || this.name === "erase") ring(Math.max(1.5, this.radius * this.stage.scale));
    if (!this.cross) return;
    for (const [colour, width] of [["#0b0d10", 3], ["#ffffff", 1.2]]) {
      context.beginPath();
      context.moveTo(at.x - 14, at.y); context.lineTo(at.x + 14, at.y);
      context.moveTo(at.x, at.y - 14); context.lineTo(at.x, at.y + 14);
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  }
}
