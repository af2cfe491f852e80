// Applies the chosen theme before the first paint. Owns nothing else; the switch lives in page.js.
"use strict";
(() => {
  const chosen = localStorage.getItem("neurosight-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
