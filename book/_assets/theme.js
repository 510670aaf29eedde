// Loads the large scripts only on pages that need them, and keeps plotly figures readable in both themes.
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/theme\.js.*$/, "");
  const inks = { light: "#55595f", dark: "#b4b8be" };
  const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

  const load = (file) => {
    const script = document.createElement("script");
    script.src = here + file;
    document.head.append(script);
  };

  // Axis titles, ticks and annotations take the theme's ink; lines and bars keep their colours, chosen for both themes.
  const recolour = (div) => {
    if (!div.layout) return;
    const ink = inks[theme()];
    const change = { "font.color": ink };
    for (const key of Object.keys(div._fullLayout)) {
      if (/^[xy]axis\d*$/.test(key)) Object.assign(change, { [`${key}.tickfont.color`]: ink, [`${key}.title.font.color`]: ink });
    }
    window.Plotly.relayout(div, change);
  };

  const recolourAll = () => document.querySelectorAll(".addlib-figure .js-plotly-plot").forEach(recolour);

  document.addEventListener("addlib:drawn", (event) => recolour(event.target));
  new MutationObserver(recolourAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  document.addEventListener("DOMContentLoaded", () => {
    if (document.querySelector(".addlib-figure [id^='plot-']")) load("plotly.min.js");
    if (document.querySelector("[id^='circuits-vis']")) load("circuitsvis.js");
  });
})();
