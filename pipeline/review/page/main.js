// Opens the session, and gives keys to the view that is shown.

import { byId, el, isTyping, notice, toast } from "./dom.js";
import { Editor } from "./editor.js";
import { showHelp } from "./help.js";
import { Learn } from "./learn.js";
import { Queue } from "./queue.js";
import { Session, UNREVIEWED } from "./session.js";

const session = new Session();
const THEME = "review-theme";
let samNumber = 0; // of the SAM that was shown last

function setTheme(name) {
  document.documentElement.dataset.theme = name;
}

function toggleTheme() {
  const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem(THEME, name);
  setTheme(name);
}

setTheme(localStorage.getItem(THEME) ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));

function drawBar() {
  let done = 0, all = 0;
  for (let row = 0; row < session.count; row += 1) {
    const state = session.columns.state[row];
    if (Number.isNaN(state)) continue;
    all += 1;
    if (state !== UNREVIEWED) done += 1;
  }
  byId("progress").setAttribute("aria-valuemax", all);
  byId("progress").setAttribute("aria-valuenow", done);
  byId("progress-fill").style.width = `${all ? (100 * done) / all : 0}%`;
  byId("progress-text").textContent = `${done.toLocaleString("en")} of ${all.toLocaleString("en")} reviewed`;
  byId("undo").disabled = !session.canUndo;
  byId("redo").disabled = !session.canRedo;
  const { sam } = session;
  byId("sam").textContent = sam.status === "ready" ? `SAM: ${sam.name}` : sam.status === "loading" ? "SAM is loading…" : "no SAM";
  byId("sam").title = sam.note;
  if (sam.number > samNumber && samNumber > 0) toast(`SAM has learned: ${sam.name}`);
  samNumber = sam.number;
}

async function turn(isUndo) {
  const action = await (isUndo ? session.undo() : session.redo()).catch(() => null);
  if (action) toast(`${isUndo ? "Undone" : "Done again"}: ${action.object === null ? "image" : `object ${action.object}`}`);
}

async function start() {
  await session.open();
  byId("title").replaceChildren(el("bdi", { text: session.title })); // its end is shown where it is long
  byId("title").title = session.title;
  document.title = `Review · ${session.title.split("/").pop()}`;
  const views = { queue: byId("queue"), editor: byId("editor") };
  const show = (name) => Object.entries(views).forEach(([each, node]) => { node.hidden = each !== name; });
  const editor = new Editor(session, () => { show("queue"); queue.show(); queue.grid.reveal(); queue.grid.node.focus({ preventScroll: true }); });
  const queue = new Queue(session, (ids, place, isImage) => { show("editor"); editor.open(ids, place, isImage).catch(() => show("queue")); });
  queue.onGood = (image) => session.act(() => {
    const objects = [];
    for (let row = 0; row < session.count; row += 1) {
      const { id, state, revision } = session.columns;
      if (session.columns.image[row] === image && state[row] >= 0 && state[row] !== 4) objects.push({ id: id[row], state: "rejected", revision: revision[row] });
    }
    return { kind: "good", image, objects, image_state: "good" };
  }).catch(() => {});
  const learn = new Learn(session);
  session.addEventListener("changed", drawBar);
  drawBar();
  queue.grid.node.focus({ preventScroll: true });
  byId("undo").onclick = () => turn(true);
  byId("redo").onclick = () => turn(false);
  byId("help").onclick = showHelp;
  byId("theme").onclick = toggleTheme;
  document.addEventListener("keydown", (event) => {
    if (byId("sheet").open) return;
    const isControl = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (isControl && (key === "z" || key === "y") && !isTyping(event)) {
      event.preventDefault();
      turn(key === "z" && !event.shiftKey);
    } else if (isControl || (event.altKey && !event.key.startsWith("Arrow"))) return;
    else if (event.key === "?" && !isTyping(event)) showHelp();
    else if (event.key === "D" && !isTyping(event)) toggleTheme();
    else if (event.key === "L" && !isTyping(event)) learn.press();
    else if ((editor.isOpen ? editor : queue).key(event)) event.preventDefault();
  });
  window.review = { session, editor, queue }; // for tests and benchmarks of the page
  document.body.dataset.ready = "yes";
}

start().catch((error) => notice("start", `The review cannot be opened: ${error.message}`, false));
