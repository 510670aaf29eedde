// The live page's arithmetic: a question's sub-tasks, what is wrong with an answer digit, and the state in the address.
// Columns are counted from the units, as everywhere in the book; addlib/tasks/addition.py and addlib/tasks/subtasks.py do the same.
window.addlibLive = window.addlibLive || {};
(() => {
  "use strict";

  // What is wrong with the text of a number, in words for the reader; null where nothing is.
  addlibLive.complaint = (text, { n_digits: n, base }) => {
    const range = `a whole number of at most ${n} digits`;
    if (!text) return `This field is empty: type ${range}.`;
    const odd = [...text].find((sign) => !/^[0-9]$/.test(sign) || Number(sign) >= base);
    if (odd) return `“${odd}” is not a digit: type ${range}.`;
    if (text.length > n) return `${text} has ${text.length} digits: this model has learned numbers of at most ${n}.`;
    return null;
  };

  // The digits of a number, units first, padded with zeros: ("47", 5) -> [7, 4, 0, 0, 0]
  addlibLive.digits = (text, n) => [...text.padStart(n, "0")].map(Number).reverse();

  // All labels of a question x + y, given as digits.
  addlibLive.question = (x, y, base) => {
    const n = x.length;
    const sum = x.map((d, i) => d + y[i]);
    const carry = [0];
    sum.forEach((s, i) => carry.push(Number(s + carry[i] >= base)));
    const answer = carry.map((c, k) => ((sum[k] ?? 0) + c) % base);
    const makes = sum.map((s) => (s >= base ? "MC1" : s === base - 1 ? "MS9" : ""));
    const bucket = sum.map((s, i) => (carry[i] ? (s === base - 1 ? "US9" : "UC1") : "BA"));
    const cascades = []; // runs of adjacent US9 columns: [lowest, highest]
    bucket.forEach((name, i) => {
      if (name !== "US9") return;
      const last = cascades.at(-1);
      if (last && last[1] === i - 1) last[1] = i;
      else cascades.push([i, i]);
    });
    const longest = Math.max(0, ...cascades.map(([low, high]) => high - low + 1));
    return { x, y, n, base, sum, carry, answer, makes, bucket, cascades, longest };
  };

  // Tokens in reading order with the true answer (the model is shown the true digits before each one that it predicts).
  addlibLive.tokens = (q, columns) => [
    ...[...q.x].reverse(),
    q.base,
    ...[...q.y].reverse(),
    q.base + 1,
    ...columns.map((k) => q.answer[k]),
  ];

  // What can be said of the digit written in column k: one of the names that the Python library gives.
  addlibLive.mistake = (q, k, digit) => {
    const naive = (q.sum[k] ?? 0) % q.base;
    if (digit === q.answer[k]) return "right";
    if (digit === naive && q.carry[k]) return q.makes[k - 1] === "MS9" ? "cascade ignored" : "carry ignored";
    if (digit === (naive + 1) % q.base && !q.carry[k]) return "carry invented";
    return "another digit";
  };

  // The column in which the carry into column k was made.
  addlibLive.maker = (q, k) => {
    let column = k - 1;
    while (q.makes[column] === "MS9") column -= 1;
    return column;
  };

  // The state and its text after "#": x=648&y=357&off=L0H1.A3.MLP0&by=1
  addlibLive.stateText = ({ x, y, off, by }) => {
    const parts = [`x=${encodeURIComponent(x)}`, `y=${encodeURIComponent(y)}`];
    if (off.size) parts.push(`off=${[...off].sort().join(".")}`);
    if (by) parts.push(`by=${by}`);
    return parts.join("&");
  };
  addlibLive.stateFrom = (text, known, ways) => {
    const found = new URLSearchParams(text.replace(/^#/, ""));
    if (!found.has("x") || !found.has("y")) return null;
    const off = (found.get("off") || "").split(".").filter((part) => known.has(part));
    const by = Number(found.get("by"));
    return { x: found.get("x"), y: found.get("y"), off: new Set(off), by: by > 0 && by < ways ? by : 0 };
  };
})();
