// Runs in a page of the site before it is printed: says what is drawn, takes static figures, hides what paper can't do.
window.addlibPrint = (() => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const plotOf = (figure) => figure.querySelector("[id^=plot-]:not(button)");
  const drawn = (plot) => plot.querySelector(".cartesianlayer :is(.trace, .hm image)");
  const attention = () => all("[id^=circuits-vis]");

  const ready = () =>
    all(".addlib-figure").every((figure) => !plotOf(figure) || drawn(plotOf(figure))) &&
    all(".math").every((formula) => formula.querySelector("mjx-container")) &&
    attention().every((view) => view.childElementCount > 0);

  // One entry a figure; `spec` is a plotly figure as JSON, empty for a drawing that is SVG already.
  const figures = () =>
    all(".addlib-figure").map((figure) => {
      const plot = plotOf(figure);
      return {
        name: figure.id,
        drawn: Boolean(plot ? plot.data && drawn(plot) : figure.querySelector("svg, img, canvas")),
        spec: plot?.data ? JSON.stringify({ data: plot.data, layout: plot.layout }) : "",
        height: plot?.offsetHeight ?? 0,
      };
    });

  const replace = (name, svg) => {
    const plot = plotOf(document.getElementById(name));
    const picture = document.createElement("div");
    picture.className = "addlib-static";
    picture.innerHTML = svg;
    plot.replaceWith(picture);
  };

  const arrange = () => {
    const style = document.createElement("style");
    style.textContent = `
      .bd-sidebar-primary, .bd-sidebar-secondary, .bd-header, .bd-header-article, .bd-footer, .prev-next-footer,
      .sidebar-toggle, .headerlink, .addlib-svg, .addlib-filter, .addlib-live, #pst-back-to-top, .skip-link,
      .cell.tag_hide-input > details, .cell.tag_remove-input > .cell_input, button { display: none !important; }
      html, body, .bd-main, .bd-content, .bd-article-container, .bd-container, .bd-container__inner, .bd-article {
        display: block !important; width: auto !important; max-width: none !important;
        margin: 0 !important; padding: 0 !important; overflow: visible !important; height: auto !important; }
      html { font-size: 13px; }
      .bd-article :is(p, ul, ol, dl, blockquote, figcaption, .admonition) { max-width: none !important; }
      .addlib-static svg { width: 100%; height: auto; }
      .addlib-figure, figure, tr, .cell_output table, .addlib-squares li { break-inside: avoid; }
      h1, h2, h3 { break-after: avoid; }
      #print-main-content, #jb-print-toc { display: none !important; }
      h1 { margin-bottom: 1.2rem; }
      .cell, .cell_output { break-inside: auto !important; }
      .cell_input, [id^=circuits-vis] { break-inside: avoid; }
      pre, div.highlight { break-inside: auto !important; }
      pre { white-space: pre-wrap !important; overflow-wrap: anywhere; font-size: 11px; }
      .cell_output, .pst-scrollable-table-container, .addlib-scroll { overflow: visible !important; }
      table { font-size: 11px !important; }`;
    document.head.append(style);
    all("details").forEach((details) => (details.open = true));
  };

  return { ready, figures, replace, arrange };
})();
