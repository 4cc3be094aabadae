// Put the page together.

document.documentElement.classList.add("js");
state.choice = choose(state.limits);
// First of all listeners: others show the choice.
onChange((what) => {
  if (what === "limits") state.choice = choose(state.limits);
});
answerView();
const limitsForm = document.getElementById("limits");
if (limitsForm) limitRows(limitsForm);
// Once all figures are there: one alone would have the whole width.
const drawFronts = pairs.map((pair) => frontPlot(document.getElementById("front-plots"), pair));
for (const draw of drawFronts) draw();
drawLegend(document.getElementById("legend"));
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
studentsControls(document.getElementById("students-table"), document.getElementById("table-controls"));
const drawn = [
  [
    "slices",
    (container) => settings.slice(0, data.numSearched).forEach((_, position) => slicePlot(container, position)),
  ],
  ["parallel", parallelPlot],
  ["curves", learningCurves],
  ["hypervolume", hypervolumePlots],
];
for (const [id, draw] of drawn) {
  const container = document.getElementById(id);
  if (container) whenNear(container, () => draw(container));
}
themeButton(document.getElementById("theme"));
for (const [name, highest] of Object.entries(data.limits))
  state.limits.set(
    measures.findIndex((each) => each.name === name),
    highest,
  );
limitsFromAddress();
changed("limits");
onChange((what) => {
  if (what === "limits") limitsToAddress();
});
window.addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details:not(.data-table)")) each.open = true;
});
if (data.reloadSeconds !== null) {
  const banner = document.getElementById("unfinished");
  banner?.append(` This page reloads every ${data.reloadSeconds} seconds, but not while a trial's details are open.`);
  setInterval(() => {
    if (!detail.open) location.reload();
  }, 1000 * data.reloadSeconds);
}
// For programs and tests.
globalThis.hkdReport = {
  choose: (limits) =>
    choose(new Map(limits.map(([name, highest]) => [measures.findIndex((each) => each.name === name), highest]))),
};

/** Limits are part of the page's address, so that a link to the page keeps them. */
function limitsToAddress() {
  const parts = [...state.limits].map(
    ([position, highest]) => `${measures[position].name}=${Number(highest.toPrecision(6))}`,
  );
  try {
    history.replaceState(null, "", parts.length > 0 ? `#${parts.join("&")}` : location.pathname + location.search);
  } catch {
    // Some browsers forbid it for files; the page works without.
  }
}

function limitsFromAddress() {
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const position = measures.findIndex((measure) => measure.name === name);
    const highest = Number(text);
    if (position >= 0 && text !== "" && Number.isFinite(highest) && highest > 0) state.limits.set(position, highest);
  }
}
