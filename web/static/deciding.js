// Deciding about the chosen slice: the buttons' keys, and the answer put in place of the panel without leaving the page.
"use strict";
(() => {
  const panel = document.getElementById("panel");
  if (!panel) return;

  // The mark on the filmstrip says what the panel says.
  function mark() {
    const decision = document.getElementById("decision");
    const badge = decision && document.querySelector(`.thumb[data-slice="${decision.dataset.slice}"] .decided`);
    if (!badge) return;
    badge.hidden = !decision.dataset.mark;
    badge.textContent = decision.dataset.mark ? `✓ ${decision.dataset.mark}` : "";
  }

  document.addEventListener("submit", async (event) => {
    if (event.target.id !== "decide") return;
    event.preventDefault();
    const form = event.target;
    if (!event.submitter || form.dataset.sending) return;
    form.dataset.sending = "yes";
    const asked = document.getElementById("decision").dataset.slice;
    const key = event.submitter.dataset.key;
    const body = new FormData(form, event.submitter);
    const signing = document.querySelectorAll("#review [name=version]");
    if (signing.length) body.set("version", signing[0].value);
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { "HX-Request": "true" }, body });
      const text = await answer.text();
      if (answer.status !== 200 && answer.status !== 409) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(text, "text/html");
      const decision = fresh.getElementById("decision");
      const shown = document.getElementById("decision");
      if (decision && shown && shown.dataset.slice === asked) {
        shown.replaceWith(decision);
        mark();
        // One's own decision is no surprise when one signs; anybody else's in between still is.
        if (decision.dataset.version) for (const field of signing) field.value = decision.dataset.version;
        (decision.querySelector(`[data-key="${key}"]`) ?? decision.querySelector("button"))?.focus({ preventScroll: true });
        window.announce((decision.querySelector("[role=alert]") ?? decision.querySelector(".decided-by")).textContent.trim());
      }
    } catch {
      delete form.dataset.sending;
      form.classList.add("failed");
      window.announce(panel.dataset.failed);
      const note = form.querySelector(".unsent") ?? form.appendChild(document.createElement("p"));
      note.className = "notice error unsent";
      note.textContent = panel.dataset.failed;
    }
  });

  // Enter in the note must not press the first button.
  const reached = {
    e: () => document.getElementById("decision-note"),
    s: () => document.getElementById("study-label"),
    t: () => document.querySelector("#review [name=to][value=me]"),
    n: () => document.getElementById("next-study"),
    p: () => document.getElementById("previous-study"),
    r: () => document.getElementById("report"),
    w: () => document.querySelector("header [data-worklist]"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.closest("input, select")) { event.target.blur(); return; }
    if (event.key === "Enter" && event.target.id === "decision-note") { event.preventDefault(); return; }
    if (event.altKey || event.ctrlKey || event.metaKey || event.repeat || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, select, textarea")) return;
    const button = /^[a-z1-9]$/.test(event.key) && document.querySelector(`#decide [data-key="${event.key}"]`);
    if (button) { event.preventDefault(); button.click(); return; }
    const goal = Object.hasOwn(reached, event.key) && reached[event.key]();
    if (!goal) return;
    event.preventDefault();
    if (goal.matches("a, button")) goal.click();
    else goal.focus();
  });
})();
