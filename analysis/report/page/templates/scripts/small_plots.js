// The miss rate over each searched setting.

/** A plot of dots. Its arrow keys move a marker over all of them, announced as text: dots are too many for elements. */
function slicePlot(container, position) {
  const setting = settings[position];
  const miss = measures[MISS];
  const shownStudents = finished.filter((trial) => trial.settings[position] !== null);
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
      shownStudents.map((trial) => [trial.id, settingText(trial.settings[position]), shown(miss, searchValues(trial)[MISS])]),
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
      finished.map((trial) => inUnit(miss, searchValues(trial)[MISS])),
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
        y: y(inUnit(miss, searchValues(trial)[MISS])),
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
