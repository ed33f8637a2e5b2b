// The sheet of all keys.

import { byId, el } from "./dom.js";

const KEYS = [
  ["Everywhere", [["Undo, redo, without limit", "Ctrl+Z  Ctrl+Shift+Z"], ["This sheet", "?"], ["Back to the queue", "Esc"], ["Dark or light", "Shift+D"],
    ["Learn from what is finished; show the new labels", "Shift+L"]]],
  ["Judge", [["Accept, and go to the next", "A"], ["Reject, and go to the next", "R"], ["Category", "1 to 9"], ["Next, previous", "N  P"], ["To review again", "U"]]],
  ["The image", [["Is good: it has no defect", "G"], ["Checked: its labels are all there is", "K"], ["Next object of the image", "J  Shift+J"]]],
  ["Queue", [["Move", "Arrows"], ["Open", "Enter"], ["First, last", "Home  End"]]],
  ["Draw", [["New defect", "W"], ["Box to SAM", "B"], ["Clicks to SAM; not of the object", "C  Alt+click"], ["Brush, eraser", "D  E"], ["Size", "[  ]"], ["Polygon", "O  Enter"],
    ["Fill holes", "F"], ["Split along a line", "X"], ["Mark another, and merge", "Shift+click  M"], ["Move and choose", "V"]]],
  ["View", [["Zoom", "+  -  wheel"], ["Whole image", "0"], ["Hide masks", "H"], ["Heat map", "T"]]],
  ["Without a mouse", [["Move the cross, far, by a pixel", "Arrows  Shift+  Alt+"], ["Press, and release", "Space"], ["Click what is not of the object", "Shift+Space"]]],
];

export function showHelp() {
  const sheet = byId("sheet");
  const tables = KEYS.map(([title, rows]) => el("table", {}, el("caption", { text: title }),
    el("tbody", {}, ...rows.map(([what, keys]) => el("tr", {}, el("td", { text: what }), el("td", {}, ...keys.split("  ").flatMap((key) => [el("kbd", { text: key }), " "])))))));
  sheet.replaceChildren(el("h1", { id: "sheet-title", text: "Keys" }), el("div", { class: "columns" }, ...tables),
    el("form", { method: "dialog" }, el("button", { class: "primary", text: "Close", autofocus: true })));
  sheet.showModal();
}
