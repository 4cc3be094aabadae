// Parallel coordinates: an axis for each searched setting and each measure, a line for each student, ranges to keep.

const parallelAxes = [
  ...settings.slice(0, data.numSearched).map((setting, position) => settingAxis(setting, position)),
  ...measures.map((measure, position) => measureAxis(measure, position)).reverse(),
];

function settingAxis(setting, position) {
  const of = (trial) => trial.settings[position];
  const values = finished.map(of).filter((value) => value !== null);
  const axis = { key: `setting ${position}`, name: setting.name, label: setting.short };
  if (values.length > 0 && values.every((value) => typeof value === "number")) {
    return { ...axis, ...numericAxis(values, of) };
  }
  const choices = [...new Set(values.map(settingText))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const place = (text) => (choices.length < 2 ? 0.5 : choices.indexOf(text) / (choices.length - 1));
  return {
    ...axis,
    position: (trial) => (of(trial) === null ? null : place(settingText(of(trial)))),
    value: (at) => choices[Math.round(at * (choices.length - 1))] ?? "",
    ticks: choices.slice(0, 12).map((text) => [place(text), short(text, 14)]),
  };
}

function measureAxis(measure, position) {
  const of = (trial) => (searchValues(trial)[position] === null ? null : inUnit(measure, searchValues(trial)[position]));
  const values = finished.map(of).filter((value) => value !== null);
  return { key: `measure ${position}`, name: measure.column, label: measure.column, ...numericAxis(values, of) };
}

function numericAxis(values, of) {
  const range = logWithZeros(values);
  const [low, high] = range ? [range.low, range.high] : [Math.min(...values), Math.max(...values)];
  const [to, back] = range ? [Math.log10, (value) => 10 ** value] : [(value) => value, (value) => value];
  // Zeros have the lowest tenth of a logarithmic axis for themselves.
  const start = range?.hasZero ? 0.1 : 0;
  const span = to(high) - to(low) || 1;
  const position = (value) => {
    if (high === low) return 0.5;
    return range && value === 0 ? 0 : start + (1 - start) * ((to(value) - to(low)) / span);
  };
  const ticks = high === low ? [low] : [...(start > 0 ? [0] : []), ...(range ? logTicks : linearTicks)(low, high, 4)];
  return {
    position: (trial) => (of(trial) === null ? null : position(of(trial))),
    value: (at) => (at < start ? 0 : Number(back(to(low) + ((at - start) / (1 - start)) * span).toPrecision(3))),
    ticks: ticks.map((tick) => [position(tick), String(Number(tick.toPrecision(6)))]),
  };
}

/** Whether the student is in the range of every brushed axis. */
function insideBrushes(trial) {
  for (const axis of parallelAxes) {
    const range = state.brushes.get(axis.key);
    if (!range) continue;
    const at = axis.position(trial);
    if (at === null || at < range[0] - 1e-9 || at > range[1] + 1e-9) return false;
  }
  return true;
}

function parallelPlot(container) {
  const summary = element("p", { class: "note", "aria-live": "polite" });
  const clear = element(
    "button",
    {
      type: "button",
      onclick: () => {
        state.brushes.clear();
        changed("brushes");
      },
    },
    "Remove ranges",
  );
  const controls = element("div", { class: "controls" }, clear, summary);
  const scroller = element("div", { class: "scroller" });
  const headings = ["trial", ...parallelAxes.map((axis) => axis.label)];
  container.append(
    element(
      "figure",
      { class: "panel" },
      element("figcaption", {}, "Settings and objectives of each student"),
      scroller,
      controls,
      dataTable("Settings and objectives of each student", headings, () =>
        finished.map((trial) => [
          trial.id,
          ...settings.slice(0, data.numSearched).map((_, position) => settingText(trial.settings[position])),
          ...measures.map((measure, position) => shown(measure, searchValues(trial)[position])).reverse(),
        ]),
      ),
    ),
  );
  let update = () => {};
  onChange(() => update());
  drawToWidth(container, (outer) => {
    const width = Math.max(outer - 40, 100 * parallelAxes.length);
    const [height, top, bottom] = [360, 52, 336];
    const gap = (width - 110) / Math.max(parallelAxes.length - 1, 1);
    const xOf = (position) => 55 + position * gap;
    const yOf = (at) => bottom - at * (bottom - top);
    const svg = makeSvg(
      width,
      height,
      "Settings and objectives of each student",
      `${finished.length} students on ${parallelAxes.length} axes, each with two handles that set a range.`,
      { class: finished.length > 200 ? "many" : null },
    );
    const lines = finished.map((trial) => {
      const points = parallelAxes
        .map((axis, position) => [position, axis.position(trial)])
        .filter(([, at]) => at !== null)
        .map(([position, at]) => [xOf(position), yOf(at)]);
      return { trial, path: svgElement("path", { d: points.length > 0 ? polyline(points) : "M0,0" }) };
    });
    lines.sort((a, b) => (a.trial.rank === null ? 0 : 1) - (b.trial.rank === null ? 0 : 1));
    svg.append(...lines.map((each) => each.path));
    const drawn = parallelAxes.map((axis, position) =>
      brushedAxis(svg, axis, position, xOf(position), { top, bottom, yOf, half: Math.min(18, gap / 3) }),
    );
    update = () => {
      for (const { trial, path } of lines) {
        const isChosen = state.choice.chosen === trial;
        path.setAttribute(
          "class",
          `${state.active === trial.index ? "curve-active" : isChosen ? "curve-chosen" : trial.rank === null ? "curve" : "curve-front"}${isKept(trial) ? "" : " is-dim"}`,
        );
      }
      drawn.forEach((each) => each());
      const kept = finished.filter(insideBrushes).length;
      controls.hidden = state.brushes.size === 0;
      summary.textContent =
        state.brushes.size === 0
          ? ""
          : `${kept} of ${finished.length} students are in all ranges: ${parallelAxes
              .filter((axis) => state.brushes.has(axis.key))
              .map((axis) => {
                const [low, high] = state.brushes.get(axis.key);
                return `${short(axis.label)} ${axis.value(low)} to ${axis.value(high)}`;
              })
              .join("; ")}.`;
    };
    scroller.replaceChildren(svg);
    update();
  });
}

/** One axis with its brush: a pointer drags a range, arrow keys move the two handles. Returns what updates it. */
function brushedAxis(svg, axis, position, x, { top, bottom, yOf, half }) {
  const label = svgElement(
    "text",
    { class: "title-text", x, y: position % 2 === 0 ? top - 18 : top - 34, "text-anchor": "middle" },
    short(axis.label, 22),
  );
  const brush = svgElement("rect", { class: "brush", x: x - half, width: 2 * half });
  const zone = svgElement("rect", {
    class: "brush-zone",
    x: x - half,
    y: top - 10,
    width: 2 * half,
    height: bottom - top + 20,
  });
  zone.style.touchAction = "none";
  const handles = ["lowest", "highest"].map((end, which) =>
    svgElement("rect", {
      class: "handle",
      x: x - half,
      width: 2 * half,
      height: 7,
      rx: 3,
      tabindex: 0,
      role: "slider",
      "aria-label": `${end} ${axis.name}`,
      "aria-orientation": "vertical",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
      onkeydown: (event) => {
        const step = {
          ArrowUp: 0.05,
          ArrowRight: 0.05,
          ArrowDown: -0.05,
          ArrowLeft: -0.05,
          Home: -1,
          End: 1,
          PageUp: 0.2,
          PageDown: -0.2,
        }[event.key];
        if (step === undefined) return;
        event.preventDefault();
        const range = [...(state.brushes.get(axis.key) ?? [0, 1])];
        range[which] = Math.min(Math.max(range[which] + step, which === 0 ? 0 : range[0]), which === 0 ? range[1] : 1);
        setBrush(range);
      },
    }),
  );
  svg.append(svgElement("line", { class: "parallel-axis", x1: x, x2: x, y1: top, y2: bottom }), label, brush, zone);
  for (const [at, text] of axis.ticks) {
    svg.append(svgElement("text", { class: "haloed", x: x + 5, y: yOf(at) + 4, "pointer-events": "none" }, text));
  }
  svg.append(...handles);

  function setBrush([low, high]) {
    if (low <= 1e-6 && high >= 1 - 1e-6) state.brushes.delete(axis.key);
    else state.brushes.set(axis.key, [low, high]);
    changed("brushes");
  }

  let [start, moved] = [null, null];
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max((bottom - (event.clientY - box.top)) / (bottom - top), 0), 1);
  };
  const drag = (target, from) => {
    target.addEventListener("pointerdown", (event) => {
      start = from(event);
      moved = null;
      target.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    target.addEventListener("pointermove", (event) => {
      if (start === null) return;
      moved = at(event);
      setBrush([Math.min(start, moved), Math.max(start, moved)]);
    });
    target.addEventListener("pointerup", () => {
      // A click without a drag removes the range.
      if (target === zone && start !== null && (moved === null || Math.abs(moved - start) < 0.01)) setBrush([0, 1]);
      start = null;
    });
  };
  drag(zone, at);
  handles.forEach((handle, which) => drag(handle, () => (state.brushes.get(axis.key) ?? [0, 1])[1 - which]));

  return () => {
    const [low, high] = state.brushes.get(axis.key) ?? [0, 1];
    brush.setAttribute("y", yOf(high));
    brush.setAttribute("height", state.brushes.has(axis.key) ? Math.max(yOf(low) - yOf(high), 2) : 0);
    handles[0].setAttribute("y", yOf(low));
    handles[1].setAttribute("y", yOf(high) - 7);
    handles.forEach((handle, which) => {
      handle.setAttribute("aria-valuenow", Math.round(100 * [low, high][which]));
      handle.setAttribute("aria-valuetext", String(axis.value([low, high][which])));
    });
  };
}
