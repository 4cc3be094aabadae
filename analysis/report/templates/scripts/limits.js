// The limits, and the answer within them.

const LAST_STEP = 200; // of the sliders; the last step is no limit

/** A slider and a field for each cost and each miss rate of the objectives. */
function limitRows(form) {
  const container = form.querySelector("#limit-rows");
  const positions = [...measures.keys()].filter((position) => measures[position].isCost || position < data.numObjectives);
  positions.sort((a, b) => Number(measures[b].isCost) - Number(measures[a].isCost) || a - b);
  const rows = positions.map((position) => limitRow(container, position));
  const update = () => rows.forEach((row) => row());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state.limits.clear();
    changed("limits");
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  onChange((what) => { if (what === "limits") update(); });
  update();
}

function limitRow(container, position) {
  const measure = measures[position];
  const values = students.map((trial) => trial.values[position]).filter((value) => value !== null).map((value) => inUnit(measure, value));
  if (values.length === 0) return () => {};
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const id = `limit-${position}`;
  const slider = element("input", { type: "range", id, min: 0, max: LAST_STEP, step: 1, value: LAST_STEP });
  const field = element("input", { type: "text", inputmode: "decimal", "aria-label": `highest ${measure.noun} in ${measure.symbol}`, placeholder: "no limit" });
  container.append(element("div", { class: "limit" }, element("label", { for: id }, `at most: ${measure.noun}`),
    element("div", { class: "limit-inputs" }, slider, field, element("span", {}, measure.symbol))));

  // Rounded up, so that the lowest step keeps the lowest student.
  const ofStep = (step) => roundedUp(measure.isCost ? low * (high / low) ** (step / LAST_STEP) : low + (high - low) * (step / LAST_STEP));
  const stepOf = (number) => {
    const share = high === low ? 1 : measure.isCost ? Math.log(number / low) / Math.log(high / low) : (number - low) / (high - low);
    return Math.round(Math.min(Math.max(share, 0), 1) * (LAST_STEP - 1));
  };
  const set = (number) => {
    if (number === null) state.limits.delete(position);
    else state.limits.set(position, fromUnit(measure, number));
    changed("limits");
  };
  slider.addEventListener("input", () => set(Number(slider.value) >= LAST_STEP ? null : ofStep(Number(slider.value))));
  field.addEventListener("input", () => {
    const text = field.value.trim().replace(",", ".");
    const number = Number(text);
    const isValid = text === "" || (number > 0 && Number.isFinite(number));
    field.setAttribute("aria-invalid", String(!isValid));
    if (isValid) set(text === "" ? null : number);
  });
  return () => {
    const limit = state.limits.get(position);
    const number = limit === undefined ? null : Number(inUnit(measure, limit).toPrecision(6));
    slider.value = number === null ? LAST_STEP : stepOf(number);
    slider.setAttribute("aria-valuetext", number === null ? "no limit" : `at most ${number} ${measure.symbol}`);
    // What is being typed stays.
    if (document.activeElement !== field) {
      field.value = number === null ? "" : String(number);
      field.setAttribute("aria-invalid", "false");
    }
  };
}

function roundedUp(number) {
  const unit = 10 ** (Math.floor(Math.log10(Math.abs(number) || 1)) - 2);
  return Number((Math.ceil(number / unit - 1e-9) * unit).toPrecision(6));
}

/** Show the choice within the limits; without limits, the report's own words. */
function answerView() {
  const answer = document.getElementById("answer");
  const parts = ["verdict", "tiles", "explanation"].map((id) => document.getElementById(id));
  const original = parts.map((part) => [...part.childNodes]);
  const [scope, count] = [document.getElementById("answer-scope"), document.getElementById("limits-count")];
  const [scopeText, readiness] = [scope.textContent, answer.dataset.readiness];
  onChange((what) => {
    if (what !== "limits") return;
    const { choice } = state;
    if (count) count.textContent = state.limits.size === 0 ? `${students.length} students, no limits.` : `${choice.fitting.length} of ${students.length} students meet them.`;
    if (state.limits.size === 0) {
      parts.forEach((part, index) => part.replaceChildren(...original[index]));
      scope.textContent = scopeText;
      answer.dataset.readiness = readiness;
      return;
    }
    const [verdict, tiles, explanation] = parts;
    scope.textContent = "Within your limits";
    answer.dataset.readiness = choice.readiness;
    verdict.replaceChildren(...verdictOf(choice));
    const trial = choice.chosen ?? choice.nearest;
    tiles.replaceChildren(...measures.slice(0, data.numObjectives).map((measure, position) => tileOf(measure, position, trial)));
    explanation.replaceChildren(...explanationOf(choice).map((text) => element("p", {}, text)));
  });
}

function isUndetermined(trial) { return trial.values[0] <= rule.lowestMeasured; }

function verdictOf({ chosen, nearest: nearestTrial, readiness }) {
  if (chosen === null) return ["No student meets your limits; nearest: ", element("span", { class: "name" }, nearestTrial.id)];
  const key = readiness !== "not ready" && isUndetermined(chosen) ? "undetermined" : readiness;
  if (key === "not ready") return ["No student within your limits is ready to ship"];
  const [before, after] = rule.verdicts[key].split("{trial}");
  return [before, element("span", { class: "name" }, chosen.id), after];
}

function tileOf(measure, position, trial) {
  const value = trial.values[position];
  return element("p", { class: "tile" }, element("span", { class: "tile-label" }, measure.noun),
    element("span", { class: "tile-value" }, shown(measure, value), element("span", { class: "unit" }, ` ${measure.symbol}`)),
    element("span", { class: "tile-note" }, comparedWithTeacher(position, value)));
}

function explanationOf({ fitting, chosen, readiness, nearest: nearestTrial }) {
  const listed = [...state.limits].map(([position, highest]) => `${measures[position].noun} at most ${withUnit(measures[position], highest)}`).join(", ");
  if (chosen === null) {
    const excess = [...state.limits].filter(([position, highest]) => nearestTrial.values[position] > highest)
      .map(([position, highest]) => `${measures[position].noun} ${withUnit(measures[position], nearestTrial.values[position])}, ${
        (nearestTrial.values[position] / highest).toFixed(2)}x the limit`);
    return [`No student has ${listed}. The nearest, ${short(nearestTrial.id)}, has ${excess.join("; ")}.`];
  }
  const texts = [`Of the ${fitting.length} students with ${listed}: ${described(chosen)}.`];
  if (readiness === "not ready") texts.push(`The best of them, ${short(chosen.id)}, is too far from its teacher. Relax the limits, or train longer.`);
  const without = trials[data.chosen];
  texts.push(without === chosen ? "It is the choice without limits, too." : `Without limits, the choice is ${short(without.id)}.`);
  return texts;
}
