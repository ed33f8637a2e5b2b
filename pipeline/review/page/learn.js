// Learning from what is finished: started here, done by a process of the server, and offered when it
// has new labels.

import { byId, clearNotice, el, notice, toast } from "./dom.js";

const TEXTS = { idle: "Learn", failed: "Learn", running: "Learning…", offered: "Show new labels" };
const TITLES = {
  idle: "Let the models learn from all finished images, and label the others again (Shift+L)",
  failed: "Try again (Shift+L)",
  running: "The models learn. The page may be closed.",
  offered: "New labels take the place of those that nobody has judged; undo takes them back (Shift+L)",
};

export class Learn {
  constructor(session) {
    this.session = session;
    this.button = byId("learn");
    this.line = byId("learn-line");
    this.button.onclick = () => this.press();
    session.addEventListener("changed", () => this.draw());
    this.draw();
  }

  draw() {
    const { state, line, generation } = this.session.learn;
    const shown = `${state}/${line}/${generation}`;
    if (shown === this.shown) return;
    this.shown = shown;
    this.button.hidden = state === "off";
    if (state === "off") return;
    this.button.setAttribute("aria-disabled", String(state === "running")); // it keeps the focus
    this.button.classList.toggle("primary", state === "offered");
    this.button.replaceChildren(TEXTS[state], " ", el("kbd", { text: "⇧L" }));
    this.button.title = TITLES[state];
    const text = state === "offered" ? `Generation ${generation} has learned` : state === "running" ? line : "";
    this.line.textContent = text;
    this.line.title = text;
    if (state === "running" || !line) clearNotice("learn");
    else notice("learn", line);
  }

  press() {
    const { state } = this.session.learn;
    if (state === "offered") this.#take();
    else if (state === "running") toast("The models are learning");
    else if (state !== "off") {
      this.session.send("/api/learn", () => ({})).then(() => toast("The models learn from all finished images")).catch(() => {});
    }
  }

  #take() {
    this.session.send("/api/propose", () => ({}))
      .then(({ images, objects }) => toast(`${objects} new labels on ${images} images`)).catch(() => {});
  }
}
