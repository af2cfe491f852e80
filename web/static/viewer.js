// The stage of the study page: steps through slices, draws the heatmap over the slice at the chosen opacity.
// The heatmap arrives as a coloured layer whose alpha is the heat; drawn with globalAlpha = opacity this is exactly
// grey x (1 - opacity x heat) + colour x opacity x heat, the formula of the overlays that the server renders.
"use strict";
(() => {
  const stage = document.getElementById("stage");
  if (!stage) return;
  const by = (id) => document.getElementById(id);
  const canvas = by("overlay");
  const context = canvas.getContext("2d");
  const opacity = by("opacity");
  const colours = by("colours");
  const toggle = by("toggle");
  const pictures = new Map();
  let filter = "all";
  let current = by("slice-facts").dataset.slice;
  let drawing = 0;

  const stored = (name, fallback) => localStorage.getItem(`neurosight-${name}`) ?? fallback;
  const store = (name, value) => localStorage.setItem(`neurosight-${name}`, value);
  opacity.value = stored("opacity", opacity.value);
  if ([...colours.options].some((option) => option.value === stored("colours", ""))) colours.value = stored("colours", "");

  const thumbs = () => [...document.querySelectorAll(".thumb")];
  const shown = () => thumbs().filter((thumb) => !thumb.hidden);
  const neighbour = (by) => document.querySelector(`.strip .pager a[rel="${by < 0 ? "prev" : "next"}"]`);
  const thumbOf = (id) => document.querySelector(`.thumb[data-slice="${id}"]`);

  function picture(address) {
    if (!pictures.has(address)) {
      const image = new Image();
      image.src = address;
      pictures.set(address, image.decode().then(() => image).catch((error) => { pictures.delete(address); throw error; }));
      if (pictures.size > 200) pictures.delete(pictures.keys().next().value);
    }
    return pictures.get(address);
  }

  const layerAddress = (thumb) => `${thumb.dataset.layer}?colour_map=${colours.value}`;

  async function draw() {
    const thumb = thumbOf(current);
    const turn = ++drawing;
    try {
      const image = await picture(thumb.dataset.image);
      const layer = thumb.dataset.layer ? await picture(layerAddress(thumb)) : null;
      if (turn !== drawing) return;
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      context.globalAlpha = 1;
      context.drawImage(image, 0, 0);
      if (layer && toggle.getAttribute("aria-pressed") === "true") {
        context.globalAlpha = opacity.value / 100;
        context.drawImage(layer, 0, 0, canvas.width, canvas.height);
      }
      canvas.dataset.drawn = current;
      stage.classList.remove("failed");
    } catch {
      if (turn === drawing) { stage.classList.add("failed"); window.announce(stage.dataset.failed); }
    }
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
    by("original").src = thumb.dataset.image;
    mark();
    reveal(thumb);
    draw();
    panel(thumb);
    if (record) {
      const query = new URLSearchParams(location.search); // it may name the model whose results are shown
      query.set("slice", id);
      history.replaceState(null, "", `?${query}`);
    }
    const list = shown();
    const place = list.indexOf(thumb);
    for (const near of [list[place + 1], list[place - 1]]) {
      if (!near) continue;
      picture(near.dataset.image).catch(() => {});
      if (near.dataset.layer) picture(layerAddress(near)).catch(() => {});
    }
  }

  function step(by) {
    const list = shown();
    const place = list.findIndex((thumb) => thumb.dataset.slice === current);
    const next = list[Math.min(list.length - 1, Math.max(0, place + by))];
    const beyond = Math.abs(by) === 1 && (place + by < 0 || place + by >= list.length) && neighbour(by);
    if (beyond) beyond.click();
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
      "?": () => by("help").showModal(),
    };
    if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
  });

  let from = null;
  stage.addEventListener("touchstart", (event) => { from = event.target.closest(".screen") ? event.changedTouches[0] : null; }, { passive: true });
  stage.addEventListener("touchend", (event) => {
    if (!from) return;
    const dx = event.changedTouches[0].clientX - from.clientX;
    const dy = event.changedTouches[0].clientY - from.clientY;
    if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
    from = null;
  }, { passive: true });

  // Slices finish while the page is open: the strip is swapped, the stage stays and takes what is new.
  document.addEventListener("htmx:afterSwap", () => {
    applyFilter();
    const thumb = thumbOf(current);
    if (thumb) reveal(thumb);
    if (thumb && !by("panel").querySelector(".verdict") && thumb.dataset.layer) { panel(thumb); draw(); }
  });

  setOpacity(opacity.value);
  applyFilter();
  show(current, { record: false });
})();
