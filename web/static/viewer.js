// The stage of the study page: steps through slices, shows each with its heatmap, beside it another model or an older study.
// The heatmap arrives as a coloured layer whose alpha is the heat; drawn with globalAlpha = opacity this is exactly
// grey x (1 - opacity x heat) + colour x opacity x heat, the formula of the overlays that the server renders.
// How a picture is windowed and enlarged, screens.js knows; what mouse and fingers mean, gestures.js.
"use strict";
(() => {
  const stage = document.getElementById("stage");
  if (!stage) return;
  const by = (id) => document.getElementById(id);
  const opacity = by("opacity");
  const colours = by("colours");
  const toggle = by("toggle");
  const against = by("against");
  const sliders = { level: by("level"), contrast: by("contrast"), zoom: by("zoom") };
  let filter = "all";
  let current = by("slice-facts").dataset.slice;
  let drawing = 0;
  let other = null;

  const stored = (name, fallback) => localStorage.getItem(`neurosight-${name}`) ?? fallback;
  const store = (name, value) => localStorage.setItem(`neurosight-${name}`, value);
  opacity.value = stored("opacity", opacity.value);
  if ([...colours.options].some((option) => option.value === stored("colours", ""))) colours.value = stored("colours", "");

  const thumbs = () => [...document.querySelectorAll(".thumb")];
  const shown = () => thumbs().filter((thumb) => !thumb.hidden);
  const neighbour = (by) => document.querySelector(`.strip .pager a[rel="${by < 0 ? "prev" : "next"}"]`);
  const thumbOf = (id) => document.querySelector(`.thumb[data-slice="${id}"]`);
  const round = (value) => (Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3)));

  const screens = new window.Screens(() => {
    const { level, contrast, zoom, inverted } = screens.view;
    sliders.level.value = level;
    sliders.contrast.value = Math.log2(contrast);
    sliders.zoom.value = Math.log2(zoom);
    const found = screens.window(by("overlay"));
    by("window-value").textContent = found ? `${round(found.centre)} / ${round(found.width)}` : "–";
    by("zoom-value").textContent = `${Math.round(zoom * 100)} %`;
    by("invert").setAttribute("aria-pressed", String(inverted));
    stage.classList.toggle("enlarged", zoom > 1);
  });

  const sliceOf = (thumb) => ({ values: thumb.dataset.values, image: thumb.dataset.image });
  const coloured = (address) => `${address}?colour_map=${colours.value}`;
  const layerAddress = (thumb) => (thumb.dataset.layer ? coloured(thumb.dataset.layer) : null);
  const heatmapOn = () => toggle.getAttribute("aria-pressed") === "true";

  async function draw() {
    const thumb = thumbOf(current);
    const turn = ++drawing;
    try {
      const layer = heatmapOn() ? layerAddress(thumb) : null;
      screens.prefetch(sliceOf(thumb), layer);
      await screens.show(by("original"), sliceOf(thumb), null, 0);
      if (turn !== drawing) return;
      await screens.show(by("overlay"), sliceOf(thumb), layer, opacity.value / 100);
      if (turn !== drawing) return;
      await drawOther(thumb);
      by("overlay").dataset.drawn = current;
      stage.classList.remove("failed");
    } catch {
      if (turn === drawing) { stage.classList.add("failed"); window.announce(stage.dataset.failed); }
    }
  }

  // The slice beside: of another model the same one; of another study the nearest one of the same plane.
  function counterpart(thumb) {
    const same = other.slices.find((item) => item.id === thumb.dataset.slice);
    if (same) return same;
    const alike = other.slices.filter((item) => (item.plane ?? "") === thumb.dataset.plane);
    const place = Number(thumb.dataset.position);
    if (!alike.length) return null;
    if (thumb.dataset.position === "" || alike.some((item) => item.position_mm === null)) {
      const peers = shown().filter((item) => item.dataset.plane === thumb.dataset.plane);
      return alike[Math.round((peers.indexOf(thumb) / Math.max(1, peers.length - 1)) * (alike.length - 1))];
    }
    return alike.reduce((best, item) => (Math.abs(item.position_mm - place) < Math.abs(best.position_mm - place) ? item : best));
  }

  function verdict(found) {
    if (!found) return stage.dataset.unanalysed;
    if (found.abstention) return stage.dataset.abstained;
    return `${other.words[found.class_name] ?? found.class_name} ${(100 * found.probability).toFixed(1)} %`;
  }

  async function drawOther(thumb) {
    const figure = by("beside");
    figure.hidden = !other;
    if (!other) { screens.clear(by("compared")); return; }
    const slice = counterpart(thumb);
    by("compared").hidden = !slice;
    const chosen = against.selectedOptions[0].textContent;
    if (!slice) { by("compared-text").textContent = `${chosen}: ${stage.dataset.none}`; screens.clear(by("compared")); return; }
    const found = slice.prediction;
    const where = slice.position_mm === null ? "" : ` (${round(slice.position_mm)} mm)`;
    by("compared-text").textContent = `${chosen}${other.same ? "" : where}: ${verdict(found)}`;
    const layer = found && !found.abstention && heatmapOn() ? coloured(found.links.heatmap) : null;
    await screens.show(by("compared"), { values: slice.links.values, image: slice.links.image }, layer, opacity.value / 100);
  }

  async function compare() {
    other = null;
    if (against.value) {
      try {
        const answer = await fetch(against.value);
        if (!answer.ok) throw new Error(answer.status);
        const { slices } = await answer.json();
        other = { slices, same: slices.some((item) => item.id === current), words: JSON.parse(stage.dataset.words) };
      } catch {
        against.value = "";
        window.announce(stage.dataset.failed);
      }
    }
    draw();
  }

  async function panel(thumb) {
    const answer = await fetch(thumb.dataset.panel, { headers: { "HX-Request": "true" } });
    if (!answer.ok || thumb.dataset.slice !== current) return;
    by("panel").innerHTML = await answer.text();
  }

  function mark() {
    for (const thumb of thumbs()) {
      if (thumb.dataset.slice === current) thumb.setAttribute("aria-current", "true");
      else thumb.removeAttribute("aria-current");
    }
    const list = shown();
    const place = list.findIndex((thumb) => thumb.dataset.slice === current);
    // A page of a large study counts on from the pages before it; its ends lead to its neighbours.
    const { before, total } = by("series").dataset;
    const all = document.querySelector("[data-filter]") ? list.length : total;
    by("place").textContent = place < 0 ? "" : `${Number(before) + place + 1} / ${all}`;
    by("previous").disabled = place <= 0 && !neighbour(-1);
    by("next").disabled = place < 0 || (place >= list.length - 1 && !neighbour(1));
  }

  // Scrolls the filmstrip, whichever way it lies, never the page.
  function reveal(thumb) {
    const film = by("series");
    film.scrollTo({
      left: thumb.offsetLeft - (film.clientWidth - thumb.clientWidth) / 2,
      top: thumb.offsetTop - (film.clientHeight - thumb.clientHeight) / 2,
    });
  }

  function show(id, { record = true } = {}) {
    const thumb = thumbOf(id);
    if (!thumb) return;
    current = id;
    mark();
    reveal(thumb);
    draw();
    if (by("slice-facts").dataset.slice !== id) panel(thumb); // else a note that is being written would be lost
    if (record) {
      const query = new URLSearchParams(location.search); // it may name the model whose results are shown
      query.set("slice", id);
      history.replaceState(null, "", `?${query}`);
    }
    const list = shown();
    const place = list.indexOf(thumb);
    for (const near of [list[place + 1], list[place - 1]]) {
      if (!near) continue;
      screens.prefetch(sliceOf(near), layerAddress(near));
    }
  }

  function step(by) {
    const list = shown();
    const place = list.findIndex((thumb) => thumb.dataset.slice === current);
    const next = list[Math.min(list.length - 1, Math.max(0, place + by))];
    const beyond = Math.abs(by) === 1 && (place + by < 0 || place + by >= list.length) && neighbour(by);
    if (beyond) location.assign(by < 0 ? `${beyond.href}#last` : beyond.href); // backwards, its last slice
    else if (next && next.dataset.slice !== current) show(next.dataset.slice);
  }

  function setOpacity(value) {
    opacity.value = value;
    by("opacity-value").textContent = `${opacity.value} %`;
    store("opacity", opacity.value);
    draw();
  }

  function setHeatmap(on) {
    toggle.setAttribute("aria-pressed", String(on));
    draw();
  }

  function applyFilter() {
    for (const thumb of thumbs()) {
      thumb.hidden = (filter === "tumour" && thumb.dataset.tumour !== "yes") || (filter === "abstained" && thumb.dataset.abstained !== "yes") || (filter === "failed" && thumb.dataset.state !== "failed");
    }
    for (const section of document.querySelectorAll(".strip section")) section.hidden = ![...section.querySelectorAll(".thumb")].some((thumb) => !thumb.hidden);
    for (const button of document.querySelectorAll("[data-filter]")) button.setAttribute("aria-pressed", String(button.dataset.filter === filter));
    const list = shown();
    if (list.length && !list.some((thumb) => thumb.dataset.slice === current)) show(list[0].dataset.slice);
    else mark();
  }

  opacity.addEventListener("input", () => setOpacity(opacity.value));
  colours.addEventListener("change", () => { store("colours", colours.value); draw(); });
  toggle.addEventListener("click", () => setHeatmap(toggle.getAttribute("aria-pressed") !== "true"));
  against?.addEventListener("change", compare);
  sliders.level.addEventListener("input", () => screens.set({ level: Number(sliders.level.value) }));
  sliders.contrast.addEventListener("input", () => screens.set({ contrast: 2 ** sliders.contrast.value }));
  sliders.zoom.addEventListener("input", () => screens.set({ zoom: 2 ** sliders.zoom.value }));
  const invert = () => screens.set({ inverted: !screens.view.inverted });
  by("invert").addEventListener("click", invert);
  by("reset").addEventListener("click", () => screens.reset());
  by("previous").addEventListener("click", () => step(-1));
  by("next").addEventListener("click", () => step(1));
  by("keys").addEventListener("click", () => by("help").showModal());

  document.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    const button = event.target.closest("[data-filter]");
    if (thumb && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      show(thumb.dataset.slice);
      stage.scrollIntoView({ block: "nearest" });
    } else if (button) {
      filter = button.dataset.filter;
      applyFilter();
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || by("help").open) return;
    const field = event.target.closest("input, select, textarea");
    if (field && !(field === opacity && !event.key.startsWith("Arrow"))) return;
    const actions = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), k: () => step(-1), j: () => step(1),
      Home: () => step(-1e6), End: () => step(1e6),
      h: () => setHeatmap(toggle.getAttribute("aria-pressed") !== "true"),
      "[": () => setOpacity(Number(opacity.value) - 5), "]": () => setOpacity(Number(opacity.value) + 5),
      i: invert, 0: () => screens.reset(),
      "+": () => screens.zoomAt(1.25, 0, 0), "-": () => screens.zoomAt(0.8, 0, 0),
      ",": () => screens.set({ level: screens.view.level + 0.05 }), ".": () => screens.set({ level: screens.view.level - 0.05 }),
      "<": () => screens.set({ contrast: screens.view.contrast * 1.1 }), ">": () => screens.set({ contrast: screens.view.contrast / 1.1 }),
      "?": () => by("help").showModal(),
    };
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });

  window.gestures(stage, screens, step);

  // Slices finish while the page is open: the strip is swapped, the stage stays and takes what is new.
  document.addEventListener("htmx:afterSwap", () => {
    applyFilter();
    const thumb = thumbOf(current);
    if (thumb) reveal(thumb);
    if (thumb && !by("panel").querySelector(".verdict") && thumb.dataset.layer) { panel(thumb); draw(); }
  });

  setOpacity(opacity.value);
  applyFilter();
  if (location.hash === "#last") current = shown().at(-1)?.dataset.slice ?? current;
  show(current, { record: false });
})();
