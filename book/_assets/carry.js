// In chapter 08: the program of tables and thresholds, on a sum that the reader types. No network runs here.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  for (const place of document.querySelectorAll(".addlib-carry")) start(place, JSON.parse(place.dataset.program));

  function start(place, program) {
    const { digits, base, level, table, theta, lattice, states, colours, first, live } = program;
    const limit = base ** digits - 1;
    const pictured = Object.keys(lattice).map(Number).sort((k, j) => j - k);
    let picked = null; // the digit whose lattice the reader asked for
    const form = document.createElement("form");
    form.className = "addlib-carry-form";
    const field = (name, value) =>
      `<input name="${name}" inputmode="numeric" autocomplete="off" size="${digits + 1}" value="${value}" aria-label="${name === "x" ? "first" : "second"} number">`;
    const choices = pictured.map((k) => `<label><input type="radio" name="digit" value="${k}"> A${k}</label>`).join(" ");
    form.innerHTML = `<div>${field("x", first[0])} + ${field("y", first[1])} <a>Ask the model</a></div>
      <div class="addlib-carry-said" aria-live="polite"></div>
      <fieldset${pictured.length ? "" : " hidden"}><legend>Where the sum lies, for</legend>${choices}</fieldset>
      <div class="addlib-carry-plane"></div>`;
    place.replaceChildren(form);
    const said = form.querySelector(".addlib-carry-said");
    const plane = form.querySelector(".addlib-carry-plane");
    const link = form.querySelector("a");

    const show = () => {
      const numbers = [form.x.value, form.y.value].map((text) => (/^\d+$/.test(text.trim()) ? Number(text) : NaN));
      if (!numbers.every((number) => number <= limit)) {
        said.textContent = `Type two whole numbers from 0 to ${limit}.`;
        plane.replaceChildren();
        link.removeAttribute("href");
        return;
      }
      link.href = `${live}#x=${numbers[0]}&y=${numbers[1]}`;
      const rows = columns(numbers);
      const cells = (name, of) => `<tr><th scope="row">${name}</th>${rows.map((row) => `<td>${of(row)}</td>`).join("")}</tr>`;
      said.innerHTML = `<table><thead>${cells("", (row) => `A${row.k}`)}</thead><tbody>
        ${cells("right", (row) => row.right)}
        ${cells("program", (row) => (row.called === row.right ? row.called : `<strong>${row.called}</strong>`))}
        ${cells("u less threshold", (row) => (row.margin === null ? "" : signed(row.margin)))}
        </tbody></table><p>${verdict(rows.filter((row) => row.called !== row.right))}</p>`;
      if (!pictured.length) return;
      const shown = rows.filter((row) => lattice[row.k]);
      const closest = shown.reduce((a, b) => (Math.abs(b.margin) < Math.abs(a.margin) ? b : a));
      const row = shown.find(({ k }) => k === picked) ?? shown.find((one) => one.called !== one.right) ?? closest;
      form.querySelector(`[name=digit][value="${row.k}"]`).checked = true;
      draw(row, numbers);
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
        const point = lattice[k]?.level.map((start, i) => lattice[k].table.reduce((sum, of, j) => sum + of[x[j]][y[j]][i], start));
        const pairs = [k - 1, k - 2].map((j) => ({ text: `${x[j]} + ${y[j]}`, state: Math.sign(x[j] + y[j] - base + 1) + 1 }));
        rows.push({ k, margin, point, pairs, right: (own + carry[k]) % base, called: (own + says) % base });
      }
      return rows;
    };

    const signed = (number) => number.toFixed(1).replace("-", "−");
    const verdict = (wrong) =>
      wrong.length === 0
        ? "The program has every digit right."
        : wrong.map((row) => `The program has A${row.k} wrong, by ${Math.abs(row.margin).toFixed(1)}: so the model will write ${row.called} where ${row.right} is right.`).join(" ");

    // The lattice of one digit: sums of the run as dots, this one as a diamond, the program's threshold as a line.
    const draw = (row, numbers) => {
      const { points, marks, places, line } = lattice[row.k];
      const size = [440, 330];
      const pad = { left: 74, right: 14, top: 10, bottom: 44 };
      const all = [...points, row.point];
      const ends = [0, 1].map((i) => [Math.min(...all.map((p) => p[i])) - 1, Math.max(...all.map((p) => p[i])) + 1]);
      const room = [size[0] - pad.left - pad.right, size[1] - pad.top - pad.bottom];
      const at = [
        (value) => (pad.left + ((value - ends[0][0]) / (ends[0][1] - ends[0][0])) * room[0]).toFixed(1),
        (value) => (pad.top + ((ends[1][1] - value) / (ends[1][1] - ends[1][0])) * room[1]).toFixed(1),
      ];
      const dot = ([x, y], mark) => {
        const hue = mark % 2 ? colours.more : colours.own;
        const ring = mark > 1 ? `<circle cx="${at[0](x)}" cy="${at[1](y)}" r="4.5" fill="none" stroke="${colours.wrong}" stroke-width="1.3"/>` : "";
        return `<circle cx="${at[0](x)}" cy="${at[1](y)}" r="2" fill="${hue}" fill-opacity="0.55"/>${ring}`;
      };
      const offset = line[0] * row.point[0] + line[1] * row.point[1] - row.margin;
      const crossing = (y) => at[0]((offset - line[1] * y) / line[0]);
      const words = (i) => states.map((name, s) => {
        const place = places[i][s];
        if (place === null) return "";
        const [side, where] = name.split(" ");
        return i === 0
          ? `<text x="${at[0](place)}" y="${size[1] - 26}" text-anchor="middle">${name}</text>`
          : `<text x="${pad.left - 8}" y="${at[1](place)}" text-anchor="end">${side}<tspan x="${pad.left - 8}" dy="1.05em">${where}</tspan></text>`;
      }).join("");
      const [below, two] = row.pairs.map(({ text, state }) => `${text} sums ${states[state]}`);
      const tells = `A${row.k} of ${numbers.join(" + ")}: the pair below, ${below}; the pair two below, ${two}. The program writes ${row.called}, by ${Math.abs(row.margin).toFixed(1)}.`;
      const [x, y] = [at[0](row.point[0]), at[1](row.point[1])].map(Number);
      plane.innerHTML = `<svg viewBox="0 0 ${size.join(" ")}" role="img" aria-label="${tells}">
        ${points.map((point, i) => dot(point, marks[i])).join("")}
        <svg x="${pad.left}" y="${pad.top}" width="${room[0]}" height="${room[1]}" viewBox="${pad.left} ${pad.top} ${room.join(" ")}">
        <line class="cut" x1="${crossing(ends[1][0])}" y1="${at[1](ends[1][0])}" x2="${crossing(ends[1][1])}" y2="${at[1](ends[1][1])}"/></svg>
        ${words(0)}${words(1)}
        <text x="${pad.left + room[0] / 2}" y="${size[1] - 6}" text-anchor="middle">the pair below sums</text>
        <text transform="translate(13 ${pad.top + room[1] / 2}) rotate(-90)" text-anchor="middle">the pair two below</text>
        <path class="sum" d="M${x} ${y - 9}L${x + 9} ${y}L${x} ${y + 9}L${x - 9} ${y}Z"/></svg>
        <p>${tells}</p>
        <p class="key"><span style="--hue: ${colours.own}">●</span> writes its own sum, <span style="--hue: ${colours.more}">●</span> writes one more,
        <span style="--hue: ${colours.wrong}">○</span> wrong, ◆ your sum; dashed, the threshold.</p>`;
    };

    form.addEventListener("input", ({ target }) => {
      if (target.name === "digit") picked = Number(target.value);
      show();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    show();
  }
});
