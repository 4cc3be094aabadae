// The limits, and the answer within them.

const LAST_STEP = 200; // of the sliders; the last step is no limit

/** A slider and a field for each cost and each miss rate of the objectives. */
function limitRows(form) {
  const container = form.querySelector("#limit-rows");
  const positions = [...measures.keys()].filter((position) => measures[position].isCost || position === MISS);
  positions.sort((a, b) => Number(measures[b].isCost) - Number(measures[a].isCost) || a - b);
  const rows = positions.map((position) => limitRow(container, position));
  const update = () => rows.forEach((row) => row());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    state.limits.clear();
    changed("limits");
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  onChange((what) => {
    if (what === "limits") update();
  });
  update();
}

function limitRow(container, position) {
  const measure = measures[position];
  const values = students
    .map((trial) => trial.values[position])
    .filter((value) => value !== null)
    .map((value) => inUnit(measure, value));
  if (values.length === 0) return () => {};
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const id = `limit-${position}`;
  const slider = element("input", { type: "range", id, min: 0, max: LAST_STEP, step: 1, value: LAST_STEP });
  const field = element("input", {
    type: "text",
    inputmode: "decimal",
    "aria-label": `highest ${measure.noun} in ${measure.symbol}`,
    placeholder: "no limit",
  });
  container.append(
    element(
      "div",
      { class: "limit" },
      element("label", { for: id }, `at most: ${measure.noun}`),
      element("div", { class: "limit-inputs" }, slider, field, element("span", {}, measure.symbol)),
    ),
  );

  // Rounded up, so that the lowest step keeps the lowest student.
  const ofStep = (step) =>
    roundedUp(measure.isCost ? low * (high / low) ** (step / LAST_STEP) : low + (high - low) * (step / LAST_STEP));
  const stepOf = (number) => {
    const share =
      high === low ? 1 : measure.isCost ? Math.log(number / low) / Math.log(high / low) : (number - low) / (high - low);
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
  const [scopeText, verdictKey] = [scope.textContent, answer.dataset.verdict];
  const given = Object.entries(data.limits).map(([name, highest]) => [
    measures.findIndex((each) => each.name === name),
    highest,
  ]);
  const areGiven = () =>
    state.limits.size === given.length && given.every(([position, highest]) => state.limits.get(position) === highest);
  onChange((what) => {
    if (what !== "limits") return;
    const { choice } = state;
    if (count)
      count.textContent =
        state.limits.size === 0
          ? `${students.length} ${isOfMeans ? "confirmed " : ""}${students.length === 1 ? "student" : "students"}, no budget.`
          : `${choice.fitting.length} of ${students.length} students meet the budget.`;
    if (areGiven()) {
      parts.forEach((part, index) => part.replaceChildren(...original[index]));
      scope.textContent = scopeText;
      answer.dataset.verdict = verdictKey;
      return;
    }
    const [verdict, tiles, explanation] = parts;
    scope.textContent = state.limits.size === 0 ? "Which student to ship" : "Within your budget";
    answer.dataset.verdict = choice.verdict;
    verdict.replaceChildren(...verdictOf(choice));
    tiles.replaceChildren(
      ...measures.slice(0, data.numObjectives).map((measure, position) => tileOf(measure, position, choice.chosen)),
    );
    explanation.replaceChildren(...explanationOf(choice).map((text) => element("p", {}, text)));
  });
}

function verdictOf({ chosen, verdict }) {
  const [before, after] = rule.verdicts[verdict].split("{trial}");
  return after === undefined ? [before] : [before, element("span", { class: "name" }, chosen.id), after];
}

function tileOf(measure, position, trial) {
  const value = trial.values[position];
  return element(
    "p",
    { class: "tile" },
    element("span", { class: "tile-label" }, measure.noun),
    element(
      "span",
      { class: "tile-value" },
      shown(measure, value),
      element("span", { class: "unit" }, ` ${measure.symbol}`),
    ),
    element("span", { class: "tile-note" }, tileNote(position, value)),
  );
}

function tileNote(position, value) {
  const compared = comparedWithTeacher(position, value);
  if (compared === "") return "";
  const than = !measures[position].isCost ? "from" : compared.endsWith("many") ? "as" : "than";
  return `${compared} ${than} the teacher`;
}

function explanationOf({ fitting, chosen, verdict, larger }) {
  const limits = [...state.limits];
  const listed = limits
    .map(([position, highest]) => `${measures[position].noun} at most ${withUnit(measures[position], highest)}`)
    .join(", ");
  if (verdict === "over budget") {
    const excess = limits
      .filter((limit) => excessOf(chosen, limit) > 1)
      .map((limit) => excessText(chosen, limit))
      .join("; ");
    return [`No ${isOfMeans ? "confirmed " : ""}student has ${listed}. The nearest, ${short(chosen.id)}, has ${excess}.`];
  }
  const best = larger ?? chosen;
  const texts = [];
  if (limits.length > 0) {
    const limitsCost = limits.some(([position]) => measures[position].isCost);
    const why = limitsCost ? "has the lowest miss rate" : "is the cheapest";
    texts.push(
      `Of the ${fitting.length} students with ${listed}, ${short(best.id)} ${why}: ${valuesText(best.values)}.`,
    );
  } else texts.push(`Without a budget: ${described(best)}.`);
  if (larger) {
    texts.push(
      `It cannot be distinguished from ${short(chosen.id)} on ${data.numImages} validation images, ` +
        `so the smaller is the choice: ${valuesText(chosen.values)}.`,
    );
  }
  const certainty = certaintyOf(chosen);
  if (certainty.length > 0) texts.push(`${short(chosen.id)}: ${certainty.join("; ")}.`);
  if (verdict.startsWith("not ready")) texts.push("That is too far from the teacher. Allow more, or train longer.");
  const without = choose(new Map()).chosen;
  if (limits.length > 0) {
    const isSame = without === chosen;
    texts.push(
      isSame ? "It is the choice without a budget, too." : `Without a budget, the choice is ${short(without.id)}.`,
    );
  }
  return texts;
}

function excessText(trial, limit) {
  const measure = measures[limit[0]];
  const value = trial.values[limit[0]];
  if (value === null) return `no measured ${measure.noun}`;
  return `${measure.noun} ${withUnit(measure, value)}, ${excessOf(trial, limit).toFixed(2)}x the limit`;
}
