// The page's data, what of it is selected, and small helpers. Texts are set as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const { measures, trials, pairs, settings, teacher, rule } = data;
trials.forEach((trial, index) => {
  trial.index = index;
});
const students = data.order.map((index) => trials[index]); // by miss rate: those that can be chosen
// Where miss rates are means over other seeds, students that were trained once have none.
const once = data.once.map((index) => trials[index]);
const finished = [...students, ...once];
const isOfMeans = data.basis !== "search";

/** The values in the search, by which all trials can be compared with each other. */
function searchValues(each) {
  return each.search ?? each.values;
}

const MISS = 0; // position of the first miss rate of the objectives

const state = {
  limits: new Map(), // index of a measure -> highest value, in the metric's own unit
  brushes: new Map(), // key of an axis of the parallel coordinates -> [lowest, highest] position in [0, 1]
  choice: null, // of choose()
  active: null, // index of the trial under the pointer or the keyboard's focus, or "teacher"
};
const listeners = [];

function onChange(listener) {
  listeners.push(listener);
}
function changed(what) {
  for (const listener of listeners) listener(what);
}

function setActive(index) {
  if (state.active === index) return;
  state.active = index;
  changed("active");
}

function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svgElement(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function inUnit(measure, value) {
  return measure.isCost ? value / measure.unit : 100 * value;
}
function fromUnit(measure, number) {
  return measure.isCost ? number * measure.unit : number / 100;
}

/** As Objective.shown: miss rates to 0.1 %, costs to three digits. */
function shown(measure, value) {
  if (value === null || value === undefined) return "-";
  const number = inUnit(measure, value);
  if (!measure.isCost) return number.toFixed(1);
  return number >= 100 ? number.toFixed(0) : number.toPrecision(3);
}

function withUnit(measure, value) {
  return `${shown(measure, value)} ${measure.symbol}`;
}

function settingText(value) {
  if (value === null || value === undefined) return "-";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  if (typeof value === "boolean") return value ? "True" : "False";
  return String(value);
}

/** A long name with its middle left out, for plots and tips; the detail has all of it. */
function short(text, longest = 40) {
  if (text.length <= longest) return text;
  const half = Math.floor((longest - 1) / 2);
  return `${text.slice(0, half)}\u2026${text.slice(-half)}`;
}

function pointsAbove(missRate, other) {
  return Number((100 * (missRate - other)).toFixed(1));
}

function signed(number) {
  return `${number < 0 ? "" : "+"}${number.toFixed(1)}`;
}

/** How a student's value compares with the teacher's: "+6.5 points", "8.5x fewer", or "". */
function comparedWithTeacher(position, value) {
  const ofTeacher = teacher ? teacher.values[position] : null;
  if (ofTeacher === null || ofTeacher === undefined || value === null || value === undefined) return "";
  if (measures[position].isCost) {
    const ratio = ofTeacher / value;
    return ratio >= 1 ? `${ratio.toFixed(1)}x fewer` : `${(1 / ratio).toFixed(1)}x as many`;
  }
  return `${signed(pointsAbove(value, ofTeacher))} points`;
}

function described(trial) {
  const place = trial.rank === null ? trial.kind : `${trial.kind}, rank ${trial.rank} on the front`;
  return `${short(trial.id)}, ${place}: ${valuesText(trial.values)}${isOfMeans ? `, ${searchText(trial)}` : ""}`;
}

/** What a trial's first miss rate was in the search, where the page compares means over other seeds. */
function searchText(trial) {
  const own = `in the search ${withUnit(measures[MISS], trial.search[MISS])}`;
  return once.includes(trial) ? `trained once: ${own}` : own;
}

function valuesText(values) {
  return measures
    .map((measure, position) =>
      values[position] === null ? null : `${measure.noun} ${withUnit(measure, values[position])}`,
    )
    .filter((text) => text !== null)
    .join(", ");
}

/** The rows of a plot's data, as a table that opens below it. Built when it is opened. */
function dataTable(caption, headings, rows) {
  const details = element("details", { class: "data-table" }, element("summary", {}, "Data as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
    const body = rows().map(([first, ...cells]) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, element("span", { class: "name" }, first)),
        ...cells.map((text) => element("td", { class: "number" }, text)),
      ),
    );
    const table = element(
      "table",
      {},
      element("caption", {}, caption),
      element("thead", {}, head),
      element("tbody", {}, ...body),
    );
    details.append(element("div", { class: "wide tall", tabindex: 0, role: "region", "aria-label": caption }, table));
  });
  return details;
}

const tip = document.getElementById("tip");

/** Show a tip beside a place of the window. */
function showTip(x, y, title, lines) {
  tip.replaceChildren(
    element("b", {}, title),
    ...lines.map((line) => element("span", { class: "tip-line" }, line, element("br"))),
  );
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const left = x + 16 + width > room ? Math.max(4, x - 16 - width) : x + 16;
  const top = y - height - 12 < 0 ? y + 16 : y - height - 12;
  tip.style.left = `${left + window.scrollX}px`;
  tip.style.top = `${top + window.scrollY}px`;
}

function hideTip() {
  tip.hidden = true;
}

/** What resamples of the validation images and trainings with other seeds show of a trial. */
function certaintyOf(trial) {
  const texts = [];
  if (trial.interval !== null) {
    const [low, high] = trial.interval.map((rate) => shown(measures[MISS], rate));
    const of = isOfMeans ? " in the search" : "";
    texts.push(`${Math.round(100 * data.confidence)} % interval${of}: ${low} to ${high} %`);
    if (trial.onFront !== null) texts.push(`on the front in ${Math.round(100 * trial.onFront)} % of the resamples`);
  }
  if (trial.again !== null) texts.push(againText(trial.again));
  return texts;
}

/** Mean and standard deviation of the trainings with other seeds. */
function againText({ seeds, mean, spread, testMean, testSpread }) {
  const on = (rate, deviation) =>
    shown(measures[MISS], rate) + (deviation === null ? " %" : ` \u00b1 ${shown(measures[MISS], deviation)} %`);
  const test = testMean === null ? "" : `, ${on(testMean, testSpread)} on the test images`;
  return `trained again with ${seeds} other ${seeds === 1 ? "seed" : "seeds"}: ${on(mean, spread)}${test}`;
}

function tipOf(index) {
  if (index === "teacher") return ["teacher", measures.map((m, i) => `${m.noun}: ${withUnit(m, teacher.values[i])}`)];
  const trial = trials[index];
  const lines = [...measures.keys()]
    .filter((position) => trial.values[position] !== null)
    .map((position) => {
      const compared = comparedWithTeacher(position, trial.values[position]);
      const value = withUnit(measures[position], trial.values[position]);
      return `${measures[position].noun}: ${value}${compared ? ` (${compared})` : ""}`;
    });
  if (isOfMeans) lines.push(capital(searchText(trial)));
  const place = trial.rank === null ? trial.kind : `${trial.kind}, rank ${trial.rank} on the front`;
  return [short(trial.id), [place, ...lines, ...certaintyOf(trial)]];
}
