// Sorting of all tables; filters of the table of students.

/** Number columns by their numbers, others as text; missing values last in both directions. */
function makeSortable(table) {
  const head = table.tHead.rows[0];
  [...head.cells].forEach((cell, column) => {
    if (cell.classList.contains("plain")) return;
    const isNumber = cell.classList.contains("number");
    const button = element("button", { type: "button" }, cell.textContent);
    cell.replaceChildren(button);
    button.addEventListener("click", () => {
      const direction = cell.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const key = isNumber ? numberOf : textOf;
      const rows = [...table.tBodies[0].rows].map((row, place) => ({ row, place, key: key(row.cells[column]) }));
      rows.sort((a, b) => {
        if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
        return (
          sign * (isNumber ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true })) || a.place - b.place
        );
      });
      table.tBodies[0].append(...rows.map((each) => each.row));
    });
  });
}

function numberOf(cell) {
  const number = Number.parseFloat(cell.dataset.value ?? cell.textContent);
  return Number.isNaN(number) ? null : number;
}

function textOf(cell) {
  return cell.textContent === "-" || cell.textContent === "" ? null : cell.textContent;
}

function studentsControls(table, container) {
  const rows = [...table.tBodies[0].rows];
  const counts = { front: 0, counted: 0, all: 0 };
  for (const row of rows) {
    if (row.dataset.index === "teacher") continue;
    counts.front += Number(row.dataset.front);
    counts.counted += Number(row.dataset.counted);
    counts.all += 1;
  }
  const labels = { front: "Front", counted: "Students", all: "All trials" };
  const segments = element(
    "fieldset",
    { class: "segments" },
    element("legend", { class: "hidden-text" }, "Which trials"),
    ...Object.entries(labels).map(([value, text]) =>
      element(
        "label",
        {},
        element("input", { type: "radio", name: "rows", value, checked: value === "front" }),
        `${text} (${counts[value]})`,
      ),
    ),
  );
  const search = element("input", {
    type: "search",
    size: 24,
    placeholder: "words, or rank<=3",
    "aria-describedby": "search-help",
  });
  const fitting = element("input", { type: "checkbox" });
  const withSettings = element("input", { type: "checkbox", checked: true });
  const result = element("span", { class: "result", "aria-live": "polite" });
  container.append(
    segments,
    element("label", {}, "Filter", search),
    element(
      "span",
      { id: "search-help", class: "hidden-text" },
      "Words that a row must contain, or comparisons of a column, as params M<1",
    ),
    data.numSearched > 0 ? element("label", {}, withSettings, "settings") : (null ?? ""),
    element("label", {}, fitting, "only within budget and ranges"),
    result,
  );

  const headings = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase());
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  function update() {
    const shownRows = segments.querySelector(":checked").value;
    const conditions = parseFilter(search.value, headings);
    let count = 0;
    for (const row of rows) {
      const { index } = row.dataset;
      const isTeacher = index === "teacher";
      const isKind =
        isTeacher || shownRows === "all" || (shownRows === "front" ? row.dataset.front : row.dataset.counted) === "1";
      const trial = isTeacher ? null : trials[index];
      const kept = isTeacher || (trial.isCounted && isKept(trial));
      row.hidden = !(
        isKind &&
        conditions.every((condition) => condition(row, texts.get(row))) &&
        (!fitting.checked || kept)
      );
      row.classList.toggle("is-outside", !kept && !isTeacher && trial.isCounted);
      if (!row.hidden && !isTeacher) count += 1;
    }
    result.textContent = `${count} of ${counts.all} trials shown`;
  }
  container.addEventListener("input", () => {
    for (const cell of table.querySelectorAll(".setting")) cell.hidden = !withSettings.checked;
    update();
  });
  onChange((what) => {
    if (what !== "active") update();
    for (const row of rows) {
      const { index } = row.dataset;
      row.classList.toggle("is-active", state.active !== null && index === String(state.active));
      row.classList.toggle("chosen", index === String(state.choice.chosen?.index));
    }
  });
  for (const row of rows) {
    row.addEventListener("pointerenter", () =>
      setActive(row.dataset.index === "teacher" ? "teacher" : Number(row.dataset.index)),
    );
    row.addEventListener("pointerleave", () => setActive(null));
    if (row.dataset.index === "teacher") continue;
    const name = row.cells[0].firstElementChild;
    const button = element("button", { type: "button", class: "name", title: "Show details" }, name.textContent);
    name.replaceWith(button);
    row.addEventListener("click", () => showDetail(Number(row.dataset.index), button));
  }
}

/** Conditions on rows: comparisons "column<number" of one or several columns, other words as text of the row. */
function parseFilter(text, headings) {
  const comparison = /([\w.%()\- ]*?[\w.%)])\s*(<=|>=|<|>|=)\s*(-?[\d.]+(?:e-?\d+)?)/giu;
  const conditions = [];
  const rest = text.toLowerCase().replace(comparison, (whole, name, sign, number) => {
    const column = headings.findIndex((heading) => heading === name.trim());
    const found =
      column >= 0 ? column : headings.findIndex((heading) => heading.includes(name.trim().split(" ").at(-1)));
    if (found < 0) return whole;
    const limit = Number(number);
    conditions.push((row) => {
      const value = Number.parseFloat(row.cells[found].textContent);
      return {
        "<": value < limit,
        "<=": value <= limit,
        ">": value > limit,
        ">=": value >= limit,
        "=": value === limit,
      }[sign];
    });
    return " ";
  });
  for (const word of rest.split(/\s+/u).filter((each) => each !== ""))
    conditions.push((_, rowText) => rowText.includes(word));
  return conditions;
}
