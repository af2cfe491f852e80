// Mouse and fingers on the screens of the stage. Wheel: slices; with Ctrl, or two fingers: size. Drag: the chosen tool
// (window, place or size); the right button changes the size, the middle one the place. A swipe goes to the next slice.
"use strict";
window.gestures = (stage, screens, step) => {
  const points = new Map();
  let tool = "";
  let begun = null;
  let pinch = null;
  let rolled = 0;

  const buttons = [...stage.querySelectorAll("[data-tool]")];
  function choose(name) {
    tool = tool === name ? "" : name;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    stage.dataset.drag = tool;
  }
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.tool));

  const screenOf = (event) => event.target.closest(".screen");
  const place = (event, screen) => {
    const box = screen.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width - 0.5, (event.clientY - box.top) / box.height - 0.5, box.width];
  };

  function drag(name, dx, dy, side, view) {
    if (name === "window") screens.set({ contrast: view.contrast * Math.exp((dx / side) * 2), level: view.level - dy / side });
    else if (name === "pan") screens.set({ x: view.x + dx / side, y: view.y + dy / side });
    else if (name === "zoom") screens.set({ zoom: view.zoom * Math.exp((-dy / side) * 3) });
  }

  stage.addEventListener("wheel", (event) => {
    const screen = screenOf(event);
    if (!screen) return;
    event.preventDefault();
    if (event.ctrlKey) {
      const [x, y] = place(event, screen);
      screens.zoomAt(Math.exp(-event.deltaY / 300), x, y);
      return;
    }
    rolled += event.deltaMode === 0 ? event.deltaY / 60 : event.deltaY;
    const steps = Math.trunc(rolled);
    if (steps) { rolled -= steps; step(Math.sign(steps)); }
  }, { passive: false });

  stage.addEventListener("pointerdown", (event) => {
    const screen = screenOf(event);
    if (!screen) return;
    points.set(event.pointerId, event);
    if (points.size === 2) {
      const [a, b] = [...points.values()];
      pinch = { screen, gap: Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2, view: { ...screens.view } };
      begun = null;
      return;
    }
    const touched = event.pointerType === "touch";
    const name = event.button === 2 ? "zoom" : event.button === 1 ? "pan" : tool || (touched ? (screens.view.zoom > 1 ? "pan" : "swipe") : "window");
    begun = { name, screen, x: event.clientX, y: event.clientY, view: { ...screens.view }, moved: false };
    if (event.button === 1) event.preventDefault();
    if (name !== "swipe") screen.setPointerCapture(event.pointerId);
  });

  stage.addEventListener("pointermove", (event) => {
    if (!points.has(event.pointerId)) return;
    points.set(event.pointerId, event);
    if (pinch && points.size === 2) {
      const [a, b] = [...points.values()];
      const box = pinch.screen.getBoundingClientRect();
      const x = (a.clientX + b.clientX) / 2, y = (a.clientY + b.clientY) / 2;
      screens.set({ ...pinch.view });
      screens.zoomAt(Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) / pinch.gap, (pinch.x - box.left) / box.width - 0.5, (pinch.y - box.top) / box.height - 0.5);
      screens.set({ x: screens.view.x + (x - pinch.x) / box.width, y: screens.view.y + (y - pinch.y) / box.height });
      return;
    }
    if (!begun || begun.name === "swipe") return;
    const dx = event.clientX - begun.x, dy = event.clientY - begun.y;
    if (Math.abs(dx) + Math.abs(dy) > 3) begun.moved = true;
    if (begun.moved) drag(begun.name, dx, dy, begun.screen.clientWidth, begun.view);
  });

  function ended(event) {
    points.delete(event.pointerId);
    if (points.size < 2) pinch = null;
    if (begun?.name === "swipe" && event.type === "pointerup") {
      const dx = event.clientX - begun.x, dy = event.clientY - begun.y;
      if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
    }
    begun = null;
  }
  stage.addEventListener("pointerup", ended);
  stage.addEventListener("pointercancel", ended);
  stage.addEventListener("contextmenu", (event) => { if (screenOf(event)) event.preventDefault(); });
  stage.addEventListener("dblclick", (event) => { if (screenOf(event)) screens.reset(); });
};
