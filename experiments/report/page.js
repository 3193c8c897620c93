// Tables that can be sorted, and the wrong records: filters, order, pages. Texts of data are only ever set as
// textContent. The data is what page_data() of errors.py makes:
//   labels, tasks, shapes, parts    names, which the rest refers to by number; -1 is none
//   records   [part, id, text or words, [[column, text], …]]
//   rows      [record, task, shape, confidence, loss, length, suspect, [[gold, predicted], …], what is shown]
"use strict";

const RECORD = 0, TASK = 1, SHAPE = 2, CONFIDENCE = 3, LOSS = 4, LENGTH = 5, SUSPECT = 6, PAIRS = 7, SHOWN = 8;
const PAGE_SIZE = 50;
const ORDERS = {
  confidence: "most confident first", unsure: "least confident first", loss: "highest loss first",
  small: "lowest loss first", length: "longest first", short: "shortest first", gold: "by gold label",
  predicted: "by predicted label", id: "as in the file",
};
const REVERSE = { confidence: "unsure", loss: "small", length: "short" };

const get = (id) => document.getElementById(id);

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children); // strings become text
  return made;
}

function sortTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => head.firstChild.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== (place ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      const value = (row) => row.cells[place].textContent.replaceAll(",", "");
      rows.sort((a, b) => (place ? value(b) - value(a) : value(a).localeCompare(value(b))) * (down ? 1 : -1));
      table.tBodies[0].append(...rows);
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down === Boolean(place) ? "descending" : "ascending");
    }));
  }
}

