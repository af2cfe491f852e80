// Comfort on the pages of sweeps and runs: how strong heatmaps are drawn, and no more runs to compare than allowed.
"use strict";
(() => {
  for (const slider of document.querySelectorAll("[data-opacity]")) {
    slider.addEventListener("input", () => {
      for (const layer of slider.closest("[data-gallery]").querySelectorAll(".layer")) layer.style.opacity = slider.value / 100;
    });
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches?.('input[name="run"][form="compare-form"]')) limit();
  });

  function limit() {
    const most = Number(document.getElementById("compare-form").dataset.most);
    const boxes = [...document.querySelectorAll('input[name="run"][form="compare-form"]')];
    const full = boxes.filter((box) => box.checked).length >= most;
    for (const box of boxes) box.disabled = full && !box.checked;
  }

  // What is fetched again keeps what was chosen and opened in it.
  let chosen = [];
  let opened = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    opened = [...event.detail.target.querySelectorAll("details[open][id]")].map((details) => details.id);
    if (event.detail.target.id === "board") {
      chosen = [...document.querySelectorAll('input[name="run"][form="compare-form"]:checked')].map((box) => box.value);
    }
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    opened = [];
    if (!chosen.length || !document.getElementById("compare-form")) return;
    for (const box of document.querySelectorAll('input[name="run"][form="compare-form"]')) box.checked = chosen.includes(box.value);
    chosen = [];
    limit();
  });
})();
