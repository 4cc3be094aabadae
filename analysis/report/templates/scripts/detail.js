// The panel with everything about one trial.

const detail = document.getElementById("detail");
let returnFocusTo = null;

function showDetail(index, from) {
  const trial = trials[index];
  const isNew = !detail.open;
  if (isNew) returnFocusTo = from;
  const close = element("button", { type: "button", class: "close", "aria-label": "Close", onclick: closeDetail }, "\u2715");
  const chosen = state.choice.chosen && state.choice.chosen !== trial ? state.choice.chosen : null;
  const curve = element("div");
  detail.replaceChildren(
    close,
    element("p", { class: "eyebrow" }, trial.kind),
    element("h2", { id: "detail-title" }, trial.id),
    element("div", { class: "tags" }, ...tagsOf(trial).map((text) => element("span", { class: "tag" }, text))),
    valuesTable(trial, chosen),
    element("h3", {}, "Learning curve"),
    trial.history.length > 0 ? element("figure", {}, curve, element("p", { class: "note" },
      `Solid: this trial.${chosen ? ` Dashed: ${short(chosen.id)}.` : ""}${teacher ? " Dotted: the teacher." : ""}`),
    dataTable("Learning curve", ["epoch", measures[MISS].column],
      () => trial.history.map(([epoch, rate]) => [String(epoch), shown(measures[MISS], rate)])))
      : element("p", { class: "note" }, "It has no recorded evaluation."),
    element("h3", {}, "Settings"),
    settings.length > 0 ? settingsTable(trial, chosen) : element("p", { class: "note" }, "All trials have the same settings."),
    element("h3", {}, "In MLflow"),
    element("p", { class: "mono" }, `run ${trial.run}`));
  if (isNew) detail.show();
  detail.scrollTop = 0;
  if (trial.history.length > 0) drawCurve(curve, trial, chosen);
  close.focus();
}

function closeDetail() {
  detail.close();
  returnFocusTo?.focus?.();
}

document.addEventListener("keydown", (event) => { if (event.key === "Escape" && detail.open) closeDetail(); });

function tagsOf(trial) {
  const tags = [trial.status];
  if (trial.rank !== null) tags.push(`rank ${trial.rank} on the front`);
  if (pairs.some((pair) => pair.knee === trial.index)) tags.push("knee");
  if (state.choice.chosen === trial) tags.push("choice");
  if (trial.isCounted && !fits(trial, state.limits)) tags.push("beyond your limits");
  if (trial.isUndistilled) tags.push("trained without distillation");
  if (trial.reason) tags.push(`not counted: ${trial.reason}`);
  if (trial.seconds !== null) tags.push(`${(trial.seconds / 60).toFixed(1)} minutes`);
  return tags;
}

function valuesTable(trial, chosen) {
  const columns = [["this", trial.values], ...(chosen ? [["choice", chosen.values]] : []), ...(teacher ? [["teacher", teacher.values]] : [])];
  return element("div", { class: "wide" }, element("table", {},
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, ""),
      ...columns.map(([name]) => element("th", { scope: "col", class: "number" }, name)), element("th", { scope: "col" }, "compared"))),
    element("tbody", {}, ...measures.map((measure, position) => element("tr", {},
      element("th", { scope: "row" }, measure.column),
      ...columns.map(([, values]) => element("td", { class: "number" }, shown(measure, values[position]))),
      element("td", {}, comparedWithTeacher(position, trial.values[position])))))));
}

function settingsTable(trial, chosen) {
  const row = (setting, position) => {
    const value = trial.settings[position];
    const differs = chosen !== null && chosen.settings[position] !== value;
    return element("tr", {}, element("th", { scope: "row" }, setting.name), element("td", { class: differs ? "changed" : null }, settingText(value)),
      chosen ? element("td", {}, settingText(chosen.settings[position])) : null);
  };
  return element("div", { class: "wide" }, element("table", {},
    chosen ? element("caption", {}, "Settings with a dot differ from those of the choice.") : null,
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "setting"), element("th", { scope: "col" }, "this"),
      chosen ? element("th", { scope: "col" }, "choice") : null)),
    element("tbody", {}, ...settings.map(row))));
}

function drawCurve(container, trial, chosen) {
  const shownTrials = [trial, ...(chosen && chosen.history.length > 0 ? [chosen] : [])];
  const { svg, box, x, y } = curveAxes(container.clientWidth, 220, shownTrials.map((each) => each.history),
    `Learning curve of ${short(trial.id)}`, "Miss rate over epochs; the table below has the numbers.", { role: "img" });
  if (shownTrials[1]) svg.append(svgElement("path", { class: "curve-other", d: curvePath(chosen.history, x, y) }));
  svg.append(svgElement("path", { class: "curve-this", d: curvePath(trial.history, x, y) }));
  teacherLine(svg, box, y);
  container.replaceChildren(svg);
}
