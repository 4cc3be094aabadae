// Axes and scales.

/**
 * Positions on a logarithmic scale where values are positive and far apart, but for zeros, which stay at its low end;
 * {scale, zero}, or null.
 */
function logWithZeros(values) {
  const positive = values.filter((value) => value > 0);
  if (positive.length === 0 || values.some((value) => value < 0)) return null;
  const [low, high] = [Math.min(...positive), Math.max(...positive)];
  return high / low >= 10 ? { low, high, hasZero: positive.length < values.length } : null;
}

/** Round numbers between low and high, about as many as asked. */
function linearTicks(low, high, count = 6) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step)
    ticks.push(Number(tick.toPrecision(12)));
  return ticks;
}

function logTicks(low, high, count = 7) {
  if (high / low < 6) return linearTicks(low, high, count).filter((tick) => tick > 0);
  const ticks = [];
  const factors = high / low < 30 ? [1, 1.5, 2, 3, 5, 7] : high / low < 300 ? [1, 2, 5] : [1];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of factors) {
      const tick = Number((factor * 10 ** power).toPrecision(3));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

/** Positions of values between from and to (pixels), with margins of the span beyond the extremes. */
function makeScale(
  values,
  from,
  to,
  { log = false, margin = 0.06, least = 0, lowest = -Infinity, highest = Infinity } = {},
) {
  const transformed = log ? Math.log10 : (value) => value;
  const inverse = log ? (value) => 10 ** value : (value) => value;
  let low = transformed(Math.min(...values));
  let high = transformed(Math.max(...values));
  const span = Math.max(high - low, least, 1e-9);
  if (high - low < span * 0.999) [low, high] = [(low + high - span) / 2, (low + high + span) / 2];
  low = Math.max(low - margin * span, lowest);
  high = Math.min(high + margin * span, highest);
  const scale = (value) => from + ((transformed(value) - low) / (high - low)) * (to - from);
  scale.domain = [inverse(low), inverse(high)];
  scale.ticks = (count) => (log ? logTicks : linearTicks)(inverse(low), inverse(high), count);
  return scale;
}

/** Grid, ticks and labels of a plot. Box: {left, top, right, bottom} in pixels. */
function axes(svg, box, x, y, { xLabel, yLabel, xCount = 7, yCount = 6, xTicks = null, xText = String }) {
  for (const tick of y.ticks(yCount)) {
    if (yLabel?.includes("%") && tick > 100) continue; // the margin above 100 % has no values
    svg.append(
      svgElement("line", { class: "grid-line", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }),
      svgElement("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, String(tick)),
    );
  }
  let last = -Infinity;
  for (const tick of xTicks ?? x.ticks(xCount)) {
    svg.append(svgElement("line", { class: "grid-line", x1: x(tick), x2: x(tick), y1: box.top, y2: box.bottom }));
    const text = short(xText(tick), 14);
    // Labels that would overlap the one before are left out.
    if (x(tick) - last < 7 * text.length + 12) continue;
    last = x(tick);
    svg.append(svgElement("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, text));
  }
  svg.append(svgElement("line", { class: "axis-line", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  if (xLabel)
    svg.append(
      svgElement("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, xLabel),
    );
  if (yLabel) svg.append(svgElement("text", { x: box.left - 34, y: box.top - 10, "text-anchor": "start" }, yLabel));
}

let ids = 0;

/**
 * An SVG with a name and a description for assistive technology, and a background that pointers reach. The name is no
 * title element, which browsers show as a tip over the plot.
 */
function makeSvg(width, height, title, description, attributes = {}) {
  const id = `description-${(ids += 1)}`;
  return svgElement(
    "svg",
    {
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "group",
      "aria-label": title,
      "aria-describedby": id,
      ...attributes,
    },
    svgElement("desc", { id }, description),
    svgElement("rect", { width, height, fill: "transparent" }),
  );
}

/** Draw now and whenever the width changes, or the page is printed. */
function drawToWidth(container, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.floor(container.clientWidth);
    if (now > 0 && now !== width) draw((width = now));
  }).observe(container);
  const first = Math.floor(container.clientWidth);
  if (first > 0) draw((width = first));
}

/** Call when the element comes near the window, or before printing. */
function whenNear(node, draw) {
  let isDrawn = false;
  const once = () => {
    if (isDrawn) return;
    isDrawn = true;
    observer.disconnect();
    draw();
  };
  const observer = new IntersectionObserver(
    (entries) => {
      if (entries.some((each) => each.isIntersecting)) once();
    },
    { rootMargin: "600px" },
  );
  observer.observe(node);
  window.addEventListener("beforeprint", once);
}

function polyline(points) {
  return `M${points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join("L")}`;
}

/** The nearest of places ({x, y, index}) to a pointer event within a radius, or null. */
function nearest(places, svg, event, radius = 28) {
  const box = svg.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  let [found, least] = [null, radius];
  for (const place of places) {
    const distance = Math.hypot(place.x - x, place.y - y);
    if (distance < least) [found, least] = [place, distance];
  }
  return found;
}
