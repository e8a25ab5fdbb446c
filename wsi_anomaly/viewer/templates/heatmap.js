// The score map over the slide: its colours, the scale beside it, the score under the pointer.
"use strict";

// Bokeh fetches the parts of what it shows ahead, also where there are none.
function deepestHasNoParts(source) {
  const parts = source.children_by_tile_xyz.bind(source);
  source.children_by_tile_xyz = (x, y, zoom) => (zoom < source.max_zoom ? parts(x, y, zoom) : []);
}

class Heatmap {
  constructor(data, page) {
    this.data = data;
    this.map = page.get_model_by_name("map");
    this.slide = page.get_model_by_name("slide");
    this.grey = page.get_model_by_name("grey");
    this.shown = true;
    for (const { tile_source } of [this.slide, this.grey]) deepestHasNoParts(tile_source);
    for (const id of ["opacity", "threshold", "own", "greyed"]) {
      byId(id).addEventListener("input", () => this.paint());
    }
    this.paint();
  }

  // Lowest score that is shown: the slider's left end shows everything, its right the highest.
  threshold() {
    const [low] = this.data.color_range;
    const share = byId("threshold").value / 1000;
    if (share === 0) return -Infinity;
    return share === 1 ? this.data.highest : low + share * (this.data.highest - low);
  }

  range() {
    return byId("own").checked ? this.data.own_range : this.data.color_range;
  }

  paint() {
    const { scores, kind, colors } = this.data;
    const [low, high] = this.range();
    const opacity = this.shown ? byId("opacity").value / 100 : 0;
    const least = this.threshold();
    const image = this.map.data.image[0];
    const bytes = new Uint8Array(image.buffer, image.byteOffset, image.byteLength);
    const [rows, columns] = image.shape;
    let above = 0;
    let fields = 0;
    for (let i = 0; i < scores.length; i++) {
      // Bokeh's first row is the lowest one.
      const at = 4 * ((rows - 1 - Math.floor(i / columns)) * columns + (i % columns));
      let color = [0, 0, 0, 0];
      if (kind[i] === 2) {
        color = this.data.not_assessed;
      } else if (kind[i] === 1) {
        fields += 1;
        if (scores[i] >= least) {
          above += 1;
          const share = Math.min(1, Math.max(0, (scores[i] - low) / (high - low)));
          color = colors[Math.round(share * (colors.length - 1))];
        }
      }
      bytes.set([color[0], color[1], color[2], Math.round(color[3] * opacity)], at);
    }
    this.map.change.emit();
    // Without the heatmap the tissue has its own colours.
    const grey = byId("greyed").checked && opacity > 0;
    this.grey.visible = grey;
    this.slide.visible = !grey;
    this.drawScale();
    byId("opacity-value").textContent = this.shown ? `${byId("opacity").value}%` : "off";
    byId("threshold-value").textContent = least === -Infinity ? "all" : least.toPrecision(4);
    byId("counted").textContent =
      `${above.toLocaleString("en")} of ${fields.toLocaleString("en")} fields` +
      (this.data.threshold === null ? "" : ` · operating point ${this.data.threshold.toPrecision(4)}`);
  }

  // The colours from low to high, and scores below them.
  drawScale() {
    const canvas = byId("scale");
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    this.data.colors.forEach(([r, g, b, a], i) => {
      context.fillStyle = `rgba(${r},${g},${b},${a / 255})`;
      context.fillRect((i * canvas.width) / this.data.colors.length, 0, 2, canvas.height);
    });
    const [low, high] = this.range();
    const ticks = byId("own").checked ? this.data.own_ticks : this.data.ticks;
    byId("ticks").replaceChildren(
      ...ticks.map(([value, label]) => {
        const tick = document.createElement("span");
        tick.textContent = label;
        tick.style.left = `${(100 * (value - low)) / (high - low)}%`;
        return tick;
      }),
    );
  }

  toggle() {
    this.shown = !this.shown;
    this.paint();
  }

  step(id, step) {
    byId(id).value = Number(byId(id).value) + step;
    this.paint();
  }

  // Row and column of the cell at a place of the world; null outside the grid.
  cell([x, y]) {
    const { left, top, step, shape } = this.data.cells;
    const [row, column] = [Math.floor((top - y) / step[1]), Math.floor((x - left) / step[0])];
    return row < 0 || column < 0 || row >= shape[0] || column >= shape[1] ? null : [row, column];
  }

  // What is known of the field at a place of the world.
  read(place) {
    const cell = this.cell(place);
    const at = cell && cell[0] * this.data.cells.shape[1] + cell[1];
    const kind = cell ? this.data.kind[at] : 0;
    if (kind !== 1) return kind === 2 ? "not assessed" : "";
    const percentile = this.data.percentiles?.[at] ?? null;
    const among =
      percentile === null ? "" : percentile >= 100 ? " · above all normal fields" : ` · percentile ${percentile}`;
    return `score ${this.data.scores[at].toPrecision(4)}${among}`;
  }
}
