// Loads the large scripts only on pages that need them, and keeps plotly figures readable in both themes and on phones.
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/theme\.js.*$/, "");
  const inks = { light: "#55595f", dark: "#b4b8be" };
  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");
  const ink = () => inks[theme()];

  // Sphinx's search fetches each page that it found, for a snippet; of a page on the disk a browser lets it fetch none.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  const loaded = new Set();
  window.addlibLoad = (file) => {
    if (loaded.has(file)) return;
    loaded.add(file);
    const script = document.createElement("script");
    script.src = here + file;
    document.head.append(script);
  };

  // Text, axis titles and ticks take the theme's ink; lines and bars keep their colours, chosen for both themes.
  const inkOf = (layout) => {
    const change = { "font.color": ink() };
    for (const key of axes(layout)) {
      change[`${key}.tickfont.color`] = ink();
      change[`${key}.title.font.color`] = ink();
    }
    const scale = middled(layout.coloraxis?.colorscale);
    if (scale) change["coloraxis.colorscale"] = scale;
    return change;
  };
  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  // Zero in a scale from blue to orange is nearly the page's own colour, in either theme. Other scales stay.
  const middles = { light: "#f2f2f2", dark: "#2e2e2e" };
  const middled = (scale) => {
    if (!Array.isArray(scale) || scale.length !== 3 || !Object.values(middles).includes(scale[1][1])) return null;
    return [scale[0], [scale[1][0], middles[theme()]], scale[2]];
  };

  // A title longer than its axis goes on in a second line; on a phone, titles and the names of panels are smaller,
  // and numbers in cells that are too small for them are left out.
  const fit = ({ data, layout }, width) => {
    const narrow = width < 480, size = narrow ? 12 : 14, height = layout.height ?? 380;
    const bars = [...data, layout.coloraxis ?? {}].filter((one) => one.colorbar).map((one) => one.colorbar);
    const broken = (title, room) => {
      if (!title?.text) return;
      title.font = { ...title.font, size };
      if (title.text.includes("<")) return; // broken by hand
      const lines = Math.ceil((title.text.length * 0.54 * size) / room), lineRoom = title.text.length / lines;
      let line = 0, at = 0;
      title.text = title.text.split(" ").map((word, i) => {
        at += word.length + 1;
        const next = Math.min(lines - 1, Math.floor((at - 1 - word.length / 2) / lineRoom)) > line;
        if (next) line += 1;
        return (i ? (next ? "<br>" : " ") : "") + word;
      }).join("");
    };
    for (const key of axes(layout)) {
      const [from, to] = layout[key].domain ?? [0, 1];
      const length = key[0] === "x" ? width - 70 - 70 * Math.min(1, bars.length) : height - 90;
      broken(layout[key].title, Math.max(60, length * (to - from)));
    }
    bars.forEach((bar) => broken(bar.title, height - 70));
    if (!narrow) return;
    (layout.annotations ?? []).forEach((note) => (note.font = { ...note.font, size: 10 }));
    for (const map of data.filter((trace) => trace.type === "heatmap" && trace.texttemplate)) {
      const [from, to] = layout[(map.xaxis ?? "x").replace("x", "xaxis")]?.domain ?? [0, 1];
      const names = 7 * Math.max(...map.y.map((name) => name.length));
      const cell = ((width - names - 110) * (to - from)) / map.x.length;
      if (cell < 4 * 7) delete map.texttemplate; // four letters of 7 pixels; a tap on a cell tells its number
    }
  };

  // Called before a figure is drawn: the same changes, in a figure that plotly has not seen yet.
  window.addlibPaint = (spec, width) => {
    fit(spec, width);
    for (const [path, value] of Object.entries(inkOf(spec.layout))) {
      const steps = path.split(".");
      const last = steps.pop();
      steps.reduce((node, step) => (node[step] ??= {}), spec.layout)[last] = value;
    }
    for (const trace of spec.data) if (middled(trace.colorscale)) trace.colorscale = middled(trace.colorscale);
  };

  let painted = theme();
  const recolourAll = () => {
    if (painted === theme()) return; // the theme's own scripts set the attribute anew when a page opens
    painted = theme();
    document.querySelectorAll(".addlib-figure .js-plotly-plot").forEach((div) => {
      if (!div._fullLayout) return;
      window.Plotly.relayout(div, inkOf(div._fullLayout));
      div.data.forEach((trace, i) => {
        const scale = middled(trace.colorscale);
        if (scale) window.Plotly.restyle(div, { colorscale: [scale] }, [i]);
      });
    });
  };

  new MutationObserver(recolourAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  // Hidden cells that follow each other open with one click.
  const group = () => {
    const quiet = ".cell.tag_hide-input:not(:has(> .cell_output))";
    for (const cell of document.querySelectorAll(quiet)) {
      let before = cell.previousElementSibling;
      while (before?.matches("span.target, span[id]:empty")) before = before.previousElementSibling;
      if (!before?.matches(quiet)) continue;
      const own = cell.querySelector(":scope > details"), first = before.querySelector(":scope > details");
      before.classList.add("addlib-leads");
      cell.classList.add("addlib-follows");
      first.addEventListener("toggle", () => (own.open = first.open));
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    group();
    if (document.querySelector("[id^='circuits-vis']")) window.addlibLoad("circuitsvis.js");
  });
})();
