// The miss rate against a cost: all students, the front, baselines, the teacher, the knee and the limits.

/** Class, shape and radius of a student's or, for null, the teacher's mark. */
function markOf(trial, isOnFront) {
  if (trial === null) return ["is-teacher", "star", 7];
  if (once.includes(trial)) return ["is-once", "cross", 3.5];
  if (trial.isBaseline)
    return [`is-${trial.isUndistilled ? "undistilled" : "baseline"} hue-${trial.mark.hue}`, trial.mark.shape, 6.5];
  return isOnFront ? ["is-front", "circle", 6.5] : ["", "circle", students.length > 300 ? 3 : 4];
}

function drawMark(trial, isOnFront) {
  const [className, shape, radius] = markOf(trial, isOnFront);
  // On a front with a measured cost, such as the latency, members may have no rank.
  const rank = isOnFront ? (trial?.rank ?? null) : null;
  return svgElement(
    "g",
    { class: `point ${className}` },
    svgElement("path", { class: "halo", d: SHAPES.circle(radius + 8) }),
    svgElement("path", { class: "ring", d: SHAPES.circle(radius + 4.5) }),
    svgElement("path", { class: "mark", d: SHAPES[shape](radius) }),
    rank === null ? null : svgElement("text", { class: "rank", "text-anchor": "middle" }, String(rank)),
  );
}

