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

/** How a student's value compares with the teacher's: "+6.5 points", "8.5x fewer", or "". */
function comparedWithTeacher(position, value) {
  const ofTeacher = teacher ? teacher.values[position] : null;
  if (ofTeacher === null || ofTeacher === undefined || value === null || value === undefined) return "";
  if (measures[position].isCost) {
    const ratio = ofTeacher / value;
    const [better, worse] = measures[position].isCounted ? ["fewer", "as many"] : ["faster", "as slow"];
    return ratio >= 1 ? `${ratio.toFixed(1)}x ${better}` : `${(1 / ratio).toFixed(1)}x ${worse}`;
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
  const ofTeacher = data.teacherOnTest === null ? "" : ` (${signed(pointsAbove(testMean, data.teacherOnTest))} points from the teacher)`;
  const test = testMean === null ? "" : `, ${on(testMean, testSpread)} on the test images${ofTeacher}`;
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
