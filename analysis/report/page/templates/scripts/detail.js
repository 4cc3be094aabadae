// The panel with everything about one trial.

const detail = document.getElementById("detail");
let returnFocusTo = null;

function showDetail(index, from) {
  const trial = trials[index];
  const isNew = !detail.open;
  if (isNew) returnFocusTo = from;
  const close = element(
    "button",
    { type: "button", class: "close", "aria-label": "Close", onclick: closeDetail },
    "\u2715",
  );
  const chosen = state.choice.chosen && state.choice.chosen !== trial ? state.choice.chosen : null;
  const [curve, fppi] = [element("div"), element("div")];
  detail.replaceChildren(
    close,
    element("p", { class: "eyebrow" }, trial.kind),
    element("h2", { id: "detail-title" }, trial.id),
    element("div", { class: "tags" }, ...tagsOf(trial).map((text) => element("span", { class: "tag" }, text))),
    valuesTable(trial, chosen),
    ...certaintyOf(trial).map((text) => element("p", { class: "note" }, `${capital(text)}.`)),
    ...curveSection("Learning curve", trial.history, "epoch", trial, chosen, curve),
    ...(trial.curve.length > 1
      ? curveSection("Miss rate against false positives per image", trial.curve, "FPPI", trial, chosen, fppi)
      : []),
    ...samplesSection(trial),
    element("h3", {}, "Settings"),
    settings.length > 0
      ? settingsTable(trial, chosen)
      : element("p", { class: "note" }, "All trials have the same settings."),
    element("h3", {}, "In MLflow"),
    element("p", { class: "mono" }, `run ${trial.run}`),
  );
  detail.classList.toggle("has-pictures", trial.samples.length > 0);
  if (isNew) detail.show();
  detail.scrollTop = 0;
  if (trial.history.length > 1) drawCurve(curve, trial, chosen);
  if (trial.curve.length > 1) drawFppi(fppi, trial, chosen);
  close.focus();
}

function curveSection(title, points, xName, trial, chosen, container) {
  if (points.length < 2) {
    const [first] = points;
    const text = first ? `One evaluation, at epoch ${first[0]}.` : "It has no recorded evaluation.";
    return [element("h3", {}, title), element("p", { class: "note" }, text)];
  }
  const lines = `Solid: this trial.${chosen ? ` Dashed: ${short(chosen.id)}.` : ""}${teacher ? " Dotted: the teacher." : ""}`;
  const rows = () => points.map(([x, rate]) => [String(Number(x.toPrecision(3))), shown(measures[MISS], rate)]);
  return [
    element("h3", {}, title),
    element(
      "figure",
      {},
      container,
      element("p", { class: "note" }, lines),
      dataTable(title, [xName, measures[MISS].column], rows),
    ),
  ];
}

/** Show the trial at a place of a plot. */
function selectTrial(place, svg) {
  if (place.index !== "teacher") showDetail(place.index, place.group ?? svg);
}

function closeDetail() {
  detail.close();
  returnFocusTo?.focus?.();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && detail.open) closeDetail();
});

function tagsOf(trial) {
  const tags = [trial.status];
  if (trial.rank !== null) tags.push(`rank ${trial.rank} on the front`);
  if (pairs.some((pair) => pair.knee === trial.index)) tags.push("knee");
  if (state.choice.chosen === trial) tags.push("choice");
  if (once.includes(trial)) tags.push("trained once: not compared with means");
  if (students.includes(trial) && !fits(trial, state.limits)) tags.push("beyond your budget");
  if (trial.isUndistilled) tags.push("trained without distillation");
  if (trial.reason) tags.push(`not counted: ${trial.reason}`);
  if (trial.seconds !== null) tags.push(`${(trial.seconds / 60).toFixed(1)} minutes`);
  return tags;
}

function valuesTable(trial, chosen) {
  const columns = [
    ["this", trial.values],
    ["to the teacher", null],
    ...(isOfMeans ? [["in the search", trial.search]] : []),
    ...(chosen ? [["choice", chosen.values]] : []),
    ...(teacher ? [["teacher", teacher.values]] : []),
  ];
  return element(
    "div",
    { class: "wide" },
    element(
      "table",
      {},
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", { scope: "col" }, ""),
          ...columns.map(([name]) => element("th", { scope: "col", class: "number" }, name)),
        ),
      ),
      element(
        "tbody",
        {},
        ...measures.map((measure, position) =>
          element(
            "tr",
            {},
            element("th", { scope: "row" }, measure.column),
            ...columns.map(([, values]) =>
              element(
                "td",
                { class: "number" },
                values === null ? comparedWithTeacher(position, trial.values[position]) : shown(measure, values[position]),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function settingsTable(trial, chosen) {
  const row = (setting, position) => {
    const value = trial.settings[position];
    const differs = chosen !== null && chosen.settings[position] !== value;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, setting.name),
      element("td", { class: differs ? "changed" : null }, settingText(value)),
      chosen ? element("td", {}, settingText(chosen.settings[position])) : null,
    );
  };
  return element(
    "div",
    { class: "wide" },
    element(
      "table",
      {},
      chosen ? element("caption", {}, element("span", {}, "Settings with a dot differ from those of the choice.")) : null,
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          element("th", { scope: "col" }, "setting"),
          element("th", { scope: "col" }, "this"),
          chosen ? element("th", { scope: "col" }, "choice") : null,
        ),
      ),
      element("tbody", {}, ...settings.map(row)),
    ),
  );
}

function drawCurve(container, trial, chosen) {
  const shownTrials = [trial, ...(chosen && chosen.history.length > 1 ? [chosen] : [])];
  const { svg, box, x, y } = curveAxes(
    container.clientWidth,
    220,
    shownTrials.map((each) => each.history),
    `Learning curve of ${short(trial.id)}`,
    "Miss rate over epochs; the table below has the numbers.",
    { role: "img" },
  );
  if (shownTrials[1]) svg.append(svgElement("path", { class: "curve-other", d: curvePath(chosen.history, x, y) }));
  svg.append(svgElement("path", { class: "curve-this", d: curvePath(trial.history, x, y) }));
  teacherLine(svg, box, y);
  container.replaceChildren(svg);
}

/** As in the literature, both axes are logarithmic; MR^-2 is the mean of the logarithms from 10^-2 to 10^0 FPPI. */
function drawFppi(container, trial, chosen) {
  const width = container.clientWidth;
  const box = { left: 42, right: width - 12, top: 30, bottom: 196 };
  const lines = [
    ["curve-teacher", teacher?.curve ?? []],
    ["curve-other", chosen?.curve ?? []],
    ["curve-this", trial.curve],
  ];
  const points = lines.flatMap(([, curve]) => curve);
  const rates = points.map(([, rate]) => 100 * Math.max(rate, 1e-3));
  const x = makeScale(
    points.map(([fppi]) => fppi),
    box.left,
    box.right,
    { log: true, margin: 0.02, least: 1 },
  );
  const y = makeScale(rates, box.bottom, box.top, { log: true, least: 0.5 });
  const title = `Miss rate against false positives per image of ${short(trial.id)}`;
  const svg = makeSvg(width, 240, title, "The table below has the numbers.", { role: "img" });
  axes(svg, box, x, y, { xLabel: "false positives per image (log scale)", yLabel: "miss rate, % (log scale)" });
  for (const [className, curve] of lines.filter(([, each]) => each.length > 0)) {
    const d = polyline(curve.map(([fppi, rate]) => [x(fppi), y(100 * Math.max(rate, 1e-3))]));
    svg.append(svgElement("path", { class: className, d }));
  }
  container.replaceChildren(svg);
}
