// The live page's drawing: the question in columns, the probabilities, the staircases, and what is said about them.
// Each function returns an element or a sentence; nothing here knows the model. Colours come with the model's page data.
window.addlibLive = window.addlibLive || {};
(() => {
  "use strict";
  const SVG = "http://www.w3.org/2000/svg";

  // An element: node("td", {class: "x"}, "text", child, …); attributes that are null or false are left out.
  const node = (name, attributes = {}, ...children) => {
    const made = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  };
  addlibLive.node = node;

  const percent = (p) => (p >= 0.9995 ? "100 %" : p < 0.0005 ? "0 %" : `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`);
  const symbol = (token, base) => (token < base ? String(token) : token === base ? "+" : "=");
  const best = (row) => row.indexOf(Math.max(...row));
  addlibLive.percent = percent;
  addlibLive.symbol = symbol;
  addlibLive.best = best;

  const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

  const chip = (name, page) => node("span", { class: "live-chip", style: `--hue: ${page.colours[name]}` }, name);

  // The question as at school, its sub-tasks above it and the model's answer with its three likeliest digits below.
  addlibLive.columns = (q, found, state, page) => {
    const order = Array.from({ length: q.n + 1 }, (_, i) => q.n - i); // columns from the left
    const row = (name, kind, cell) =>
      node("tr", { class: kind }, node("th", { scope: "row" }, name), ...order.map((k) => node("td", {}, cell(k) ?? "")));
    const written = found.probabilities.map(best);

    const above = node("tr", { class: "live-run" }, node("td"));
    for (let k = q.n; k >= 0; k -= 1) {
      const run = q.cascades.find(([, high]) => high === k);
      const wide = run ? run[1] - run[0] + 1 : 1;
      const says = run && (wide > 1 ? `cascade of ${wide}` : "US9");
      above.append(node("td", { colspan: wide > 1 && wide }, run ? node("span", { style: `--hue: ${page.colours.US9}` }, says) : ""));
      k -= wide - 1;
    }

    const answer = (k) => {
      const right = written[k] === q.answer[k];
      const says = `A${k}: ${symbol(written[k], q.base)}, ${percent(found.probabilities[k][written[k]])}`;
      const label = says + (right ? ", right" : `, wrong, should be ${q.answer[k]}`);
      return node(
        "button",
        { type: "button", class: right ? "live-digit" : "live-digit wrong", "data-column": k, "aria-label": label },
        symbol(written[k], q.base),
      );
    };
    const top = (k) => {
      const ranked = found.probabilities[k].map((p, digit) => [p, digit]).sort((a, b) => b[0] - a[0]);
      return node(
        "div",
        { class: "live-top", "data-column": k, "aria-hidden": true },
        ...ranked.slice(0, 3).map(([p, digit]) =>
          node("div", { class: digit === q.answer[k] ? "true" : null, style: `--p: ${p.toFixed(4)}` }, symbol(digit, q.base)),
        ),
      );
    };
    const here = (k) => addlibLive.toggle(`A${k}`, !state.off.has(`A${k}`), `A${k}`, `attention into the position that makes A${k}`);

    return node(
      "table",
      { class: "live-columns" },
      node("caption", {}, `${q.x.length} columns, units on the right. Above each: what it makes, and what it asks for.`),
      node(
        "tbody",
        {},
        above,
        row("makes", "live-labels", (k) => q.makes[k] && chip(q.makes[k], page)),
        row("asks for", "live-labels", (k) => q.bucket[k] && chip(q.bucket[k], page)),
        row("carry in", "live-carry", (k) => (q.carry[k] ? "1" : "·")),
        row("first", "live-number", (k) => q.x[k]),
        row("second", "live-number", (k) => q.y[k]),
        row("sum", "live-number live-sum", (k) => q.answer[k]),
        row("model", "live-number live-model", answer),
        row("likeliest", "live-tops", top),
        row("switch", "live-here", here),
      ),
    );
  };

  // A switch: a checkbox that names the part of the model which it switches.
  addlibLive.toggle = (part, on, text, spoken) =>
    node(
      "label",
      { class: "live-switch" },
      node("input", { type: "checkbox", role: "switch", "data-part": part, "aria-label": spoken, checked: on }),
      node("span", {}, text),
    );

  // All ten probabilities of one answer digit.
  addlibLive.ten = (q, found, k) =>
    node(
      "div",
      { class: "live-ten" },
      node("p", {}, node("b", {}, `A${k}`), `: all ten digits. True is ${q.answer[k]}.`),
      node(
        "ol",
        { start: 0 },
        ...found.probabilities[k].slice(0, q.base).map((p, digit) =>
          node(
            "li",
            { class: digit === q.answer[k] ? "true" : null, style: `--p: ${p.toFixed(4)}` },
            node("b", {}, String(digit)),
            node("i", {}),
            node("span", {}, percent(p)),
          ),
        ),
      ),
    );

  // One head's attention on this question: a row for each answer digit, a cell for each pair, in two halves.
  const CELL = 34, ROW = 20, LEFT = 26, TOP = 36;
  addlibLive.staircase = (q, pattern, head, page) => {
    const { n } = q;
    const width = LEFT + n * CELL + CELL, height = TOP + (n + 1) * ROW + 2;
    const text = (x, y, says, size = 12, anchor = "middle") =>
      node("svg:text", { x, y, "font-size": size, "text-anchor": anchor, fill: "currentColor" }, says);
    const parts = [];
    for (let j = n - 1; j >= 0; j -= 1) {
      const x = LEFT + (n - 1 - j) * CELL;
      parts.push(text(x + CELL / 2, 11, j, 10));
      parts.push(text(x + CELL / 4 + 1, 28, q.x[j], 13), text(x + (3 * CELL) / 4 - 1, 28, q.y[j], 13));
    }
    parts.push(text(LEFT + (n + 0.5) * CELL, 11, "else", 10));
    const seen = []; // for those who can't see the picture
    page.answer_columns.forEach((k, place) => {
      const y = TOP + place * ROW;
      parts.push(text(LEFT - 6, y + ROW / 2 + 4, `A${k}`, 12, "end"));
      let rest = 1, most = ["no pair", 0];
      for (let j = n - 1; j >= 0; j -= 1) {
        const x = LEFT + (n - 1 - j) * CELL;
        const halves = [pattern[k][n - 1 - j], pattern[k][2 * n - j]];
        const pair = halves[0] + halves[1];
        rest -= pair;
        if (pair > most[1]) most = [`D${j} D′${j}`, pair];
        const title = `making A${k}: ${percent(halves[0])} on D${j} (${q.x[j]}), ${percent(halves[1])} on D′${j} (${q.y[j]})`;
        const cell = node("svg:g", {}, node("svg:title", {}, title));
        halves.forEach((share, side) => {
          const box = { x: x + 2 + (side * (CELL - 4)) / 2, y: y + 2, width: (CELL - 4) / 2, height: ROW - 4 };
          cell.append(node("svg:rect", { ...box, fill: "currentColor", opacity: 0.06 }));
          cell.append(node("svg:rect", { ...box, fill: head.colour, opacity: share.toFixed(3), class: "share" }));
        });
        if (pair >= 0.5) {
          const frame = { x: x + 2, y: y + 2, width: CELL - 4, height: ROW - 4, rx: 3 };
          cell.append(node("svg:rect", { ...frame, fill: "none", stroke: head.colour, "stroke-width": 2, class: "step" }));
        }
        parts.push(cell);
      }
      const box = { x: LEFT + n * CELL + 2, y: y + 2, width: CELL - 4, height: ROW - 4 };
      parts.push(node("svg:rect", { ...box, fill: "currentColor", opacity: 0.06 }));
      parts.push(
        node("svg:rect", { ...box, fill: head.colour, opacity: Math.max(rest, 0).toFixed(3) }, node("svg:title", {}, `making A${k}: ${percent(Math.max(rest, 0))} elsewhere`)),
      );
      seen.push(`A${k}: ${most[0]} ${percent(most[1])}`);
    });
    const spoken = `Attention of the ${head.label} head; most on, for each digit being made: ${seen.join("; ")}.`;
    return node("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken }, ...parts);
  };

  // What happened, in sentences: one for the whole answer, one for each broken digit.
  addlibLive.account = (q, found, page) => {
    const written = found.probabilities.map(best);
    const whole = [...written].reverse().map((token) => symbol(token, q.base)).join("");
    const broken = written.map((digit, k) => [k, digit]).filter(([k, digit]) => digit !== q.answer[k]).reverse();
    const said = broken.length
      ? `The model answers ${whole}. Wrong: ${list(broken.map(([k]) => `A${k}`))}.`
      : `The model answers ${whole}: all ${q.n + 1} digits are right.`;
    return { said, mistakes: broken.map(([k, digit]) => [k, addlibLive.mistake(q, k, digit), why(q, k, digit)]) };
  };

  // The story of one wrong digit: where its carry was made, and through which columns it should have come.
  const why = (q, k, digit) => {
    const name = addlibLive.mistake(q, k, digit);
    const wrote = `A${k} is ${symbol(digit, q.base)}, should be ${q.answer[k]}`;
    const sum = (j) => `${q.x[j]} + ${q.y[j]}`;
    if (name === "another digit") return `${wrote}: no matter of one carry.`;
    if (name === "carry invented") {
      return `${wrote}: there is no carry into column ${k}${k > 0 ? `, since column ${k - 1} sends none` : ""}.`;
    }
    const made = addlibLive.maker(q, k);
    const origin = `the 1 that column ${made} makes (${sum(made)})`;
    if (name === "carry ignored") return `${wrote}: ${origin} is lost.`;
    const between = Array.from({ length: k - 1 - made }, (_, i) => made + 1 + i);
    const through = `column${between.length > 1 ? "s" : ""} ${list(between.map(String))}`;
    return `${wrote}: ${origin} and ${through} (sum ${q.base - 1}) hand${between.length > 1 ? "" : "s"} on is lost.`;
  };
})();
