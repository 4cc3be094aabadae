// Which student to ship within limits. The same rule as analysis/choice.py, which a test compares on the same studies.

function fits(trial, limits) {
  for (const [position, highest] of limits) {
    const value = trial.values[position];
    if (value === null || value > highest) return false;
  }
  return true;
}

/** Those that no other dominates in the values at these positions; all of several equal ones. */
function nonDominated(candidates, positions) {
  const dominates = (a, b) => {
    let better = false;
    for (const position of positions) {
      if (a.values[position] > b.values[position]) return false;
      if (a.values[position] < b.values[position]) better = true;
    }
    return better;
  };
  return candidates.filter((one) => !candidates.some((other) => dominates(other, one)));
}

/** The knee of a front in a miss rate and a cost, or null: see knee_index in analysis/geometry.py. */
function kneeOf(front, miss, cost) {
  const distinct = new Set(front.map((trial) => `${trial.values[cost]} ${trial.values[miss]}`));
  if (distinct.size < 3) return null;
  const least = (position) => front.reduce((a, b) => (b.values[position] < a.values[position] ? b : a)).values;
  const [cheapest, best] = [least(cost), least(miss)];
  const distance = (trial) => {
    const x = Math.log10(trial.values[cost] / cheapest[cost]) / Math.log10(best[cost] / cheapest[cost]);
    const y = (trial.values[miss] - best[miss]) / (cheapest[miss] - best[miss]);
    return (1 - x - y) / Math.SQRT2;
  };
  const flat = 1e-9;
  const furthest = Math.max(...front.map(distance));
  if (!(furthest > flat)) return null;
  const equal = front.filter((trial) => distance(trial) >= furthest - flat);
  return equal.reduce((a, b) => (b.values[cost] < a.values[cost] ? b : a));
}

/** As hkd.findings.readiness. */
function readinessOf(missRate) {
  const ofTeacher = teacher ? teacher.values[0] : null;
  if (Math.max(missRate, ofTeacher ?? 0) >= rule.nearlyEveryone) return "not ready";
  if (ofTeacher === null || ofTeacher === undefined) return "no teacher";
  const gap = pointsAbove(missRate, ofTeacher);
  return gap <= rule.nearPoints ? "near" : gap <= rule.shippablePoints ? "with loss" : "not ready";
}

function byMissRate(a, b) {
  for (let position = 0; position < data.numObjectives; position += 1) {
    if (a.values[position] !== b.values[position]) return a.values[position] - b.values[position];
  }
  return a.id < b.id ? -1 : 1;
}

/** The choice within limits: {fitting, chosen, readiness, nearest}; chosen is null where no student fits. */
function choose(limits) {
  const fitting = students.filter((trial) => fits(trial, limits));
  if (fitting.length === 0) return { fitting, chosen: null, readiness: "none fits", nearest: nearestOf(limits) };
  const objectives = [...Array(data.numObjectives).keys()];
  const members = nonDominated(fitting, objectives).sort(byMissRate);
  let chosen = members[0];
  if (pairs.length > 0) {
    const { miss, cost } = pairs[0];
    const inPair = new Set(nonDominated(fitting, [miss, cost]));
    const knee = kneeOf(members.filter((trial) => inPair.has(trial)), miss, cost);
    if (knee !== null && readinessOf(knee.values[0]) !== "not ready") chosen = knee;
  }
  return { fitting, chosen, readiness: readinessOf(chosen.values[0]), nearest: null };
}

/** The student whose largest excess over a limit, as a ratio, is the smallest. */
function nearestOf(limits) {
  const excess = (trial) => Math.max(...[...limits].map(([position, highest]) => {
    const value = trial.values[position];
    return value === null ? Infinity : highest > 0 ? value / highest : Infinity;
  }));
  const ordered = [...students].sort((a, b) => excess(a) - excess(b) || byMissRate(a, b));
  return ordered[0] ?? null;
}
