// The viewer's page: where it looks, its lists of regions, its keys.
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
  const whole = new Image();
  whole.src = `../tile/${slide}/0/0/0.jpg`;
  view.overview = new Overview(view, whole);
  if (document.body.dataset.reader) await new Review(view).start();
  await new Marks(view, page).start();
  await whole.decode().catch(async () => fail(await (await fetch(whole.src)).text()));
  view.overview.draw();
  document.body.dataset.ready = "yes";
}

const LEAST_WIDTH_UM = 5;

class View {
  constructor(data, page) {
    this.data = data;
    this.x = page.get_model_by_name("x_range");
    this.y = page.get_model_by_name("y_range");
    this.mark = page.get_model_by_name("mark");
    this.outlines = page.get_model_by_name("outlines");
    this.heatmap = new Heatmap(data, page);
    this.overview = null;
    this.current = -1;
    this.keys = {};
    this.listRegions();
    this.listTakenAway(page.get_model_by_name("taken"));
    document.addEventListener("keydown", (event) => this.key(event));
    byId("figure").addEventListener("pointermove", (event) => {
      byId("under").textContent = this.heatmap.read(this.world(event.clientX, event.clientY));
    });
    byId("figure").addEventListener("pointerleave", () => { byId("under").textContent = ""; });
    for (const range of [this.x, this.y]) {
      range.properties.start.change.connect(() => this.measure());
    }
    // Square pixels whatever the window's shape, also when it changes.
    new ResizeObserver(() => this.move(0, 0, 1)).observe(byId("figure"));
    this.whole();
    // A link to a region, /view/NAME#2, or to another place, micrometres: /view/NAME#120.5,80
    const link = /^#(\d+)(?:(?:\.\d+)?,(\d+(?:\.\d+)?))?$/.exec(location.hash);
    if (link?.[2]) this.look(location.hash.slice(1).split(",").map(Number));
    else if (link) this.go(Number(link[1]) - 1);
  }

  listRegions() {
    byId("regions").append(
      ...this.data.regions.map((region, i) => line(region, `${i + 1}`, () => this.go(i))),
    );
    byId("none").hidden = this.data.regions.length > 0;
  }

  // Regions that are like what readers called harmless; their outlines are drawn when asked for.
  listTakenAway(outlines) {
    const regions = this.data.taken_away;
    byId("taken").hidden = regions.length === 0;
    const show = byId("show-taken");
    show.addEventListener("input", () => { outlines.visible = show.checked; });
    byId("taken-regions").append(
      ...regions.map((region, i) =>
        line(region, `${i + 1}`, () => {
          show.checked = outlines.visible = true;
          this.look(region.um);
        }),
      ),
    );
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
    this.measure();
  }

  whole() {
    const [width, height, side] = this.data.extent;
    const [w, h] = this.size();
    this.show(width / 2, side - height / 2, Math.max(width, (height * w) / h) * 1.04);
  }

  // Go near to a place and mark it.
  look(um) {
    this.show(um[0], um[1], 700);
    this.mark.data = { x: [um[0]], y: [um[1]] };
  }

  go(i) {
    const { regions } = this.data;
    if (!regions.length) return;
    this.current = (i + regions.length) % regions.length;
    this.look(regions[this.current].um);
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
    document.dispatchEvent(new CustomEvent("chosen", { detail: { region } }));
  }

  // World coordinates of a place in the window.
  world(x, y) {
    const box = byId("figure").getBoundingClientRect();
    return [
      this.x.start + ((x - box.left) / box.width) * (this.x.end - this.x.start),
      this.y.end - ((y - box.top) / box.height) * (this.y.end - this.y.start),
    ];
  }

  // The scale bar, the magnification, and the view's place in the overview.
  measure() {
    const [w] = this.size();
    const mpp = (this.x.end - this.x.start) / w;
    const um = mpp * 160;
    const power = 10 ** Math.floor(Math.log10(um));
    const length = [5, 2, 1].find((step) => step * power <= um) * power;
    byId("bar").style.width = `${(length / um) * 160}px`;
    byId("bar-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    byId("power").textContent = `${Number((10 / mpp).toPrecision(2))}×, ${mpp.toPrecision(2)} µm/px`;
    this.overview?.draw();
  }

  center(x, y) {
    this.show(x, y, this.x.end - this.x.start);
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
      h: () => this.heatmap.toggle(),
      g: () => byId("greyed").click(),
      "[": () => this.heatmap.step("opacity", -10),
      "]": () => this.heatmap.step("opacity", 10),
      ",": () => this.heatmap.step("threshold", -25),
      ".": () => this.heatmap.step("threshold", 25),
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

// A region's button in a list.
function line(region, number, go) {
  const button = document.createElement("button");
  const parts = [number, `${region.area_mm2.toFixed(3)} mm²`, region.score.toPrecision(4)];
  for (const text of region.like ? [...parts, `like: ${region.like}`] : parts) {
    const part = document.createElement("span");
    part.textContent = text;
    button.append(part);
  }
  if (region.like) button.lastChild.className = "like";
  button.addEventListener("click", go);
  const item = document.createElement("li");
  item.append(button);
  return item;
}

start().catch((error) => fail(error.message));
