// The worklist by keyboard: j and k move, Enter opens, x ticks, m takes, / searches, n reads the next study.
"use strict";
(() => {
  const help = document.getElementById("help");
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  const form = document.getElementById("worklist");
  const rows = [...document.querySelectorAll("tr[data-study]")];
  const link = (row) => row.querySelector("a.open");
  const box = (row) => row.querySelector("input[type=checkbox]");
  const chosen = () => rows.find((row) => row.contains(document.activeElement));

  function move(step) {
    if (!rows.length) return;
    const here = rows.indexOf(chosen());
    const row = rows[here < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, here + step))];
    link(row).focus();
    row.scrollIntoView({ block: "nearest" });
  }

  document.getElementById("all")?.addEventListener("change", (event) => {
    for (const row of rows) box(row).checked = event.target.checked;
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || help.open) return;
    if (event.target.closest("input:not([type=checkbox]), select, textarea")) return;
    const row = chosen();
    const actions = {
      j: () => move(1), k: () => move(-1),
      x: () => { if (row) box(row).checked = !box(row).checked; },
      m: () => {
        if (row && !rows.some((item) => box(item).checked)) box(row).checked = true;
        form?.requestSubmit(form.querySelector("[data-key=m]"));
      },
      "/": () => document.getElementById("search").focus(),
      n: () => document.getElementById("begin").click(),
      "?": () => help.showModal(),
    };
    if (Object.hasOwn(actions, event.key)) { event.preventDefault(); actions[event.key](); }
  });
})();
