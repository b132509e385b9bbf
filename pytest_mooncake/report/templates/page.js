// Draws the charts in the colours of the theme, again whenever the theme changes.
(function () {
  "use strict";
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const held = document.getElementById("chart-data");
  const names = { "#000001": "--ink", "#000002": "--grid", "#000003": "--cold", "#000004": "--warm", "#000005": "--bad",
    "#000006": "--near", "#000007": "--next" };

  function theme() {
    return root.dataset.theme || (dark.matches ? "dark" : "light");
  }

  function draw() {
    if (!held || !window.Bokeh) return;
    const style = getComputedStyle(root);
    let text = held.textContent;
    for (const [stand_in, name] of Object.entries(names)) {
      text = text.replaceAll(stand_in, style.getPropertyValue(name).trim());
    }
    for (const [name, item] of Object.entries(JSON.parse(text))) {
      const place = document.getElementById("chart-" + name);
      if (!place) continue;
      place.replaceChildren();
      place.closest("figure").dataset.drawn = theme();
      window.Bokeh.embed.embed_item(item, "chart-" + name);
    }
  }

  const button = document.getElementById("theme");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", function () {
      root.dataset.theme = theme() === "dark" ? "light" : "dark";
      draw();
    });
  }
  dark.addEventListener("change", draw);
  draw();
})();
