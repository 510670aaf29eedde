// What only a browser can see of a page: the faults, in words. Contrast is WCAG's, against the text's own ground.
([theme]) => {
  const faults = [], visible = (node) => node.getClientRects().length > 0;
  document.querySelectorAll(".addlib-figure").forEach((figure) => {
    const name = figure.id || "a figure without id";
    const plot = figure.querySelector("[id^='plot-']:not(button)");
    const marks = ".cartesianlayer .trace path, .cartesianlayer .hm image";
    if (plot && !plot.querySelector(marks)) faults.push(`${name} is not drawn`);
    if (!plot && !figure.querySelector("svg, img")) faults.push(`${name} is empty`);
    const spoken = "[role=img][aria-label]:not([aria-label='']), [role=img] > title, img[alt]:not([alt=''])";
    if (!figure.querySelector(spoken)) faults.push(`${name} has no text for those who can't see it`);
  });
  // Titles, names of panels and legends: on top of each other, on the numbers of an axis, or beyond the figure's edge.
  document.querySelectorAll(".addlib-figure .js-plotly-plot").forEach((plot) => {
    const name = plot.closest(".addlib-figure").id, edge = plot.getBoundingClientRect();
    const boxes = (selector) => [...plot.querySelectorAll(selector)].filter((node) => node.textContent.trim())
      .map((node) => [node.textContent.trim().slice(0, 30), node.getBoundingClientRect()]).filter(([, box]) => box.width);
    const titles = boxes(".xtitle, .ytitle, .gtitle, .cbtitle text, .annotation-text, .legendtext");
    const all = [...titles, ...boxes(".xtick text, .ytick text, .cbaxis text")];
    titles.forEach(([text, box], i) => {
      const out = Math.max(edge.left - box.left, box.right - edge.right, edge.top - box.top, box.bottom - edge.bottom);
      if (out > 3) faults.push(`${name}: '${text}' is cut off`);
      all.slice(i + 1).forEach(([other, there]) => {
        const across = Math.min(box.right, there.right) - Math.max(box.left, there.left);
        const down = Math.min(box.bottom, there.bottom) - Math.max(box.top, there.top);
        if (across > 3 && down > 3) faults.push(`${name}: '${text}' lies on '${other}'`);
      });
    });
  });
  document.querySelectorAll("[id^='circuits-vis']").forEach((view) => {
    if (!view.children.length) faults.push(`attention view ${view.id} is not drawn`);
  });
  document.querySelectorAll(".math").forEach((formula) => {
    const start = formula.textContent.slice(0, 40);
    if (!formula.querySelector("mjx-container")) faults.push(`formula ${start} is not typeset`);
    if (formula.querySelector("mjx-merror")) faults.push(`formula ${start} is wrong`);
  });
  const prose = document.querySelector("main, article")?.cloneNode(true);
  prose?.querySelectorAll("pre, code, script, mjx-container, .math").forEach((node) => node.remove());
  const raw = prose?.textContent.match(/\\\(|\\\[|\$[^$\s][^$]{0,80}\$|\{glue|\{cite|:::|:class:/);
  if (raw) faults.push(`raw markup in the text: ${raw[0]}`);
  document.querySelectorAll("img:not([alt])").forEach((img) => faults.push(`image ${img.src} has no alt text`));
  document.querySelectorAll("img").forEach((img) => {
    if (!img.naturalWidth && visible(img)) faults.push(`image ${img.src} does not show`);
  });
  let level = 0;
  document.querySelectorAll("main :is(h1, h2, h3, h4)").forEach((heading) => {
    const next = +heading.tagName[1];
    if (level && next > level + 1) faults.push(`heading '${heading.textContent}' skips a level`);
    level = next;
  });
  const { scrollWidth, clientWidth } = document.scrollingElement;
  if (scrollWidth > clientWidth + 1) faults.push(`the page is ${scrollWidth} wide on a screen of ${clientWidth}`);
  const rgb = (colour) => (colour.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  document.querySelectorAll(".addlib-figure svg text, .addlib-figure figcaption, .cell_output td").forEach((text) => {
    if (!visible(text) || !text.textContent.trim()) return;
    const style = getComputedStyle(text);
    const ink = rgb(text.closest("svg") ? style.fill : style.color);
    if (ink.length < 3 || text.closest(".modebar, .hoverlayer")) return;
    if (text.closest(".heatmap-label")) return; // plotly picks black or white by the cell below, which is no element
    const [a, b] = [light(ink), light(ground(text))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 3) faults.push(`'${text.textContent.trim().slice(0, 30)}' is hard to read in the ${theme} theme`);
  });
  return faults;
}
