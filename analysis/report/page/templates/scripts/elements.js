// Elements, numbers as text, tables of data, and the tip beside a place.

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

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
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
      element("caption", {}, element("span", {}, caption)),
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