function wrongRecords(data) {
  let view = [], page = 1, order = "", ordered = []; // all rows in that order
  const texts = []; // of each record, in lower case, made when they are first searched

  const labelOf = (number) => (number < 0 ? "" : data.labels[number]);
  const firstLabel = (row, side) => labelOf((row[PAIRS].find((pair) => pair[side] >= 0) || [-1, -1])[side]);
  const textOf = (record) => (Array.isArray(record[2]) ? record[2].join(" ") : record[2]);
  const searched = (number) => {
    const record = data.records[number];
    return (texts[number] ??= [textOf(record), ...record[3].map((other) => other[1])].join("\n").toLowerCase());
  };

  function option(select, value, text) {
    const made = element("option", "", text);
    made.value = value;
    select.append(made);
  }

  function fill(select, names, counts, all) {
    const before = select.value;
    select.replaceChildren();
    option(select, "", all);
    [...counts].sort((a, b) => names[a[0]].localeCompare(names[b[0]]))
      .forEach(([number, count]) => option(select, String(number), `${names[number]} (${count})`));
    select.value = before;
    if (select.selectedIndex < 0) select.value = "";
  }

  function count(rows, numbers) {
    const counts = new Map();
    for (const row of rows) for (const number of new Set(numbers(row))) {
      if (number >= 0) counts.set(number, (counts.get(number) || 0) + 1);
    }
    return counts;
  }

  const chosen = (id) => (get(id).value === "" ? null : Number(get(id).value));

  function inPart() {
    const part = chosen("part");
    return (row) => part === null || data.records[row[RECORD]][0] === part;
  }

  function inPartAndTask() {
    const part = inPart(), task = chosen("task");
    return (row) => part(row) && (task === null || row[TASK] === task);
  }

  function fillChoices() {
    const parts = count(data.rows, (row) => [data.records[row[RECORD]][0]]);
    fill(get("part"), data.parts.map((part) => part.name), parts, "all");
    fill(get("task"), data.tasks, count(data.rows.filter(inPart()), (row) => [row[TASK]]), "all");
    const rows = data.rows.filter(inPartAndTask());
    fill(get("gold"), data.labels, count(rows, (row) => row[PAIRS].map((pair) => pair[0])), "any");
    fill(get("predicted"), data.labels, count(rows, (row) => row[PAIRS].map((pair) => pair[1])), "any");
    for (const id of ["part", "task"]) get(id).parentElement.hidden = get(id).options.length < 3;
    for (const id of ["gold", "predicted"]) get(id).parentElement.hidden = get(id).options.length < 2;
  }

  function wanted() {
    const place = inPartAndTask(), gold = chosen("gold"), predicted = chosen("predicted"), words = get("search").value.toLowerCase();
    const least = [[CONFIDENCE, chosen("confidence")], [LOSS, chosen("loss")], [LENGTH, chosen("shortest")]]
      .filter((limit) => limit[1] !== null);
    const longest = chosen("longest"), suspects = get("suspects").checked;
    const pair = (one) => (gold === null || one[0] === gold) && (predicted === null || one[1] === predicted);
    // of several labels one may be missed and another be too many: each is a pair of its own
    const both = (row) => row[PAIRS].some(pair) || (data.shapes[row[SHAPE]] !== "tags" && data.shapes[row[SHAPE]] !== "label"
      && row[PAIRS].some((one) => one[0] === gold) && row[PAIRS].some((one) => one[1] === predicted));
    return (row) => place(row) && ((gold === null && predicted === null) || both(row))
      && least.every(([figure, limit]) => row[figure] !== null && row[figure] >= limit)
      && (longest === null || row[LENGTH] <= longest) && (!suspects || row[SUSPECT])
      && (words === "" || searched(row[RECORD]).includes(words));
  }

  function comparison(order) {
    const high = (place) => (a, b) => (b[place] ?? -Infinity) - (a[place] ?? -Infinity);
    const low = (place) => (a, b) => (a[place] ?? Infinity) - (b[place] ?? Infinity);
    const name = (side) => (a, b) => firstLabel(a, side).localeCompare(firstLabel(b, side));
    const known = {
      confidence: high(CONFIDENCE), unsure: low(CONFIDENCE), loss: high(LOSS), small: low(LOSS), length: high(LENGTH),
      short: low(LENGTH), gold: name(0), predicted: name(1),
      id: (a, b) => data.records[a[RECORD]][1] - data.records[b[RECORD]][1],
    }[order];
    return (a, b) => known(a, b) || high(LOSS)(a, b) || 0; // Infinity - Infinity is NaN
  }

  function update() {
    if (order !== get("order").value) {
      order = get("order").value;
      ordered = [...data.rows].sort(comparison(order));
    }
    view = ordered.filter(wanted());
    for (const head of document.querySelectorAll("#wrong th")) head.removeAttribute("aria-sort");
    const base = Object.keys(REVERSE).find((key) => REVERSE[key] === order) || order;
    const head = document.querySelector(`#wrong th.of-${base}`);
    if (head) head.setAttribute("aria-sort", REVERSE[order] ? "descending" : "ascending");
    show(1);
  }

  function show(number) {
    const pages = Math.max(1, Math.ceil(view.length / PAGE_SIZE));
    page = Math.min(Math.max(1, Math.trunc(number) || 1), pages);
    const begin = (page - 1) * PAGE_SIZE, rows = view.slice(begin, begin + PAGE_SIZE);
    get("rows").replaceChildren(...rows.map(drawRow));
    get("page").value = page;
    get("page").max = pages;
    get("pages").textContent = pages.toLocaleString("en");
    get("first").disabled = get("back").disabled = page === 1;
    get("last").disabled = get("forth").disabled = page === pages;
    const written = (count) => count.toLocaleString("en");
    const range = view.length ? `${written(begin + 1)}–${written(begin + rows.length)} of ` : "";
    const all = view.length < data.rows.length ? ` (${written(data.rows.length)} in all)` : "";
    get("count").textContent = `${range}${written(view.length)} mistakes${all}`;
  }

  function drawRow(row) {
    const record = data.records[row[RECORD]], shape = data.shapes[row[SHAPE]];
    const text = element("td", "of-text");
    text.dir = "auto";
    const from = element("span", "from", `${data.parts[record[0]].name} ${record[1]} · ${data.tasks[row[TASK]]} `);
    if (row[SUSPECT]) {
      const mark = element("span", "suspect", "label?");
      mark.title = "one of the highest losses: is the gold label right?";
      from.append(mark);
    }
    from.dir = "ltr";
    text.append(from, ...(shape === "tags" ? tagged(record[2], row[SHOWN]) : [textOf(record)]));
    setLanguage(text, textOf(record));
    for (const [name, value] of record[3]) {
      const other = element("p", "other", `${name}: ${value}`);
      other.dir = "auto";
      text.append(other);
    }
    const sides = [0, 1].map((side) => {
      const cell = element("td", side ? "of-predicted" : "of-gold", ...drawSide(row, shape, side));
      cell.dataset.name = side ? "predicted" : "gold";
      return cell;
    });
    return element("tr", "", ...sides, text, figure("confidence", row[CONFIDENCE], 3), figure("loss", row[LOSS], 2),
      figure("length", row[LENGTH], 0));
  }

  function figure(name, value, digits) {
    const cell = element("td", `of-${name}`, value === null ? "–" : value.toFixed(digits));
    cell.dataset.name = name;
    return cell;
  }

  // What a cell of gold (0) or predicted (1) labels shows.
  function drawSide(row, shape, side) {
    if (shape === "tags") return row[PAIRS].slice(0, 6).map((pair) => label(labelOf(pair[side])));
    if (shape === "label") return [label(labelOf(row[PAIRS][0][side]))];
    if (shape === "labels") {
      const other = new Set(row[SHOWN][1 - side]);
      return row[SHOWN][side].map((number) => label(labelOf(number), other.has(number)));
    }
    if (shape === "spans") return row[SHOWN][side].map(([number, words, shared]) => label(`${labelOf(number)}: ${words}`, shared));
    return [label(row[SHOWN][side] || "–")];
  }

  function label(name, shared) {
    return element("bdi", shared ? "label shared" : "label", name);
  }

  // Words with their gold tag above and, where it is another one, the predicted one below.
  function tagged(words, tags) {
    const known = new Map(tags.map((tag) => [tag[0], tag]));
    return words.flatMap((word, place) => {
      const [, gold, predicted, sure] = known.get(place) || [place, -1, -1, null];
      const off = gold !== predicted, tight = gold < 0 && /[\u3000-\u9fff\uff00-\uffef]/.test(word) ? " tight" : "";
      const below = off ? `✗ ${labelOf(predicted)}${sure === null ? "" : ` ${Math.round(100 * sure)}%`}` : "";
      const above = tag(gold, gold < 0 ? "" : labelOf(gold));
      return [element("span", `word${off ? " off" : ""}${tight}`, above, element("span", "", word), tag(predicted, below)), tight ? "" : " "];
    });
  }

  function tag(number, text) {
    const type = labelOf(number).replace(/^[BI]-/, "");
    const colour = number < 0 || type === "O" ? "c7" : `c${types.indexOf(type) % 7}`;
    return element("span", `tag ${colour}`, text);
  }

  const types = [...new Set(data.labels.filter((name) => name !== "O").map((name) => name.replace(/^[BI]-/, "")))].sort();

  // Of several files the first one, which is that of the test data.
  function clear() {
    get("filters").reset();
    fillChoices();
    get("part").value = data.parts.length > 1 && data.parts[0].shown ? "0" : "";
    fillChoices();
  }

  // The mistakes that a button is about; an entity by the tag of its first word, or of another one.
  function jumpTo(button) {
    clear();
    get("task").value = String(data.tasks.indexOf(button.dataset.task));
    fillChoices();
    for (const id of ["gold", "predicted"]) {
      const name = button.dataset[id], options = [...get(id).options].map((one) => one.value);
      const numbers = ["", "B-", "I-"].map((begin) => String(data.labels.indexOf(begin + name)));
      get(id).value = name === undefined ? "" : numbers.find((number) => options.includes(number)) || "";
    }
    update();
    get("errors").scrollIntoView();
    get("gold").focus({ preventScroll: true });
  }

  for (const [value, text] of Object.entries(ORDERS)) option(get("order"), value, text);
  let waiting = 0;
  get("filters").addEventListener("input", (event) => {
    if (event.target.id === "part" || event.target.id === "task") fillChoices();
    clearTimeout(waiting);
    waiting = setTimeout(update, event.target.type === "search" ? 120 : 0);
  });
  get("clear").addEventListener("click", () => { clear(); update(); });
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("#wrong thead button")) button.addEventListener("click", () => {
    const order = button.dataset.order;
    get("order").value = get("order").value === order && REVERSE[order] ? REVERSE[order] : order;
    update();
  });
  get("first").addEventListener("click", () => show(1));
  get("back").addEventListener("click", () => show(page - 1));
  get("forth").addEventListener("click", () => show(page + 1));
  get("last").addEventListener("click", () => show(Infinity));
  get("page").addEventListener("change", () => show(Number(get("page").value)));
  for (const button of document.querySelectorAll("button[data-gold]")) button.addEventListener("click", () => jumpTo(button));
  clear();
  update();
}

// Chinese written with its own letter forms, whatever the reader's system prefers.
function setLanguage(node, text) {
  if (/[\u4e00-\u9fff]/.test(text) && !/[\u3040-\u30ff\uac00-\ud7af]/.test(text)) node.lang = "zh-Hans";
}

sortTables();
if (get("filters")) wrongRecords(JSON.parse(get("data").textContent));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
