// The live page: wires fields, switches, samples and the address to the model. See sums.js, draw.js, engine.js.
(() => {
  "use strict";
  const { node } = addlibLive;
  const at = (id) => document.getElementById(`live-${id}`);
  const fields = { x: at("x"), y: at("y") };
  let page, run, parts, state, shown = null, latest = 0;

  const main = async () => {
    let engine;
    try {
      engine = await addlibLive.start();
    } catch (error) {
      at("status").textContent = `The model could not be started in this browser (${error.message}). It needs WebAssembly with SIMD: any browser since 2023 has it.`;
      return;
    }
    ({ page, run } = engine);
    parts = new Set(page.heads.map(({ layer, head }) => `L${layer}H${head}`));
    for (let k = 0; k <= page.n_digits; k += 1) parts.add(`A${k}`);
    for (let layer = 0; page.mlp && layer < page.n_layers; layer += 1) parts.add(`MLP${layer}`);
    furnish();
    restore() || ask(...(page.first_try ? [page.first_try.x, page.first_try.y] : page.samples[Object.keys(page.samples).at(-1)][0]));
    document.getElementById("live").removeAttribute("hidden");
    at("status").remove();
  };

  // What depends on the model but not on the question.
  const furnish = () => {
    const button = (text, pairs) => {
      let turn = 0;
      const made = node("button", { type: "button" }, text);
      made.addEventListener("click", () => ask(...pairs[turn++ % pairs.length]));
      return made;
    };
    at("samples").append(...Object.entries(page.samples).map(([kind, pairs]) => button(kind, pairs)));
    if (page.wrong.length) at("samples").append(button("one it gets wrong", page.wrong));
    at("by").append(...page.stand_ins.map((text, i) => node("option", { value: i }, text)));

    if (page.first_try) {
      const { x, y, layer, head } = page.first_try;
      const { label } = page.heads.find((one) => one.layer === layer && one.head === head);
      const go = node("button", { type: "button" }, `${x} + ${y}`);
      go.addEventListener("click", () => ask(x, y, new Set()));
      at("try").append("Try this first: press ", go, `, then switch the ${label} head off. Which digit breaks, and why that one?`);
    }
    page.heads.forEach(({ layer, head, label, colour }) => {
      const part = `L${layer}H${head}`;
      const style = `--hue: ${colour}`;
      const lever = addlibLive.toggle(part, true, `${label} head`, `${label} head`);
      lever.setAttribute("style", style);
      at("switches").append(lever);
      const name = node("p", {}, node("b", {}, label), node("span", { class: "live-off" }, " – switched off: nothing of this arrives"));
      at("heads").append(node("div", { class: "live-head", style, "data-head": part }, name, node("div", { class: "live-stairs" })));
    });
    const layers = page.mlp ? Array.from({ length: page.n_layers }, (_, i) => i) : [];
    at("switches").append(...layers.map((i) => addlibLive.toggle(`MLP${i}`, true, page.n_layers > 1 ? `MLP ${i}` : "MLP", `MLP of layer ${i}`)));

    document.getElementById("live").addEventListener("change", ({ target }) => {
      const part = target.dataset?.part;
      if (part) state.off[target.checked ? "delete" : "add"](part);
      if (target === at("by")) state.by = Number(target.value);
      if (part || target === at("by")) update();
    });
    for (const field of Object.values(fields)) field.addEventListener("input", update);
    at("all-on").addEventListener("click", () => { state.off.clear(); update(); });
    at("form").addEventListener("submit", (event) => event.preventDefault());
    at("copy").addEventListener("click", copy);
    for (const kind of ["focusin", "pointerover"]) at("columns").addEventListener(kind, ({ target }) => {
      const near = target.closest("[data-column]");
      if (near) ten(Number(near.dataset.column));
    });
    addEventListener("hashchange", restore);
  };

  // Ask a question from a button; without its own switches it keeps the reader's.
  const ask = (x, y, off = state ? state.off : new Set()) => {
    state = { ...(state || { by: 0 }), off };
    fields.x.value = x;
    fields.y.value = y;
    return update();
  };

  const restore = () => {
    const found = addlibLive.stateFrom(location.hash, parts, page.stand_ins.length);
    if (!found) return false;
    state = found;
    fields.x.value = found.x;
    fields.y.value = found.y;
    update();
    return true;
  };

  const update = async () => {
    const began = performance.now(), turn = ++latest;
    const [x, y] = [fields.x, fields.y].map((field) => field.value.trim());
    const wrong = [x, y].map((text) => addlibLive.complaint(text, page));
    [fields.x, fields.y].forEach((field, i) => field.setAttribute("aria-invalid", String(Boolean(wrong[i]))));
    at("complaint").textContent = [...new Set(wrong.filter(Boolean))].join(" ");
    at("result").toggleAttribute("inert", wrong.some(Boolean));
    if (wrong.some(Boolean)) {
      at("says").textContent = "";
      at("mistakes").replaceChildren();
      return;
    }
    const q = addlibLive.question(addlibLive.digits(x, page.n_digits), addlibLive.digits(y, page.n_digits), page.base);
    const found = await run(q, state.off, state.by);
    if (turn !== latest) return; // the reader has typed on
    draw(q, found);
    history.replaceState(null, "", `#${addlibLive.stateText({ ...state, x, y })}`);
    addlibLive.last = { q, found, ms: performance.now() - began }; // for tests and for the curious
  };

  const draw = (q, found) => {
    const focused = document.activeElement?.dataset?.part || null; // its switch is drawn anew
    const digit = document.activeElement?.dataset?.column || null;
    const { said, mistakes } = addlibLive.account(q, found, page);
    shown = { q, found };
    at("columns").replaceChildren(addlibLive.columns(q, found, state, page));
    at("says").textContent = said;
    at("mistakes").replaceChildren(
      ...mistakes.map(([k, name, why]) => node("li", { "data-mistake": name, "data-column": k }, node("b", {}, name), ` ${why}`)),
    );
    page.heads.forEach((head) => {
      const part = `L${head.layer}H${head.head}`;
      const box = at("heads").querySelector(`[data-head=${part}]`);
      box.classList.toggle("off", state.off.has(part));
      const pattern = found.patterns[head.layer * page.n_heads + head.head];
      box.querySelector(".live-stairs").replaceChildren(addlibLive.staircase(q, pattern, head, page));
    });
    document.querySelectorAll("#live [data-part]").forEach((box) => { box.checked = !state.off.has(box.dataset.part); });
    at("by").value = state.by;
    at("all-on").disabled = state.off.size === 0;
    ten(mistakes.length ? mistakes[0][0] : q.n);
    if (focused) document.querySelector(`#live [data-part="${focused}"]`)?.focus();
    if (digit) document.querySelector(`#live button[data-column="${digit}"]`)?.focus();
  };

  const ten = (k) => at("ten").replaceChildren(addlibLive.ten(shown.q, shown.found, k));

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      at("copied").textContent = "Copied.";
    } catch {
      at("copied").textContent = "The address bar holds the link: copy it from there.";
    }
  };

  main();
})();
