// What every page has: theme switch, the security token on htmx requests, confirmations, copy buttons, meters.
"use strict";
(() => {
  const root = document.documentElement;

  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("neurosight-theme", root.dataset.theme);
  });

  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRFToken"] = document.querySelector("meta[name=csrf-token]").content;
  });

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm || event.target.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = document.getElementById(button.dataset.copy)?.textContent.trim() ?? button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
      window.announce(button.dataset.copied);
      button.textContent = button.dataset.copied;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copy) ?? button);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
  });

  // Says a sentence to screen readers.
  window.announce = (text) => {
    document.getElementById("announcer").textContent = text;
  };
})();