/** Append a figure, and return what draws it. */
function frontPlot(container, pair) {
  const [miss, cost] = [measures[pair.miss], measures[pair.cost]];
  const title = `${miss.noun} against ${cost.noun}`;
  const onFront = new Set(pair.front);
  // A latency may be measured of some only.
  const shownStudents = finished.filter((trial) => trial.values[pair.cost] !== null);
  const rateOf = (each) => (once.includes(each) ? each.search : each.values)[pair.miss];
  const hasAgain = !isOfMeans && pair.miss === MISS && shownStudents.some((trial) => trial.again !== null);
  const holder = element("div");
  const figure = element(
    "figure",
    {},
    element("figcaption", {}, capital(title)),
    holder,
    dataTable(capital(title), ["trial", "kind", `${miss.column}`, cost.column, "on this front", ...(hasAgain ? ["with other seeds %"] : isOfMeans ? ["in the search %"] : [])], () => [
      ...shownStudents.map((trial) => [
        trial.id,
        trial.kind,
        shown(miss, trial.values[pair.miss]),
        shown(cost, trial.values[pair.cost]),
        onFront.has(trial.index) ? "yes" : "no",
        ...(hasAgain ? [shown(miss, trial.again?.mean)] : isOfMeans ? [shown(miss, trial.search[pair.miss])] : []),
      ]),
      ...pair.int8.map((file) => [
        trials[file.trial].id,
        `INT8 file ${file.file}`,
        shown(miss, file.missRate),
        shown(cost, file.cost),
        "-",
        ...(hasAgain ? ["-"] : []),
      ]),
    ]),
  );
  container.append(figure);
  const teacherPoint = teacher && teacher.values[pair.cost] > 0 && teacher.values[pair.miss] !== null ? teacher : null;
  let plot = null;
  onChange(() => update());
  return () =>
    drawToWidth(holder, (width) => {
      plot = draw(width);
      holder.replaceChildren(plot.svg);
      update();
    });

  function draw(width) {
    const height = Math.round(Math.min(460, Math.max(300, width * 0.72)));
    const box = { left: 42, right: width - 14, top: 30, bottom: height - 48 };
    const points = [...shownStudents, ...(teacherPoint ? [teacherPoint] : [])];
    const xs = [...points.map((each) => each.values[pair.cost]), ...pair.int8.map((file) => file.cost)].map((value) =>
      inUnit(cost, value),
    );
    const withInterval =
      pair.miss === MISS && !isOfMeans
        ? shownStudents.filter((trial) => trial.interval && markOf(trial, onFront.has(trial.index))[0] !== "")
        : [];
    const again = hasAgain ? shownStudents.filter((trial) => trial.again !== null) : [];
    // Of means, the bar is their standard deviation.
    const bars = new Map(withInterval.map((trial) => [trial, trial.interval]));
    for (const trial of isOfMeans && pair.miss === MISS ? students : []) {
      const spread = trial.again?.spread;
      if (spread && trial.values[pair.cost] !== null) bars.set(trial, [rateOf(trial) - spread, rateOf(trial) + spread]);
    }
    const ys = [
      ...points.map(rateOf),
      ...[...bars.values()].flat(),
      ...again.flatMap((trial) => againEnds(trial)),
      ...pair.int8.map((file) => file.missRate),
    ].map((rate) => inUnit(miss, rate));
    const x = makeScale(xs, box.left, box.right, { log: true, least: Math.log10(1.5) });
    const y = makeScale(ys, box.bottom, box.top, { least: 5, lowest: -2, highest: 102 });
    const best = pair.front.map((index) => trials[index]);
    const description =
      `${shownStudents.length} students${isOfMeans ? `, ${once.length} of them trained once` : ""}, ${pair.front.length} of them on the front, from ` +
      `${valueRange(best, pair)}${pair.int8.length > 0 ? `; and ${pair.int8.length} INT8 files` : ""}. Arrow keys move from point to point, Enter shows a trial's details.`;
    const svg = makeSvg(width, height, title, description);
    const hatch = `hatch-${pair.key}`;
    svg.append(
      svgElement(
        "defs",
        {},
        svgElement(
          "pattern",
          { id: hatch, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
          svgElement("line", { y2: 8, class: "grid-line", "stroke-width": 5 }),
        ),
      ),
    );
    axes(svg, box, x, y, {
      xLabel: width < 420 ? `${cost.noun}, ${cost.symbol} (log scale)` : cost.axis,
      yLabel: `${miss.noun}, % (lower is better)`,
      xCount: width < 420 ? 4 : 7,
    });
    const limits = svgElement("g", { "aria-hidden": true });
    svg.append(limits);
    const line = [];
    for (const trial of best) {
      const at = [x(inUnit(cost, trial.values[pair.cost])), y(inUnit(miss, trial.values[pair.miss]))];
      if (line.length > 0) line.push([at[0], line.at(-1)[1]]);
      line.push(at);
    }
    if (line.length > 0)
      svg.append(svgElement("path", { class: "front-line", d: polyline([...line, [box.right, line.at(-1)[1]]]) }));
    drawAgain(svg, again, (trial) => x(inUnit(cost, trial.values[pair.cost])), (rate) => y(inUnit(miss, rate)), box.right);
    for (const file of pair.int8) {
      const at = [x(inUnit(cost, file.cost)), y(inUnit(miss, file.missRate))].map((value) => value.toFixed(1));
      const text = `${short(trials[file.trial].id)}, INT8 file ${short(file.file)}: ${withUnit(miss, file.missRate)}, ${withUnit(cost, file.cost)}`;
      svg.append(int8Mark({ transform: `translate(${at})`, role: "img", "aria-label": text }, svgElement("title", {}, text)));
    }
    const places = points.map((each) => ({
      x: x(inUnit(cost, each.values[pair.cost])),
      y: y(inUnit(miss, rateOf(each))),
      index: each.index ?? "teacher",
    }));
    // Front, baselines and teacher last, so that they cover the others.
    const order = [...places].sort((a, b) => importance(a.index) - importance(b.index));
    // Ranks stay off points, the rings of choice and knee, and bars.
    const taken = places.map((place) => {
      const radius = place.index === data.chosen || place.index === pair.knee ? 15 : 6;
      return { x: place.x - radius, y: place.y - radius, w: 2 * radius, h: 2 * radius };
    });
    for (const [trial, ends] of bars) {
      const [low, high] = ends.map((rate) => y(inUnit(miss, rate)));
      taken.push({ x: x(inUnit(cost, trial.values[pair.cost])) - 4, y: high, w: 8, h: low - high });
    }
    for (const place of order) {
      const trial = place.index === "teacher" ? null : trials[place.index];
      const group = drawMark(trial, onFront.has(place.index));
      group.setAttribute("transform", `translate(${place.x.toFixed(1)},${place.y.toFixed(1)})`);
      group.setAttribute("role", trial ? "button" : "img");
      group.setAttribute("tabindex", "-1");
      group.setAttribute("aria-label", trial ? described(trial) : `teacher: ${valuesText(teacher.values)}`);
      group.setAttribute("data-index", place.index);
      if (place.index === pair.knee) group.prepend(svgElement("path", { class: "knee-ring", d: SHAPES.circle(15) }));
      if (trial && bars.has(trial)) {
        const [low, high] = bars.get(trial).map((rate) => (y(inUnit(miss, rate)) - place.y).toFixed(1));
        group.prepend(svgElement("path", { class: "interval", d: `M-4,${high}h8m-4,0V${low}m-4,0h8` }));
      }
      const text = group.querySelector(".rank");
      if (text) placeLabel(text, place, taken, box);
      place.group = group;
      svg.append(group);
    }
    connectPoints(svg, places, { start: places.find((place) => place.index === data.chosen) });
    return { svg, box, x, y, limits, places, hatch };
  }

  function importance(index) {
    if (index === "teacher") return 3;
    return onFront.has(index) ? 2 : trials[index].isBaseline ? 1 : 0;
  }

  function update() {
    if (!plot) return;
    const { box, x, y } = plot;
    for (const { group, index } of plot.places) {
      const isStudent = index !== "teacher";
      group.classList.toggle("is-active", state.active === index);
      group.classList.toggle("is-chosen", isStudent && state.choice.chosen?.index === index);
      group.classList.toggle("is-faded", isStudent && !isKept(trials[index]));
    }
    plot.limits.replaceChildren();
    const [highestCost, highestMiss] = [state.limits.get(pair.cost), state.limits.get(pair.miss)];
    if (highestCost !== undefined) {
      const at = Math.min(Math.max(x(inUnit(cost, highestCost)), box.left), box.right);
      plot.limits.append(
        svgElement("rect", {
          x: at,
          y: box.top,
          width: box.right - at,
          height: box.bottom - box.top,
          fill: `url(#${plot.hatch})`,
        }),
        svgElement("line", { class: "limit-line", x1: at, x2: at, y1: box.top, y2: box.bottom }),
        svgElement(
          "text",
          {
            class: "limit-text haloed",
            x: Math.min(at + 4, box.right - 4),
            y: box.top + 12,
            "text-anchor": at > box.right - 90 ? "end" : "start",
          },
          `limit ${withUnit(cost, highestCost)}`,
        ),
      );
    }
    if (highestMiss !== undefined) {
      const at = Math.min(Math.max(y(inUnit(miss, highestMiss)), box.top), box.bottom);
      plot.limits.append(
        svgElement("rect", {
          x: box.left,
          y: box.top,
          width: box.right - box.left,
          height: at - box.top,
          fill: `url(#${plot.hatch})`,
        }),
        svgElement("line", { class: "limit-line", x1: box.left, x2: box.right, y1: at, y2: at }),
        svgElement(
          "text",
          { class: "limit-text haloed", x: box.right, y: at - 4, "text-anchor": "end" },
          `limit ${withUnit(miss, highestMiss)}`,
        ),
      );
    }
  }
}

/** An exported INT8 file of a trial. */
function int8Mark(attributes, ...children) {
  return svgElement("g", { class: "int8", ...attributes }, ...children, svgElement("path", { d: SHAPES.diamond(5) }));
}

/** Lower and upper end of the mean over other seeds and its standard deviation. */
function againEnds({ again: { mean, spread } }) {
  return [mean - (spread ?? 0), mean + (spread ?? 0)];
}

/** The students that were trained again, at the means over other seeds, and the front of the means as a dashed line. */
function drawAgain(svg, again, x, y, right) {
  const group = svgElement("g", { class: "again", "aria-hidden": true });
  const line = [];
  let lowest = Infinity;
  const inOrder = [...again].sort((a, b) => x(a) - x(b) || a.again.mean - b.again.mean);
  for (const trial of inOrder) {
    const [left, top] = [x(trial), y(trial.again.mean)];
    const [low, high] = againEnds(trial).map((rate) => (y(rate) - top).toFixed(1));
    group.append(
      svgElement("path", {
        d: `${SHAPES.diamond(4)}M-3,${high}h6m-3,0V${low}m-3,0h6`,
        transform: `translate(${left.toFixed(1)},${top.toFixed(1)})`,
      }),
    );
    if (trial.again.mean >= lowest) continue;
    lowest = trial.again.mean;
    if (line.length > 0) line.push([left, line.at(-1)[1]]);
    line.push([left, top]);
  }
  if (line.length > 0)
    group.prepend(svgElement("path", { class: "again-line", d: polyline([...line, [right, line.at(-1)[1]]]) }));
  svg.append(group);
}

/** Whether a student meets the limits and is inside all brushes. */
function isKept(trial) {
  return fits(trial, state.limits) && insideBrushes(trial);
}

function valueRange(front, pair) {
  if (front.length === 0) return "none";
  const [first, last] = [front[0], front.at(-1)];
  const at = (trial) =>
    `${withUnit(measures[pair.miss], trial.values[pair.miss])} at ${withUnit(measures[pair.cost], trial.values[pair.cost])}`;
  return front.length === 1 ? at(first) : `${at(first)} to ${at(last)}`;
}

/** Put a rank beside its point, where it covers the fewest points and other ranks. */
function placeLabel(text, place, taken, box) {
  const width = 8 * text.textContent.length + 2;
  let [least, found] = [Infinity, null];
  for (const distance of [16, 22, 28]) {
    for (let turn = 0; turn < 12; turn += 1) {
      const angle = -Math.PI / 4 + (turn * Math.PI) / 6;
      const [x, y] = [place.x + distance * Math.cos(angle), place.y + distance * Math.sin(angle)];
      const label = { x: x - width / 2, y: y - 7, w: width, h: 14 };
      const outside =
        label.x < box.left || label.x + width > box.right || label.y < box.top - 8 || label.y + 14 > box.bottom;
      const covered =
        taken.filter(
          (other) =>
            label.x < other.x + other.w &&
            other.x < label.x + label.w &&
            label.y < other.y + other.h &&
            other.y < label.y + label.h,
        ).length +
        (outside ? 3 : 0) +
        distance / 100;
      if (covered < least) [least, found] = [covered, { label, x: x - place.x, y: y - place.y + 4 }];
    }
  }
  taken.push(found.label);
  text.setAttribute("x", found.x.toFixed(1));
  text.setAttribute("y", found.y.toFixed(1));
}

function drawLegend(container) {
  const example = (text, trial, extra = "") => {
    const svg = svgElement("svg", { width: 30, height: 30, viewBox: "-15 -15 30 30", "aria-hidden": true });
    const mark = drawMark(trial, trial !== null && trial.rank !== null);
    mark.querySelector(".rank")?.remove(); // placed in plots only; here it would cover the mark
    if (extra === "chosen") mark.classList.add("is-chosen");
    if (extra === "knee") mark.prepend(svgElement("path", { class: "knee-ring", d: SHAPES.circle(13) }));
    svg.append(mark);
    container.append(element("span", {}, svg, text));
  };
  const first = (condition) => students.find(condition);
  const onFront = first((trial) => trial.rank !== null && !trial.isBaseline);
  if (onFront) example("on the front, with its rank in the table", onFront);
  const off = first((trial) => trial.rank === null && !trial.isBaseline);
  if (off) example("off the front", off);
  const alone = first((trial) => trial.isBaseline && trial.isUndistilled);
  if (alone) example("undistilled baseline", alone);
  const other = first((trial) => trial.isBaseline && !trial.isUndistilled);
  if (other) example("other baseline", other);
  if (teacher) example("teacher", null);
  if (onFront && pairs.some((pair) => pair.knee !== null)) example("knee", onFront, "knee");
  if (onFront) example("choice", onFront, "chosen");
  const bar = (text, drawn) => {
    const svg = svgElement("svg", { width: 16, height: 30, viewBox: "-8 -15 16 30", "aria-hidden": true }, drawn);
    container.append(element("span", {}, svg, text));
  };
  if (pairs.some((pair) => pair.int8.length > 0)) bar("INT8 file of a trial, beside its fp32 file", int8Mark({}));
  if (once.length > 0) example("trained once, with its miss rate in the search: neither ranked nor chosen", once[0]);
  if (isOfMeans && students.some((trial) => trial.again?.spread)) {
    bar(
      "standard deviation over seeds, validation images",
      svgElement("path", { class: "interval", d: "M-4,-11h8m-4,0V11m-4,0h8" }),
    );
  }
  if (!isOfMeans && students.some((trial) => trial.interval)) {
    const text = `${Math.round(100 * data.confidence)} % interval over ${data.numImages} validation images`;
    bar(text, svgElement("path", { class: "interval", d: "M-4,-11h8m-4,0V11m-4,0h8" }));
  }
  if (!isOfMeans && students.some((trial) => trial.again !== null)) {
    const drawn = svgElement("path", { d: `${SHAPES.diamond(4)}M-3,-11h6m-3,0V11m-3,0h6` });
    bar(
      "trained again with other seeds: mean, standard deviation, and the front of the means (dashed)",
      svgElement("g", { class: "again" }, drawn),
    );
  }
}
