// Which student to ship within limits. The rule of recommend() in analysis/choice.py; a test compares both.

/** A limit's value over the limit, above 1 where it is exceeded. */
function excessOf(trial, [position, highest]) {
  return (trial.values[position] ?? Infinity) / highest;
}

function fits(trial, limits) {
  return [...limits].every((limit) => !(excessOf(trial, limit) > 1));
}

/** As hkd.findings.readiness. */
function readinessOf(missRate) {
  const ofTeacher = teacher ? teacher.values[0] : null;
  if (Math.max(missRate, ofTeacher ?? 0) >= rule.nearlyEveryone) return "not ready";
  if (ofTeacher === null) return "no teacher";
  const gap = pointsAbove(missRate, ofTeacher);
  return gap <= rule.nearPoints ? "near" : gap <= rule.shippablePoints ? "with loss" : "not ready";
}

function isUndetermined(trial) {
  return trial.values[0] <= rule.lowestMeasured;
}

/** The first of the least, by numbers that are compared one after the other. */
function least(candidates, numbers) {
  return candidates.reduce((best, trial) => {
    const [a, b] = [numbers(trial), numbers(best)];
    const at = a.findIndex((number, place) => number !== b[place]);
    return at >= 0 && a[at] < b[at] ? trial : best;
  });
}

/** {fitting, chosen, verdict, larger}: larger is the student that cannot be distinguished from the chosen one, or null. */
function choose(limits) {
  const fitting = students.filter((trial) => fits(trial, limits));
  if (fitting.length === 0) return { fitting, chosen: nearestOf(limits), verdict: "over budget", larger: null };
  const best = bestOf(fitting, limits);
  const readiness = readinessOf(best.values[0]);
  if (readiness === "not ready") {
    const isBest = students.every((trial) => readinessOf(trial.values[0]) === "not ready");
    return {
      fitting,
      chosen: best,
      verdict: isBest || limits.size === 0 ? "not ready" : "not ready within limits",
      larger: null,
    };
  }
  const smaller = isUndetermined(best) ? null : smallerOf(best, fitting, readiness);
  const chosen = smaller ?? best;
  return {
    fitting,
    chosen,
    verdict: isUndetermined(chosen) ? "undetermined" : readiness,
    larger: smaller ? best : null,
  };
}

function bestOf(fitting, limits) {
  const costs = [...Array(data.numObjectives).keys()].filter((position) => measures[position].isCost);
  const byMissRate = (trial) => [trial.values[0], ...costs.map((position) => trial.values[position])];
  const limited = [...limits.keys()];
  if (limited.some((position) => measures[position].isCost)) return least(fitting, byMissRate);
  if (limited.length > 0 && costs.length > 0)
    return least(fitting, (trial) => [trial.values[costs[0]], ...byMissRate(trial)]);
  const knee = pairs.length > 0 && pairs[0].knee !== null ? trials[pairs[0].knee] : null;
  if (knee && readinessOf(knee.values[0]) !== "not ready") return knee;
  return limited.length === 0 ? fitting.find((trial) => trial.rank !== null) : fitting[0];
}

/** The cheapest member of the front that cannot be distinguished from the best and is as ready, or null. */
function smallerOf(best, fitting, readiness) {
  const cost = measures.findIndex((measure) => measure.isCost);
  const alike = (data.alike[best.index] ?? [])
    .map((index) => trials[index])
    .filter((trial) => fitting.includes(trial) && readinessOf(trial.values[0]) === readiness);
  return alike.length > 0 ? least(alike, (trial) => [trial.values[cost], trial.values[0]]) : null;
}

/** The student whose largest excess over a limit, as a ratio, is the smallest. */
function nearestOf(limits) {
  return least(students, (trial) => {
    const ratios = [...limits].map((limit) => excessOf(trial, limit)).filter((ratio) => ratio > 1);
    return [Math.max(...ratios), ratios.reduce((sum, ratio) => sum + ratio, 0), trial.values[0]];
  });
}
