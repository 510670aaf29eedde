// On the claims page: a filter above the table, by words, chapter and verdict. The address keeps the choice.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const table = document.querySelector("#claims table");
  if (!table) return;
  const rows = [...table.tBodies[0].rows].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
    ...row.querySelector("[data-verdict]").dataset,
  }));
  const chapters = [...new Set(rows.map((row) => row.chapter))];
  const verdicts = document.querySelector("[data-verdicts]").dataset.verdicts.split(" ");
  const count = (verdict) => rows.filter((row) => row.verdict === verdict).length;

  const form = document.createElement("form");
  form.className = "addlib-filter";
  form.setAttribute("role", "search");
  form.innerHTML = `
    <input type="search" name="words" placeholder="Words in a claim" aria-label="Words in a claim">
    <select name="chapter" aria-label="Chapter">
      <option value="">all chapters</option>
      ${chapters.map((name) => `<option value="${name}">chapter ${name}</option>`).join("")}
    </select>
    ${verdicts.map((name) => `
      <label><input type="checkbox" name="verdict" value="${name}" checked> ${name} (${count(name)})</label>`).join("")}
    <output aria-live="polite"></output>`;
  (table.closest(".pst-scrollable-table-container") ?? table).before(form);

  const apply = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chapter = form.chapter.value;
    const boxes = [...form.querySelectorAll("[name=verdict]")];
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const { row, ...claim } of rows) {
      const fits = wanted.has(claim.verdict) && (!chapter || claim.chapter === chapter)
        && words.every((word) => claim.text.includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length} claims`;
    const kept = new URLSearchParams();
    if (form.words.value) kept.set("words", form.words.value);
    if (chapter) kept.set("chapter", chapter);
    if (wanted.size < boxes.length) kept.set("verdict", [...wanted].join(" "));
    history.replaceState(null, "", `${location.pathname}${kept.size ? `?${kept}` : ""}${location.hash}`);
  };

  const asked = new URLSearchParams(location.search);
  form.words.value = asked.get("words") ?? "";
  form.chapter.value = asked.get("chapter") ?? "";
  if (asked.has("verdict")) {
    const wanted = asked.get("verdict").split(" ");
    form.querySelectorAll("[name=verdict]").forEach((box) => (box.checked = wanted.includes(box.value)));
  }
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
});
