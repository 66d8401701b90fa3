"use strict";
/* Hovering, sorting and blending for a page that is whole without it. It loads nothing and sends nothing. */

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const element = document.getElementById("chart-data");
const charts = element ? JSON.parse(element.textContent) : {};

/* Tables: a heading sorts by its column; empty cells stay last, whichever way. */
for (const table of all("table.sortable")) {
  const headings = all("thead th", table);
  const body = table.tBodies[0];
  const original = Array.from(body.rows);
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      const next = was === "ascending" ? "descending" : was === "descending" ? null : "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) heading.setAttribute("aria-sort", next);
      const key = (row) => row.cells[column].dataset.key;
      const sign = next === "descending" ? -1 : 1;
      const rows = next ? original.slice().sort((a, b) => compare(key(a), key(b), sign)) : original;
      body.append(...rows);
    });
  });
}

function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  return sign * a.localeCompare(b);
}

/* Charts: boxes switch curves; the pointer, or the arrow keys, read out the nearest point. */
for (const figure of all("figure.chart")) {
  const chart = charts[figure.id];
  const svg = figure.querySelector(".plot svg");
  if (chart && svg) wire(figure, chart, svg);
}

function wire(figure, chart, svg) {
  const plot = figure.querySelector(".plot");
  const cursor = svg.querySelector(".cursor");
  const readout = figure.querySelector(".readout");
  const groups = all("g.series", svg);
  const boxes = all(".legend input", figure);
  const [width, height, left, right, top, bottom] = chart.box;
  const place = (row) => [
    left + ((row[0] - chart.x[0]) / (chart.x[1] - chart.x[0])) * (width - left - right),
    height - bottom - ((row[1] - chart.y[0]) / (chart.y[1] - chart.y[0])) * (height - top - bottom),
  ];
  const drawn = (row) => row[0] !== null && row[1] !== null;
  const visible = () => chart.series.map((_, k) => k).filter((k) => boxes[k].checked);
  let at = null;

  const show = (series, point) => {
    at = { series, point };
    const row = chart.series[series].rows[point];
    const [x, y] = place(row);
    cursor.setAttribute("cx", x);
    cursor.setAttribute("cy", y);
    cursor.removeAttribute("hidden");
    plot.classList.add("reading");
    groups.forEach((group, k) => group.classList.toggle("read", k === series));
    const values = chart.columns.map((name, k) => `${name} ${row[k] === null ? "above every score" : row[k]}`);
    readout.textContent = `${chart.series[series].name}: ${values.join(", ")}`;
  };
  const clear = () => {
    at = null;
    cursor.setAttribute("hidden", "");
    plot.classList.remove("reading");
  };

  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const px = ((event.clientX - area.left) / area.width) * width;
    const py = ((event.clientY - area.top) / area.height) * height;
    let best = null;
    for (const series of visible()) {
      chart.series[series].rows.forEach((row, point) => {
        if (!drawn(row)) return;
        const [x, y] = place(row);
        const far = (x - px) ** 2 + (y - py) ** 2;
        if (!best || far < best.far) best = { series, point, far };
      });
    }
    if (best) show(best.series, best.point);
  });
  svg.addEventListener("pointerleave", clear);
  svg.addEventListener("blur", clear);
  svg.addEventListener("keydown", (event) => {
    const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key] || 0;
    const across = { ArrowDown: 1, ArrowUp: -1 }[event.key] || 0;
    if (event.key === "Escape") return clear();
    if (!along && !across) return;
    event.preventDefault();
    const shown = visible();
    if (!shown.length) return;
    const start = at && shown.includes(at.series) ? at : { series: shown[0], point: along ? -along : 0 };
    const series = shown[(shown.indexOf(start.series) + across + shown.length) % shown.length];
    const rows = chart.series[series].rows;
    let point = Math.min(Math.max(start.point + along, 0), rows.length - 1);
    while (!drawn(rows[point]) && rows[point + (along || 1)]) point += along || 1;
    if (drawn(rows[point])) show(series, point);
  });

  const update = () => {
    boxes.forEach((box, k) => groups[k].toggleAttribute("hidden", !box.checked));
    clear();
  };
  boxes.forEach((box) => box.addEventListener("change", update));
  for (const button of all("[data-show]", figure)) {
    button.addEventListener("click", () => {
      boxes.forEach((box) => { box.checked = button.dataset.show === "all"; });
      update();
    });
  }
  update();
}

/* The gallery: which map, how strong, with boxes or without. */
for (const figure of all("figure.picture")) {
  const maps = all(".heat", figure);
  const slider = figure.querySelector(".opacity");
  const blend = () => maps.forEach((map) => { map.style.opacity = slider.value / 100; });
  slider.addEventListener("input", blend);
  for (const choice of all(".layers input", figure)) {
    choice.addEventListener("change", () => maps.forEach((map) => { map.hidden = map.dataset.layer !== choice.value; }));
  }
  const boxes = figure.querySelector(".show-boxes");
  if (boxes) {
    boxes.addEventListener("change", () => figure.querySelector(".boxes").toggleAttribute("hidden", !boxes.checked));
  }
}
for (const slider of all(".opacity-all")) {
  slider.addEventListener("input", () => {
    for (const one of all(".opacity", slider.closest("section"))) {
      one.value = slider.value;
      one.dispatchEvent(new Event("input"));
    }
  });
}
