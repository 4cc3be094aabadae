// The miss rate over each searched setting, and learning curves.

/** A plot of dots. Its arrow keys move a marker over all of them, announced as text: dots are too many for elements. */
function slicePlot(container, position) {
  const setting = settings[position];
  const miss = measures[MISS];
  const shownStudents = students.filter((trial) => trial.settings[position] !== null);
  const values = shownStudents.map((trial) => trial.settings[position]);
  const isNumeric = values.every((value) => typeof value === "number");
  const holder = element("div");
  const announcement = element("p", { class: "hidden-text", "aria-live": "polite" });
  const figure = element(
    "figure",
    { class: "panel" },
    element("figcaption", {}, short(setting.short, 44)),
    holder,
    announcement,
    dataTable(`${capital(miss.noun)} and ${short(setting.short)}`, ["trial", setting.short, miss.column], () =>
      shownStudents.map((trial) => [trial.id, settingText(trial.settings[position]), shown(miss, trial.values[MISS])]),
    ),
  );
  container.append(figure);
  let update = () => {};
  onChange(() => update());
  drawToWidth(holder, (width) => {
    const box = { left: 36, right: width - 8, top: 10, bottom: 168 };
    const choices = [...new Set(values.map(settingText))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    const { x, options } = isNumeric ? numericScale(values, box) : choiceScale(choices, box);
    const y = makeScale(
      students.map((trial) => inUnit(miss, trial.values[MISS])),
      box.bottom,
      box.top,
      { least: 5, lowest: -2, highest: 102 },
    );
    const svg = makeSvg(
      width,
      196,
      `${miss.noun} over ${short(setting.name)}`,
      `${shownStudents.length} students. Arrow keys move from one to the next, Enter shows details.`,
      { tabindex: 0, role: "application" },
    );
    axes(svg, box, x, y, { yCount: 4, xCount: 4, ...options });
    const places = shownStudents
      .map((trial) => ({
        x: x(isNumeric ? trial.settings[position] : settingText(trial.settings[position])),
        y: y(inUnit(miss, trial.values[MISS])),
        index: trial.index,
      }))
      .sort((a, b) => a.x - b.x || a.y - b.y);
    const marker = svgElement("circle", { class: "marker", r: 7, visibility: "hidden" });
    const dots = svgElement("path", { class: "dots" });
    const dim = svgElement("path", { class: "dots is-dim" });
    const best = svgElement("path", { class: "dots-front" });
    svg.append(dim, dots, best, marker);
    update = () => {
      const path = (kept) =>
        places
          .filter(kept)
          .map((place) => `M${place.x.toFixed(1)},${place.y.toFixed(1)}h.01`)
          .join("") || "M0,0";
      const kept = (place) => isKept(trials[place.index]);
      const onFront = (place) => trials[place.index].rank !== null;
      dots.setAttribute(
        "d",
        path((place) => kept(place) && !onFront(place)),
      );
      best.setAttribute(
        "d",
        path((place) => kept(place) && onFront(place)),
      );
      dim.setAttribute(
        "d",
        path((place) => !kept(place)),
      );
      const at = places.find((place) => place.index === (state.active ?? state.choice.chosen?.index));
      marker.setAttribute("visibility", at ? "visible" : "hidden");
      if (at) {
        marker.setAttribute("cx", at.x);
        marker.setAttribute("cy", at.y);
      }
    };
    connectKeys(svg, places, announcement, (place) => described(trials[place.index]));
    connectPointer(svg, places);
    holder.replaceChildren(svg);
    update();
  });
}

function numericScale(values, box) {
  const range = logWithZeros(values);
  if (range === null) return { x: makeScale(values, box.left, box.right), options: {} };
  const from = range.hasZero ? box.left + 24 : box.left;
  const positive = makeScale([range.low, range.high], from, box.right, { log: true });
  const x = (value) => (value === 0 ? box.left + 8 : positive(value));
  x.ticks = (count) => [...(range.hasZero ? [0] : []), ...positive.ticks(count)];
  return { x, options: {} };
}

function choiceScale(choices, box) {
  const x = (value) => box.left + ((choices.indexOf(value) + 0.5) / choices.length) * (box.right - box.left);
  x.ticks = () => choices;
  return { x, options: { xTicks: choices } };
}

/** Arrow keys over the places of a plot that has no element for each. */
function connectKeys(svg, places, announcement, text) {
  let at = -1;
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined && places.length > 0) {
      at = Math.min(Math.max(at + step, 0), places.length - 1);
      const place = places[at];
      setActive(place.index);
      announcement.textContent = text(place);
      const corner = svg.getBoundingClientRect();
      showTip(corner.left + place.x, corner.top + place.y, ...tipOf(place.index));
    } else if (event.key === "Enter" && at >= 0) showDetail(places[at].index, svg);
    else if (event.key === "Escape") hideTip();
    else return;
    event.preventDefault();
  });
  svg.addEventListener("blur", () => {
    hideTip();
    setActive(null);
  });
}

/** Miss rates over epochs of all trials that have them: those on the front above the others, stopped ones crossed. */
function learningCurves(container) {
  const miss = measures[MISS];
  const withCurve = trials.filter((trial) => trial.history.length > 0);
  if (withCurve.length === 0) {
    container.append(element("p", { class: "note" }, "No trial has recorded evaluations."));
    return;
  }
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
          `last epoch.${teacher ? " Dotted: the teacher." : ""}`,
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
      { tabindex: 0, role: "application" },
    );
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
  const ofTeacher = teacher && teacher.values[MISS] !== null ? [100 * teacher.values[MISS]] : [];
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
  if (!teacher || teacher.values[MISS] === null) return;
  const at = y(100 * teacher.values[MISS]);
  svg.append(
    svgElement("line", { class: "teacher-line", x1: box.left, x2: box.right, y1: at, y2: at }),
    svgElement("text", { class: "title-text", x: box.right, y: at - 5, "text-anchor": "end" }, "teacher"),
  );
}
