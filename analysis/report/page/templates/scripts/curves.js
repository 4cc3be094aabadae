// Learning curves, and the hypervolume over the study.

/** Miss rates over epochs of all trials that have them: those on the front above the others, stopped ones crossed. */
function learningCurves(container) {
  const miss = measures[MISS];
  const withCurve = trials.filter((trial) => trial.history.length > 1);
  if (withCurve.length === 0) {
    container.append(element("p", { class: "note" }, "No trial has more than one recorded evaluation."));
    return;
  }
  const rungs = data.stops.map(([epoch, number]) => `epoch ${epoch} (${number})`);
  const holder = element("div");
  const announcement = element("p", { class: "hidden-text", "aria-live": "polite" });
  container.append(
    element(
      "figure",
      { class: "panel" },
      element("figcaption", {}, `${capital(miss.noun)} over epochs`),
      holder,
      announcement,
      element(
        "p",
        { class: "note" },
        "Thick: on the front. Thickest: the choice. Thin: off the front. Crossed: ended before its " +
          `last epoch.${teacher ? " Dotted: the teacher." : ""}${rungs.length > 0 ? ` Rungs, where trials were stopped: ${rungs.join(", ")}.` : ""}`,
      ),
      dataTable(
        `${capital(miss.noun)} over epochs`,
        ["trial", "status", "epochs", `first ${miss.column}`, `lowest ${miss.column}`, `last ${miss.column}`],
        () =>
          withCurve.map((trial) => {
            const rates = trial.history.map(([, rate]) => rate).filter((rate) => rate !== null);
            return [
              trial.id,
              trial.status,
              String(trial.history.at(-1)[0]),
              shown(miss, rates[0]),
              shown(miss, Math.min(...rates)),
              shown(miss, rates.at(-1)),
            ];
          }),
      ),
    ),
  );
  let update = () => {};
  onChange(() => update());
  drawToWidth(holder, (width) => {
    const height = Math.min(420, Math.max(280, width * 0.4));
    const { svg, box, x, y } = curveAxes(
      width,
      height,
      withCurve.map((trial) => trial.history),
      "Learning curves",
      `${withCurve.length} trials. Arrow keys move from trial to trial, Enter shows details.`,
      { tabindex: 0, role: "application", class: withCurve.length > 200 ? "many" : null },
    );
    for (const [epoch] of data.stops)
      svg.append(svgElement("line", { class: "rung", x1: x(epoch), x2: x(epoch), y1: box.top, y2: box.bottom }));
    const lines = new Map();
    const weight = (trial) => (trial.rank !== null ? 1 : 0);
    for (const trial of [...withCurve].sort((a, b) => weight(a) - weight(b))) {
      const line = svgElement("path", {
        class: trial.rank === null ? "curve" : "curve-front",
        d: curvePath(trial.history, x, y),
      });
      lines.set(trial.index, line);
      svg.append(line);
      if (!trial.isCounted && trial.status !== "running") {
        const [epoch, rate] = trial.history.at(-1);
        const [cx, cy] = [x(epoch), y(100 * rate)];
        svg.append(svgElement("path", { class: "stop-mark", d: `M${cx - 4},${cy - 4}l8,8m0,-8l-8,8` }));
      }
    }
    teacherLine(svg, box, y);
    const active = svgElement("path", { class: "curve-active", visibility: "hidden" });
    svg.append(active);
    const places = withCurve.flatMap((trial) =>
      trial.history.map(([epoch, rate]) => ({ x: x(epoch), y: y(100 * rate), index: trial.index })),
    );
    update = () => {
      for (const [index, line] of lines) {
        line.classList.toggle("is-dim", trials[index].isCounted && !isKept(trials[index]));
        const isChosen = state.choice.chosen?.index === index;
        line.setAttribute(
          "class",
          isChosen
            ? "curve-chosen"
            : `${trials[index].rank === null ? "curve" : "curve-front"}${
                trials[index].isCounted && !isKept(trials[index]) ? " is-dim" : ""
              }`,
        );
      }
      const shownLine = lines.get(state.active);
      active.setAttribute("visibility", shownLine ? "visible" : "hidden");
      if (shownLine) active.setAttribute("d", shownLine.getAttribute("d"));
    };
    connectPointer(svg, places);
    connectKeys(
      svg,
      withCurve.map((trial) => ({
        x: x(trial.history.at(-1)[0]),
        y: y(100 * trial.history.at(-1)[1]),
        index: trial.index,
      })),
      announcement,
      (place) => described(trials[place.index]),
    );
    holder.replaceChildren(svg);
    update();
  });
}

