// The pictures of the stage: draws slices with the reader's window, zoom and place, all of them alike.
// A slice comes as the scanner's values (values.bin) and is windowed here, at its own depth. The reader's window is kept
// relative to each slice's own: so it stays sensible from slice to slice, and from a scanner's numbers to a PNG's.
"use strict";
window.Screens = class {
  #view = { level: 0, contrast: 1, zoom: 1, x: 0, y: 0, inverted: false };
  #values = new Map();
  #pictures = new Map();
  #drawn = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
    new ResizeObserver(() => this.redraw()).observe(document.querySelector(".pictures"));
  }

  get view() { return this.#view; }

  // Shows a slice on a canvas: { values, image } are addresses; layer is one or null; opacity 0 to 1.
  async show(canvas, slice, layer, opacity) {
    const [source, heat] = await Promise.all([this.#source(slice), layer ? this.picture(layer) : null]);
    this.#drawn.set(canvas, { source, heat, opacity });
    this.#draw(canvas);
    if (canvas.id === "overlay") this.#changed(this);
  }

  prefetch(slice, layer) {
    this.#source(slice).catch(() => {});
    if (layer) this.picture(layer).catch(() => {});
  }

  // The window of the slice on this canvas, in the scanner's unit; null for one that came as a picture only.
  window(canvas) {
    const source = this.#drawn.get(canvas)?.source;
    if (!source?.stored) return null;
    return {
      centre: source.centre + this.#view.level * source.width,
      width: source.width * this.#view.contrast,
      inverted: source.inverted !== this.#view.inverted,
    };
  }

  set(change) {
    const view = { ...this.#view, ...change };
    view.level = Math.min(1.5, Math.max(-1.5, view.level));
    view.contrast = Math.min(4, Math.max(0.02, view.contrast));
    view.zoom = Math.min(12, Math.max(1, view.zoom));
    const reach = (view.zoom - 1) / 2;
    view.x = Math.min(reach, Math.max(-reach, view.x));
    view.y = Math.min(reach, Math.max(-reach, view.y));
    this.#view = view;
    this.redraw();
    this.#changed(this);
  }

  reset() { this.set({ level: 0, contrast: 1, zoom: 1, x: 0, y: 0, inverted: false }); }

  // Enlarges around a point of the screen, given as a share of its width and height from the middle.
  zoomAt(factor, px, py) {
    const { zoom, x, y } = this.#view;
    const next = Math.min(12, Math.max(1, zoom * factor));
    const ratio = next / zoom;
    this.set({ zoom: next, x: px - (px - x) * ratio, y: py - (py - y) * ratio });
  }

  redraw() { for (const canvas of this.#drawn.keys()) this.#draw(canvas); }

  clear(canvas) { this.#drawn.delete(canvas); }

  picture(address) {
    return this.#once(this.#pictures, 200, address, async () => {
      const image = new Image();
      image.src = address;
      await image.decode();
      return image;
    });
  }

  #source(slice) {
    return this.#once(this.#values, 60, slice.values, async () => {
      const answer = await fetch(slice.values);
      if (!answer.ok) return this.#fallback(slice);
      const fact = (name) => Number(answer.headers.get(`Slice-${name}`));
      const slope = fact("Slope"), intercept = fact("Intercept");
      const buffer = await answer.arrayBuffer();
      const source = {
        rows: fact("Rows"), columns: fact("Columns"), slope, intercept,
        centre: fact("Window-Centre"), width: fact("Window-Width"), inverted: fact("Inverted") === 1,
        stored: new Uint16Array(buffer), canvas: document.createElement("canvas"), shown: "",
      };
      if (source.stored.length !== source.rows * source.columns) return this.#fallback(slice);
      source.canvas.width = source.columns;
      source.canvas.height = source.rows;
      return source;
    });
  }

  // Without values the slice is shown as the server draws it; only the window cannot be changed then.
  async #fallback(slice) {
    const image = await this.picture(slice.image);
    return { rows: image.naturalHeight, columns: image.naturalWidth, canvas: image };
  }

  #once(kept, most, key, make) {
    if (!kept.has(key)) {
      kept.set(key, make().catch((error) => { kept.delete(key); throw error; }));
      if (kept.size > most) kept.delete(kept.keys().next().value);
    }
    return kept.get(key);
  }

  #apply(source, canvas) {
    const { centre, width, inverted } = this.window(canvas);
    const key = `${centre} ${width} ${inverted}`;
    if (source.shown === key) return;
    source.shown = key;
    const { stored, slope, intercept } = source;
    const table = new Uint8ClampedArray(65536);
    const low = centre - width / 2;
    for (let value = 0; value < 65536; value++) {
      const grey = ((value * slope + intercept - low) / width) * 255;
      table[value] = inverted ? 255 - Math.min(255, Math.max(0, grey)) : grey;
    }
    const context = source.canvas.getContext("2d");
    const picture = context.createImageData(source.columns, source.rows);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let at = 0; at < stored.length; at++) pixels[at] = 0xff000000 | (table[stored[at]] * 0x010101);
    context.putImageData(picture, 0, 0);
  }

  #draw(canvas) {
    const { source, heat, opacity } = this.#drawn.get(canvas);
    if (source.stored) this.#apply(source, canvas);
    const dense = Math.min(3, window.devicePixelRatio || 1);
    const side = Math.max(64, Math.round(canvas.clientWidth * dense));
    if (canvas.width !== side) { canvas.width = side; canvas.height = side; }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, side, side);
    const { zoom, x, y } = this.#view;
    const scale = (side / Math.max(source.rows, source.columns)) * zoom;
    context.translate(side / 2 + x * side, side / 2 + y * side);
    context.scale(scale, scale);
    context.translate(-source.columns / 2, -source.rows / 2);
    context.imageSmoothingEnabled = scale < 4; // far in, the pixels themselves are wanted
    context.imageSmoothingQuality = "high";
    context.globalAlpha = 1;
    context.drawImage(source.canvas, 0, 0, source.columns, source.rows);
    if (heat) {
      context.imageSmoothingEnabled = true;
      context.globalAlpha = opacity;
      context.drawImage(heat, 0, 0, source.columns, source.rows);
    }
  }
};
