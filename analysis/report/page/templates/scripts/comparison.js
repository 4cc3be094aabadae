// The fronts of several studies in one plot for each cost, and who is better at which cost.

const data = JSON.parse(document.getElementById("data").textContent);
const { measures, studies, pairs, students } = data;
const LINE_STYLES = 5; // of style.css
const BAR_HEIGHT = 22;

document.documentElement.classList.add("js");
// Once all figures are there: one alone would have the whole width.
const drawFronts = pairs.map((pair) => comparisonPlot(document.getElementById("front-plots"), pair));
for (const draw of drawFronts) draw();
comparisonLegend(document.getElementById("legend"));
for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
themeButton(document.getElementById("theme"));

/** Classes of what shows a study: of its line's dashes, and of its colour. */
function studyClass(study) {
  return `study-${study % LINE_STYLES} hue-${studies[study].mark.hue}`;
}

function studyMark(study, isOnFront) {
  const shape = SHAPES[studies[study].mark.shape];
  const radius = isOnFront ? 6 : 3.5;
  return svgElement(
    "g",
    { class: `point ${studyClass(study)} ${isOnFront ? "is-study-front" : ""}` },
    svgElement("path", { class: "halo", d: SHAPES.circle(radius + 8) }),
    svgElement("path", { class: "mark", d: shape(radius) }),
  );
}

/** Append a figure, and return what draws it. */
function comparisonPlot(container, pair) {
  const [miss, cost] = [measures[pair.miss], measures[pair.cost]];
  const title = `${miss.noun} against ${cost.noun}`;
  const onFront = new Set(pair.fronts.flat());
  const holder = element("div");
  container.append(
    element(
      "figure",
      {},
      element("figcaption", {}, capital(title)),
      holder,
      dataTable(capital(title), ["trial", "study", miss.column, cost.column, "on its study's front"], () =>
        students.map((student, index) => [
          student.id,
          studies[student.study].name,
          shown(miss, student.values[pair.miss]),
          shown(cost, student.values[pair.cost]),
          onFront.has(index) ? "yes" : "no",
        ]),
      ),
    ),
  );
  return () => drawToWidth(holder, (width) => {
    const height = Math.round(Math.min(480, Math.max(320, width * 0.72)));
    const box = { left: 42, right: width - 14, top: 30 + BAR_HEIGHT + 8, bottom: height - 48 };
    const x = makeScale(
      students.map((each) => inUnit(cost, each.values[pair.cost])),
      box.left,
      box.right,
      { log: true, least: Math.log10(1.5) },
    );
    const y = makeScale(
      students.map((each) => inUnit(miss, each.values[pair.miss])),
      box.bottom,
      box.top,
      { least: 5, lowest: -2, highest: 102 },
    );
    const svg = makeSvg(
      width,
      height,
      title,
      `${students.length} students of ${studies.length} studies. Arrow keys move from point to point.`,
    );
    axes(svg, box, x, y, {
      xLabel: width < 420 ? `${cost.noun}, ${cost.symbol} (log scale)` : cost.axis,
      xCount: width < 420 ? 4 : 7,
    });
    svg.append(svgElement("text", { x: box.left - 34, y: 14 }, `${miss.noun}, % (lower is better)`));
    svg.append(...leaderBar(pair, cost, x, box));
    pair.fronts.forEach((front, study) => {
      const line = [];
      for (const index of front) {
        const at = placeOf(students[index]);
        if (line.length > 0) line.push([at[0], line.at(-1)[1]]);
        line.push(at);
      }
      if (line.length > 0)
        svg.append(
          svgElement("path", {
            class: `study-line ${studyClass(study)}`,
            d: polyline([...line, [box.right, line.at(-1)[1]]]),
          }),
        );
    });
    const places = students.map((student, index) => {
      const [left, top] = placeOf(student);
      return { x: left, y: top, index };
    });
    for (const place of [...places].sort((a, b) => onFront.has(a.index) - onFront.has(b.index))) {
      const student = students[place.index];
      place.group = studyMark(student.study, onFront.has(place.index));
      place.group.setAttribute("transform", `translate(${place.x.toFixed(1)},${place.y.toFixed(1)})`);
      place.group.setAttribute("role", "img");
      place.group.setAttribute("tabindex", "-1");
      const [name, lines] = tipOfStudent(student, onFront.has(place.index), pair);
      place.group.setAttribute("aria-label", [name, ...lines].join(", "));
      svg.append(place.group);
    }
    connectPoints(svg, places, {
      start: places.find((place) => onFront.has(place.index)),
      activate: () => {},
      select: () => {},
      tip: (index) => tipOfStudent(students[index], onFront.has(index), pair),
    });
    holder.replaceChildren(svg);

    function placeOf(student) {
      return [x(inUnit(cost, student.values[pair.cost])), y(inUnit(miss, student.values[pair.miss]))];
    }
  });
}

