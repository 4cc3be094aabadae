// Shapes of points, and how pointer and keyboard reach them.

const SHAPES = {
  circle: (r) => `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`,
  square: (r) => `M${-r},${-r}H${r}V${r}H${-r}Z`,
  diamond: (r) => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0Z`,
  triangle: (r) => `M0,${-1.2 * r}L${1.2 * r},${r}H${-1.2 * r}Z`,
  triangleDown: (r) => `M0,${1.2 * r}L${1.2 * r},${-r}H${-1.2 * r}Z`,
  cross: (r) => `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}`,
  star: (r) =>
    polyline(
      [...Array(10).keys()].map((k) => {
        const radius = k % 2 === 0 ? 1.6 * r : 0.7 * r;
        return [radius * Math.sin((k * Math.PI) / 5), -radius * Math.cos((k * Math.PI) / 5)];
      }),
    ) + "Z",
};

/**
 * Connect the points of a plot ({x, y, index, group}) with pointer and keyboard. On the page of a study, they show its
 * trials; others give `tip` (index -> [title, lines]), `activate` (index or null) and `select` (place).
 */
function connectPoints(svg, places, { start, tip = tipOf, activate = setActive, select = selectTrial } = {}) {
  const byCost = [...places].sort((a, b) => a.x - b.x || a.y - b.y);
  const byMiss = [...places].sort((a, b) => b.y - a.y || a.x - b.x);
  // One stop of the Tab key for the plot: the start, then the point that was last focused.
  (start ?? byCost[0])?.group.setAttribute("tabindex", "0");
  const focus = (place) => {
    for (const each of places) each.group.setAttribute("tabindex", each === place ? "0" : "-1");
    place.group.focus({ preventScroll: false });
  };
  svg.addEventListener("keydown", (event) => {
    const place = places.find((each) => each.group === event.target);
    if (!place) return;
    const step = { ArrowRight: [byCost, 1], ArrowLeft: [byCost, -1], ArrowUp: [byMiss, 1], ArrowDown: [byMiss, -1] }[
      event.key
    ];
    if (step) focus(step[0][Math.min(Math.max(step[0].indexOf(place) + step[1], 0), places.length - 1)]);
    else if (event.key === "Home") focus(byCost[0]);
    else if (event.key === "End") focus(byCost.at(-1));
    else if (event.key === "Enter" || event.key === " ") select(place, svg);
    else if (event.key === "Escape") hideTip();
    else return;
    event.preventDefault();
  });
  svg.addEventListener("focusin", (event) => {
    const place = places.find((each) => each.group === event.target);
    if (!place) return;
    activate(place.index);
    const corner = svg.getBoundingClientRect();
    showTip(corner.left + place.x, corner.top + place.y, ...tip(place.index));
  });
  svg.addEventListener("focusout", () => {
    hideTip();
    activate(null);
  });
  connectPointer(svg, places, { tip, activate, select });
}

/** Hover and click, by the nearest point, so that small points are easy to reach. */
function connectPointer(svg, places, { tip = tipOf, activate = setActive, select = selectTrial } = {}) {
  svg.addEventListener("pointermove", (event) => {
    const place = nearest(places, svg, event);
    svg.style.cursor = place ? "pointer" : "";
    activate(place ? place.index : null);
    if (!place) return hideTip();
    const corner = svg.getBoundingClientRect();
    return showTip(corner.left + place.x, corner.top + place.y, ...tip(place.index));
  });
  svg.addEventListener("pointerleave", () => {
    hideTip();
    activate(null);
  });
  svg.addEventListener("click", (event) => {
    const place = nearest(places, svg, event);
    if (place) select(place, svg);
  });
}
