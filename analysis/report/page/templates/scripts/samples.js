// Sample detections: validation images on which a student differs much from its teacher.

const [FOUND, FALSE_POSITIVE] = [1, 0]; // outcomes of detections; others do not count

/** Class of a box, and what its line stands for. */
const BOX_KINDS = [
  ["person", "person of the ground truth: white"],
  ["found", "found: solid"],
  ["false", "false positive: dashed"],
  ["missed", "missed person: dotted"],
  ["ignored", "does not count: thin"],
];

function samplesSection(trial) {
  if (trial.samples.length === 0) return [];
  const rival = trial.samples[0].teacher ? "the teacher" : "the ground truth";
  return [
    element("h3", {}, `Where it differs most from ${rival}`),
    element(
      "p",
      { class: "note" },
      `Difference: ${trial.samples[0].teacher ? rule.difference : "missed people and false positives"}. ` +
        "Select a picture to enlarge it.",
    ),
    samplesLegend(),
    ...trial.samples.map((sample) => sampleFigure(sample, trial)),
  ];
}

function samplesLegend() {
  return element(
    "p",
    { class: "samples-legend" },
    ...BOX_KINDS.map(([kind, text]) =>
      element(
        "span",
        {},
        svgElement(
          "svg",
          { width: 30, height: 22, viewBox: "0 0 30 22", "aria-hidden": true },
          ...box([4, 4, 22, 14], kind),
        ),
        text,
      ),
    ),
  );
}

function sampleFigure(sample, trial) {
  const picture = data.pictures[sample.picture];
  return element(
    "figure",
    { class: "sample" },
    element(
      "figcaption",
      {},
      element("span", { class: "name" }, short(picture.name)),
      `, difference ${sample.difference}`,
    ),
    element(
      "div",
      { class: "sample-views" },
      sampleView("Ground truth", picture, null),
      sample.teacher ? sampleView("Teacher", picture, sample.teacher) : null,
      sampleView(short(trial.id, 24), picture, sample.student),
    ),
  );
}

/** One picture with boxes, and the same in words. */
function sampleView(title, picture, detections) {
  const numCounting = picture.people.filter((person) => person[4] === 1).length;
  const people = `${numCounting} ${numCounting === 1 ? "person" : "people"}`;
  const text = detections === null ? people : outcomeText(detections, numCounting);
  const button = element(
    "button",
    { type: "button", class: "picture", "aria-pressed": "false", "aria-label": `${title}, ${picture.name}: ${text}` },
    drawnPicture(picture, detections),
  );
  const view = element("div", { class: "sample-view" }, button, element("p", {}, element("b", {}, title), ` ${text}`));
  button.addEventListener("click", () =>
    button.setAttribute("aria-pressed", String(view.classList.toggle("is-large"))),
  );
  return view;
}

function outcomeText({ boxes, found }, numCounting) {
  const numFalse = boxes.filter((each) => each[5] === FALSE_POSITIVE).length;
  return `${found.length} of ${numCounting} found, ${numFalse} false`;
}

function drawnPicture(picture, detections) {
  const { width, height } = picture;
  const boxes = picture.people.flatMap((person, index) => {
    if (person[4] === 0) return box(person, "ignored");
    if (detections === null) return box(person, "person");
    return detections.found.includes(index) ? [] : box(person, "missed");
  });
  // Better detections above others.
  for (const each of [...(detections?.boxes ?? [])].reverse())
    boxes.push(...box(each, each[5] === FOUND ? "found" : each[5] === FALSE_POSITIVE ? "false" : "ignored"));
  return svgElement(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, "aria-hidden": true },
    svgElement("image", { href: picture.uri, width, height }),
    ...boxes,
  );
}

/** A box over a dark outline, visible on any picture. */
function box([x, y, width, height], kind) {
  const place = { x, y, width, height, "vector-effect": "non-scaling-stroke" };
  return [
    svgElement("rect", { ...place, class: "box-outline" }),
    svgElement("rect", { ...place, class: `box-${kind}` }),
  ];
}
