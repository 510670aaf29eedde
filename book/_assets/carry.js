// In chapter 08: the program of tables and thresholds, on a sum that the reader types. No network runs here.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  for (const place of document.querySelectorAll(".addlib-carry")) start(place, JSON.parse(place.dataset.program));

  function start(place, program) {
    const { digits, base, level, table, theta, first, live } = program;
    const limit = base ** digits - 1;
    const form = document.createElement("form");
    form.className = "addlib-carry-form";
    const field = (name, value) =>
      `<input name="${name}" inputmode="numeric" autocomplete="off" size="${digits + 1}" value="${value}" aria-label="${name === "x" ? "first" : "second"} number">`;
    form.innerHTML = `${field("x", first[0])} + ${field("y", first[1])} <a>Ask the model</a><div aria-live="polite"></div>`;
    place.replaceChildren(form);
    const said = form.querySelector("div");
    const link = form.querySelector("a");

    const show = () => {
      const numbers = [form.x.value, form.y.value].map((text) => (/^\d+$/.test(text.trim()) ? Number(text) : NaN));
      if (!numbers.every((number) => number <= limit)) {
        said.textContent = `Type two whole numbers from 0 to ${limit}.`;
        link.removeAttribute("href");
        return;
      }
      link.href = `${live}#x=${numbers[0]}&y=${numbers[1]}`;
      const rows = columns(numbers);
      const cells = (name, of) => `<tr><th scope="row">${name}</th>${rows.map((row) => `<td>${of(row)}</td>`).join("")}</tr>`;
      said.innerHTML = `<table><thead>${cells("", (row) => `A${row.k}`)}</thead><tbody>
        ${cells("right", (row) => row.right)}
        ${cells("program", (row) => (row.called === row.right ? row.called : `<strong>${row.called}</strong>`))}
        ${cells("u less threshold", (row) => (row.margin === null ? "" : row.margin.toFixed(1).replace("-", "−")))}
        </tbody></table><p>${verdict(rows.filter((row) => row.called !== row.right))}</p>`;
    };

    // Each digit from the top down; the carry out is the true one, as on the live page.
    const columns = (numbers) => {
      const [x, y] = numbers.map((number) => Array.from({ length: digits }, (_, j) => Math.floor(number / base ** j) % base));
      const carry = [0];
      for (let j = 0; j < digits; j += 1) carry.push(x[j] + y[j] + carry[j] >= base ? 1 : 0);
      const rows = [];
      for (let k = digits; k >= 0; k -= 1) {
        const own = k < digits ? x[k] + y[k] : 0;
        const out = k < digits ? carry[k + 1] : 0;
        let margin = null;
        if (k > 0) {
          const added = table[k].reduce((sum, numbersOf, j) => sum + numbersOf[x[j]][y[j]], level[k]);
          margin = added - theta[k][own][out];
        }
        const says = margin !== null && margin > 0 ? 1 : 0;
        rows.push({ k, margin, right: (own + carry[k]) % base, called: (own + says) % base });
      }
      return rows;
    };

    const verdict = (wrong) =>
      wrong.length === 0
        ? "The tables call every digit right."
        : wrong.map((row) => `The tables call A${row.k} wrong, by ${Math.abs(row.margin).toFixed(1)}: the model will write ${row.called} where ${row.right} is right.`).join(" ");

    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    show();
  }
});