function curvePath(history, x, y) {
  return polyline(history.map(([epoch, rate]) => [x(epoch), y(100 * rate)]));
}

function curveAxes(width, height, histories, title, description, attributes = {}) {
  const box = { left: 42, right: width - 12, top: 30, bottom: height - 44 };
  const points = histories.flat();
  const ofTeacher = teacher && searchValues(teacher)[MISS] !== null ? [100 * searchValues(teacher)[MISS]] : [];
  const x = makeScale(
    points.map(([epoch]) => epoch),
    box.left,
    box.right,
    { margin: 0.02, least: 1 },
  );
  const y = makeScale([...points.map(([, rate]) => 100 * rate), ...ofTeacher], box.bottom, box.top, {
    least: 5,
    lowest: -2,
    highest: 102,
  });
  const svg = makeSvg(width, height, title, description, attributes);
  axes(svg, box, x, y, {
    xLabel: "epoch",
    yLabel: `${measures[MISS].noun}, %`,
    xTicks: x.ticks(8).filter(Number.isInteger),
  });
  return { svg, box, x, y };
}

function teacherLine(svg, box, y) {
  if (!teacher || searchValues(teacher)[MISS] === null) return;
  const at = y(100 * searchValues(teacher)[MISS]);
  svg.append(
    svgElement("line", { class: "teacher-line", x1: box.left, x2: box.right, y1: at, y2: at }),
    // On the left, where curves are high.
    svgElement("text", { class: "title-text haloed", x: box.left + 4, y: at - 5 }, "teacher"),
  );
}

/** The hypervolume of all objectives over trials, and over the epochs that were trained. */
function hypervolumePlots(container) {
  if (data.hypervolume.length === 0) return;
  const draw = [
    hypervolumePlot(container, "trials that finished", (step) => step.number),
    hypervolumePlot(container, "epochs trained by all trials", (step) => step.epochs),
  ];
  // Once both are there: a figure alone would have the whole width.
  for (const each of draw) each();
}

/** Append a figure, and return what draws it. */
function hypervolumePlot(container, xName, xOf) {
  const title = `Hypervolume over ${xName}`;
  const holder = element("div");
  const announcement = element("p", { class: "hidden-text", "aria-live": "polite" });
  const rows = () => data.hypervolume.map((step) => [trials[step.trial].id, String(xOf(step)), step.value.toFixed(4)]);
  container.append(
    element(
      "figure",
      {},
      element("figcaption", {}, title),
      holder,
      announcement,
      dataTable(title, ["trial", xName, "hypervolume"], rows),
    ),
  );
  return () => drawToWidth(holder, (width) => {
    const box = { left: 42, right: width - 12, top: 30, bottom: 212 };
    const last = data.hypervolume.at(-1);
    const description = `From ${data.hypervolume[0].value.toFixed(3)} to ${last.value.toFixed(3)}; higher is better.`;
    const svg = makeSvg(width, 256, title, description, { tabindex: 0, role: "application" });
    const x = makeScale(data.hypervolume.map(xOf), box.left, box.right, { margin: 0.02, least: 1 });
    const y = makeScale(
      data.hypervolume.map((step) => step.value),
      box.bottom,
      box.top,
      { least: 0.02, lowest: 0 },
    );
    axes(svg, box, x, y, { xLabel: xName, yLabel: "hypervolume (higher is better)", yCount: 5 });
    const line = [];
    for (const step of data.hypervolume) {
      if (line.length > 0) line.push([x(xOf(step)), line.at(-1)[1]]);
      line.push([x(xOf(step)), y(step.value)]);
    }
    svg.append(svgElement("path", { class: "front-line", d: polyline(line) }));
    const places = data.hypervolume.map((step) => ({ x: x(xOf(step)), y: y(step.value), index: step.trial }));
    const text = (place) => described(trials[place.index]);
    connectPointer(svg, places);
    connectKeys(svg, places, announcement, text);
    holder.replaceChildren(svg);
  });
}
