// Loads the large scripts only on pages that need them, and keeps plotly figures readable in both themes.
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/theme\.js.*$/, "");
  const inks = { light: "#55595f", dark: "#b4b8be" };
  const ink = () => inks[document.documentElement.dataset.theme === "dark" ? "dark" : "light"];

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
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      change[`${key}.tickfont.color`] = ink();
      change[`${key}.title.font.color`] = ink();
    }
    return change;
  };

  // Called before a figure is drawn: writes the same change into a layout that plotly has not seen yet.
  window.addlibPaint = (layout) => {
    for (const [path, value] of Object.entries(inkOf(layout))) {
      const steps = path.split(".");
      const last = steps.pop();
      steps.reduce((node, step) => (node[step] ??= {}), layout)[last] = value;
    }
  };

  const recolourAll = () =>
    document.querySelectorAll(".addlib-figure .js-plotly-plot").forEach((div) => {
      if (div._fullLayout) window.Plotly.relayout(div, inkOf(div._fullLayout));
    });

  new MutationObserver(recolourAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector("[id^='circuits-vis']")) window.addlibLoad("circuitsvis.js");
  });
})();
