// The viewer's page: colours the score map, jumps to regions, listens to the keyboard.
"use strict";

const slide = document.body.dataset.slide;
const byId = (id) => document.getElementById(id);

function fail(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

async function start() {
  const answer = await fetch(`../data/${slide}`);
  if (!answer.ok) throw new Error(await answer.text());
  const data = await answer.json();
  await Bokeh.embed.embed_item(data.figure);
  const page = Bokeh.documents[0];
  const view = new View(data, page);
  if (document.body.dataset.reader) await new Review(view).start();
  const probe = await fetch(`../tile/${slide}/0/0/0.jpg`);
  if (!probe.ok) fail(await probe.text());
  document.body.dataset.ready = "yes";
}

const LEAST_WIDTH_UM = 5;

class View {
  constructor(data, page) {
    this.data = data;
    this.x = page.get_model_by_name("x_range");
    this.y = page.get_model_by_name("y_range");
    this.map = page.get_model_by_name("map");
    this.heatmap = page.get_model_by_name("heatmap");
    this.mark = page.get_model_by_name("mark");
    this.current = -1;
    this.outlines = page.get_model_by_name("outlines");
    this.keys = {};
    this.shown = true;
    this.listRegions();
    this.drawScale();
    for (const id of ["opacity", "threshold", "own"]) {
      byId(id).addEventListener("input", () => this.paint());
    }
    document.addEventListener("keydown", (event) => this.key(event));
    byId("figure").addEventListener("pointermove", (event) => this.read(event));
    byId("figure").addEventListener("pointerleave", () => { byId("under").textContent = ""; });
    for (const range of [this.x, this.y]) {
      range.properties.start.change.connect(() => this.drawBar());
    }
    // Square pixels whatever the window's shape, also when it changes.
    new ResizeObserver(() => this.move(0, 0, 1)).observe(byId("figure"));
    this.whole();
    this.paint();
    // A link to a region: /view/NAME#2
    if (/^#\d+$/.test(location.hash)) this.go(Number(location.hash.slice(1)) - 1);
  }

  // Lowest score that is shown: the slider's left end shows everything, its right the highest.
  threshold() {
    const [low] = this.data.color_range;
    const share = byId("threshold").value / 1000;
    if (share === 0) return -Infinity;
    return share === 1 ? this.data.highest : low + share * (this.data.highest - low);
  }

  paint() {
    const { scores, kind, colors } = this.data;
    const [low, high] = byId("own").checked ? this.data.own_range : this.data.color_range;
    const opacity = this.shown ? byId("opacity").value / 100 : 0;
    const least = this.threshold();
    const image = this.map.data.image[0];
    const bytes = new Uint8Array(image.buffer, image.byteOffset, image.byteLength);
    const [rows, columns] = image.shape;
    let above = 0;
    for (let i = 0; i < scores.length; i++) {
      // Bokeh's first row is the lowest one.
      const at = 4 * ((rows - 1 - Math.floor(i / columns)) * columns + (i % columns));
      let color = [0, 0, 0, 0];
      if (kind[i] === 2) {
        color = this.data.not_assessed;
      } else if (kind[i] === 1 && scores[i] >= least) {
        above += 1;
        const share = Math.min(1, Math.max(0, (scores[i] - low) / (high - low)));
        color = colors[Math.round(share * (colors.length - 1))];
      }
      bytes.set([color[0], color[1], color[2], Math.round(color[3] * opacity)], at);
    }
    this.map.change.emit();
    byId("scale-low").textContent = low.toPrecision(3);
    byId("scale-high").textContent = high.toPrecision(3);
    byId("opacity-value").textContent = this.shown ? `${byId("opacity").value}%` : "off";
    byId("threshold-value").textContent = least === -Infinity ? "all" : least.toPrecision(4);
    const fields = kind.filter((k) => k === 1).length;
    byId("counted").textContent =
      `${above.toLocaleString("en")} of ${fields.toLocaleString("en")} fields` +
      (this.data.threshold === null ? "" : ` · operating point ${this.data.threshold.toPrecision(4)}`);
  }

  drawScale() {
    const canvas = byId("scale");
    const context = canvas.getContext("2d");
    this.data.colors.forEach(([r, g, b, a], i) => {
      context.fillStyle = `rgba(${r},${g},${b},${a / 255})`;
      context.fillRect((i * canvas.width) / this.data.colors.length, 0, 2, canvas.height);
    });
  }

  listRegions() {
    const list = byId("regions");
    this.data.regions.forEach((region, i) => {
      const button = document.createElement("button");
      for (const text of [
        `${i + 1}`,
        `${region.area_mm2.toFixed(3)} mm²`,
        region.score.toPrecision(4),
      ]) {
        const part = document.createElement("span");
        part.textContent = text;
        button.append(part);
      }
      button.addEventListener("click", () => this.go(i));
      const item = document.createElement("li");
      item.append(button);
      list.append(item);
    });
    byId("none").hidden = this.data.regions.length > 0;
  }

  size() {
    const box = byId("figure").getBoundingClientRect();
    return [box.width, box.height];
  }

  show(x, y, width) {
    const [w, h] = this.size();
    // Never so far out that the slide is a speck, nor a pixel larger than the window.
    const widest = 3 * Math.max(this.data.extent[0], (this.data.extent[1] * w) / h);
    width = Math.min(Math.max(width, LEAST_WIDTH_UM), widest);
    const height = (width * h) / w;
    this.x.setv({ start: x - width / 2, end: x + width / 2 });
    this.y.setv({ start: y - height / 2, end: y + height / 2 });
    this.drawBar();
  }

  whole() {
    const [width, height, side] = this.data.extent;
    const [w, h] = this.size();
    this.show(width / 2, side - height / 2, Math.max(width, (height * w) / h) * 1.04);
  }

  go(i) {
    const { regions } = this.data;
    if (!regions.length) return;
    this.current = (i + regions.length) % regions.length;
    const region = regions[this.current];
    this.show(region.um[0], region.um[1], 700);
    this.choose(this.current, null);
  }

  // Take a region, or one field, for the place that is looked at; the view stays.
  choose(region, field) {
    const { regions, cells } = this.data;
    const list = byId("regions");
    list.querySelector("[aria-current=true]")?.removeAttribute("aria-current");
    let um;
    if (region !== null) {
      this.current = region;
      um = regions[region].um;
      const button = list.children[region].firstChild;
      button.setAttribute("aria-current", true);
      button.scrollIntoView({ block: "nearest" });
      const [x, y] = regions[region].qupath;
      byId("place").textContent = `Region ${region + 1}: x ${x}, y ${y} in QuPath`;
    } else {
      um = [
        cells.left + (field[1] + 0.5) * cells.step[0],
        cells.top - (field[0] + 0.5) * cells.step[1],
      ];
      byId("place").textContent = `Field in row ${field[0] + 1}, column ${field[1] + 1}`;
    }
    this.mark.data = { x: [um[0]], y: [um[1]] };
    this.onchoose?.(region, field);
  }

  // World coordinates of a place in the window.
  world(x, y) {
    const box = byId("figure").getBoundingClientRect();
    return [
      this.x.start + ((x - box.left) / box.width) * (this.x.end - this.x.start),
      this.y.end - ((y - box.top) / box.height) * (this.y.end - this.y.start),
    ];
  }

  // Score under the pointer.
  read(event) {
    const cell = this.cell(this.world(event.clientX, event.clientY));
    const at = cell && cell[0] * this.data.cells.shape[1] + cell[1];
    const kind = cell ? this.data.kind[at] : 0;
    byId("under").textContent =
      kind === 1 ? `score ${this.data.scores[at].toPrecision(4)}` : kind === 2 ? "not assessed" : "";
  }

  // Row and column of the cell at a place of the world; null outside the grid.
  cell([x, y]) {
    const { left, top, step, shape } = this.data.cells;
    const [row, column] = [Math.floor((top - y) / step[1]), Math.floor((x - left) / step[0])];
    return row < 0 || column < 0 || row >= shape[0] || column >= shape[1] ? null : [row, column];
  }

  drawBar() {
    const [w] = this.size();
    const um = ((this.x.end - this.x.start) / w) * 160;
    const power = 10 ** Math.floor(Math.log10(um));
    const length = [5, 2, 1].find((step) => step * power <= um) * power;
    byId("bar").style.width = `${(length / um) * 160}px`;
    byId("bar-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  }

  slide(id, step) {
    byId(id).value = Number(byId(id).value) + step;
    this.paint();
  }

  move(x, y, zoom) {
    const width = this.x.end - this.x.start;
    const height = this.y.end - this.y.start;
    const middle = [(this.x.start + this.x.end) / 2, (this.y.start + this.y.end) / 2];
    this.show(middle[0] + x * width, middle[1] + y * height, width * zoom);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input[type=text], textarea")) return;
    const inSlider = event.target.tagName === "INPUT" && event.key.startsWith("Arrow");
    const actions = {
      n: () => this.go(this.next?.() ?? this.current + 1),
      p: () => this.go(this.current < 0 ? -1 : this.current - 1),
      h: () => { this.shown = !this.shown; this.paint(); },
      "[": () => this.slide("opacity", -10),
      "]": () => this.slide("opacity", 10),
      ",": () => this.slide("threshold", -25),
      ".": () => this.slide("threshold", 25),
      "+": () => this.move(0, 0, 1 / 1.5),
      "=": () => this.move(0, 0, 1 / 1.5),
      "-": () => this.move(0, 0, 1.5),
      0: () => this.whole(),
      ArrowLeft: () => this.move(-0.2, 0, 1),
      ArrowRight: () => this.move(0.2, 0, 1),
      ArrowUp: () => this.move(0, 0.2, 1),
      ArrowDown: () => this.move(0, -0.2, 1),
      ...this.keys,
    };
    if (!inSlider && actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  }
}

start().catch((error) => fail(error.message));