/** Ranges of the cost with the study that has the lowest miss rate there; neighbours with the same one are joined. */
function leaderBar(pair, cost, x, box) {
  const joined = [];
  for (const segment of pair.segments) {
    const last = joined.at(-1);
    if (last && last.best === segment.best) {
      last.high = segment.high;
      last.probabilities.push(segment.probability);
    } else joined.push({ ...segment, probabilities: [segment.probability] });
  }
  return joined.flatMap(({ low, high, best, probabilities }) => {
    const left = Math.max(x(inUnit(cost, low)), box.left);
    const right = high === null ? box.right : Math.min(x(inUnit(cost, high)), box.right);
    const name = best === null ? "equal" : studies[best].name;
    const known = probabilities.filter((share) => share !== null);
    const [least, most] = [Math.min(...known), Math.max(...known)].map((share) => Math.round(100 * share));
    const share = known.length === 0 ? "" : least === most ? ` ${most} %` : ` ${least}\u2013${most} %`;
    const range = `${withUnit(cost, low)} ${high === null ? "and more" : `to ${withUnit(cost, high)}`}`;
    const text = short(name, 24) + share;
    const fitting = [text, short(name, 12), ""].find((each) => 7 * each.length + 8 < right - left || each === "");
    return [
      svgElement(
        "g",
        { role: "img", "aria-label": `${range}: ${name}${share === "" ? "" : `,${share} of the resamples`}`, class: "leader" },
        svgElement("rect", {
          class: best === null ? "leader-none" : studyClass(best),
          x: left,
          y: 22,
          width: Math.max(right - left, 1),
          height: BAR_HEIGHT,
        }),
        svgElement("text", { x: (left + right) / 2, y: 22 + 15, "text-anchor": "middle", class: "haloed" }, fitting),
        // Too narrow for words: the study's shape.
        fitting === "" && best !== null && right - left > 12
          ? svgElement("path", {
              class: `leader-mark ${studyClass(best)}`,
              d: SHAPES[studies[best].mark.shape](4),
              transform: `translate(${(left + right) / 2},${22 + BAR_HEIGHT / 2})`,
            })
          : null,
      ),
    ];
  });
}

function tipOfStudent(student, isOnFront, pair) {
  const values = measures.map((measure, position) => `${measure.noun}: ${withUnit(measure, student.values[position])}`);
  const at = student.values[pair.cost];
  const segment = pair.segments.filter((each) => each.low <= at).at(-1);
  const lines = [
    studies[student.study].name,
    ...values,
    isOnFront ? "on the front of its study" : "off the front",
    student.isJoint ? "no student of any study dominates it" : "dominated, all studies together",
  ];
  if (segment) {
    const share = segment.probability === null ? "" : `, in ${Math.round(100 * segment.probability)} % of the resamples`;
    const best = segment.best === null ? "several studies are equal" : `${studies[segment.best].name}${share}`;
    lines.push(`lowest ${measures[pair.miss].noun} at this cost: ${best}`);
  }
  return [short(student.id), lines];
}

function comparisonLegend(container) {
  studies.forEach(({ name, numOnFront }, study) => {
    const svg = svgElement(
      "svg",
      { width: 44, height: 24, viewBox: "-22 -12 44 24", "aria-hidden": true },
      svgElement("path", { class: `study-line ${studyClass(study)}`, d: "M-22,0H22" }),
      studyMark(study, true),
    );
    container.append(element("span", {}, svg, `${short(name)} (${numOnFront} on its front)`));
  });
}
