"use strict";
// The theme: the system's, until the button says otherwise.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Tables: a heading sorts by its column, again the other way round; the field above keeps rows with a text.
for (const table of document.querySelectorAll("table.sorts")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((one) => one.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[at];
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      const numbers = x.dataset.n !== undefined && y.dataset.n !== undefined;
      const order = numbers ? x.dataset.n - y.dataset.n : x.textContent.localeCompare(y.textContent, "en", { numeric: true });
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }));
}
for (const field of document.querySelectorAll("input[data-filter]")) {
  const rows = [...document.getElementById(field.dataset.filter).tBodies[0].rows];
  const count = field.closest("p").querySelector(".count");
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
  });
}
for (const button of document.querySelectorAll("button[data-more]")) {
  button.addEventListener("click", () => { document.getElementById(button.dataset.for).textContent = button.dataset.more; });
}

// Where a link leads is shown, be it a row that the field above had hidden, or inside details that were closed.
const reveal = (link) => {
  const target = document.getElementById(decodeURIComponent(link.slice(1)));
  if (!target) return;
  target.hidden = false;
  target.closest("details")?.setAttribute("open", "");
  target.focus();
};
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link) reveal(link.getAttribute("href"));
});
reveal(location.hash);

// The array: every number is the register machine's, see array/trace.py.
const BEATS = ["nothing", "a weight beat", "an activation beat"];
for (const home of document.querySelectorAll("[data-array]")) {
  const layers = JSON.parse(document.getElementById(home.dataset.array).textContent);
  const [table, clock, now, play] = [".pes", ".clock", ".now", ".play"].map((name) => home.querySelector(name));
  let layer, cells, entering, timer;
  const element = (name, parent, text = "", kind = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    parent.append(made);
    return made;
  };
  const choose = (number) => {
    layer = layers[number];
    table.replaceChildren();
    const head = element("tr", element("thead", table));
    for (const text of ["row", "enters", ...Array.from({ length: layer.cols }, (_, col) => `col ${col}`)]) element("th", head, text).scope = "col";
    const body = element("tbody", table);
    [cells, entering] = [[], []];
    for (let row = 0; row < layer.rows; row++) {
      const line = element("tr", body);
      element("th", line, `${row}`).scope = "row";
      entering.push(element("td", line, "", "in"));
      for (let col = 0; col < layer.cols; col++) {
        const cell = element("td", line);
        cells.push([cell, ...["w", "a", "p"].map((kind) => element("span", cell, "", kind))]);
      }
    }
    clock.max = layer.clocks - 1;
    clock.value = 0;
    show();
  };
  const show = () => {
    const [at, count] = [Number(clock.value), layer.rows * layer.cols];
    const value = (name, pe) => layer[name][pe * layer.clocks + at];
    for (let pe = 0; pe < count; pe++) {
      const [cell, w, a, p] = cells[pe];
      w.textContent = `w ${value("weight", pe)}`;
      a.textContent = value("stream", pe) ? `a ${value("code", pe)}` : value("load", pe) ? `→ ${value("code", pe)}` : " ";
      p.textContent = `p ${value("psum", pe)}`;
      cell.className = value("stream", pe) ? "stream" : value("load", pe) ? "load" : "";
    }
    entering.forEach((cell, row) => { cell.textContent = row ? "" : BEATS[layer.beats[at]].replace(/^an? /, ""); });
    const word = layer.psums[layer.begin + at];
    now.textContent = `${layer.begin + at}: ${BEATS[layer.beats[at]]} enters row 0${word ? `; out of the OFIFO: ${word.join(" ")}` : ""}`;
    home.dataset.clock = layer.begin + at;
  };
  const step = (by) => {
    clock.value = Math.min(Number(clock.max), Math.max(0, Number(clock.value) + by));
    show();
  };
  const stop = () => { clearInterval(timer); timer = undefined; play.textContent = "Play"; };
  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    if (clock.value === clock.max) clock.value = 0;
    play.textContent = "Pause";
    timer = setInterval(() => { step(1); if (clock.value === clock.max) stop(); }, 400);
  });
  home.querySelector(".back").addEventListener("click", () => step(-1));
  home.querySelector(".on").addEventListener("click", () => step(1));
  clock.addEventListener("input", show);
  home.querySelector(".layer")?.addEventListener("change", (event) => choose(Number(event.target.value)));
  choose(0);
}
