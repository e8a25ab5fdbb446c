// Drawing an outline on the slide: by clicks, by a drag, or by keys at the crosshair.
"use strict";

const FEWEST_POINTS = 3;
const MOST_POINTS = 2000;
const CLICK_PX = 4; // a press that moves less is a click
const STEP_PX = 5; // between the points of a drag
const HOME_PX = 12; // a click so near to the first point closes the outline

class Drawing {
  // `changed` is called with the area in mm² or null, `closed` with the outline's corners (um).
  constructor(view, { changed, closed, cancelled }) {
    this.view = view;
    this.on = { changed, closed, cancelled };
    this.sheet = byId("draw");
    this.points = [];
    this.state = "idle"; // drawing, or closed: it is being named
    this.sheet.addEventListener("pointerdown", (event) => this.down(event));
    this.sheet.addEventListener("pointermove", (event) => this.moved(event));
    this.sheet.addEventListener("pointerup", (event) => this.up(event));
    this.sheet.addEventListener("dblclick", () => this.close());
    this.sheet.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    // Before the page's own keys: no letter is a verdict meanwhile.
    document.addEventListener("keydown", (event) => this.key(event), true);
    for (const range of [view.x, view.y]) {
      range.properties.start.change.connect(() => this.paint());
    }
  }

  begin() {
    this.points = [];
    this.here = this.press = null;
    this.state = "drawing";
    this.keyed = true; // until the mouse moves there is a crosshair
    this.sheet.hidden = false;
    this.sheet.focus();
    this.changed();
  }

  end() {
    this.state = "idle";
    this.points = [];
    this.sheet.hidden = true;
  }

  cancel() {
    this.end();
    this.on.cancelled();
  }

  down(event) {
    if (this.state !== "drawing" || event.button !== 0) return;
    this.sheet.setPointerCapture(event.pointerId);
    this.sheet.focus();
    this.press = { at: [event.clientX, event.clientY], first: !this.points.length, dragged: false };
  }

  moved(event) {
    if (this.state !== "drawing") return;
    const at = [event.clientX, event.clientY];
    this.keyed = false;
    this.here = this.view.world(...at);
    if (this.press) {
      if (!this.press.dragged && away(at, this.press.at) > CLICK_PX) {
        this.press.dragged = true;
        this.add(this.press.at);
      }
      if (this.press.dragged && away(at, this.last()) >= STEP_PX) this.add(at);
    }
    this.changed();
  }

  up(event) {
    if (this.state !== "drawing" || !this.press) return;
    const at = [event.clientX, event.clientY];
    const { dragged, first } = this.press;
    this.press = null;
    if (dragged) {
      if (away(at, this.last()) > 1) this.add(at);
      // One drag round some tissue is an outline; after clicks it is a part of one.
      if (first && this.points.length >= FEWEST_POINTS) this.close();
    } else if (this.points.length >= FEWEST_POINTS && away(at, this.place(this.points[0])) < HOME_PX) {
      this.close();
    } else if (!this.points.length || away(at, this.last()) > CLICK_PX) {
      this.add(at); // the second click of a double one is none
    }
    this.changed();
  }

  wheel(event) {
    event.preventDefault();
    const { view } = this;
    const zoom = 1.0015 ** event.deltaY;
    const [x, y] = view.world(event.clientX, event.clientY);
    const width = view.x.end - view.x.start;
    const middle = [(view.x.start + view.x.end) / 2, (view.y.start + view.y.end) / 2];
    view.show(x + (middle[0] - x) * zoom, y + (middle[1] - y) * zoom, width * zoom);
  }

  key(event) {
    if (this.state === "idle" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      this.taken(event);
      this.cancel();
    } else if (this.state === "drawing" && !event.target.matches("input, textarea, button, a, summary")) {
      const actions = {
        Enter: () => this.close(),
        Backspace: () => { this.points.pop(); this.changed(); },
        " ": () => {
          this.keyed = true;
          this.here = null;
          this.add(this.crosshair());
          this.changed();
        },
      };
      if (actions[event.key]) {
        this.taken(event);
        actions[event.key]();
      } else if (event.key.startsWith("Arrow")) {
        this.keyed = true; // the page moves the slide under the crosshair
        this.here = null;
        this.changed();
      } else if (/^[a-z]$/.test(event.key) && !"hg".includes(event.key)) {
        this.taken(event);
      }
    }
  }

  taken(event) {
    event.preventDefault();
    event.stopPropagation();
  }

  add(at) {
    if (this.points.length < MOST_POINTS) this.points.push(this.view.world(...at));
  }

  close() {
    if (this.state !== "drawing") return;
    if (this.points.length < FEWEST_POINTS) {
      this.on.changed(null, "An outline has three points at least.");
      return;
    }
    this.state = "closed";
    this.here = null;
    this.paint();
    this.on.closed(this.points, areaMm2(this.points));
  }

  changed() {
    const all = this.here && !this.press?.dragged ? [...this.points, this.here] : this.points;
    this.on.changed(this.points.length && all.length >= FEWEST_POINTS ? areaMm2(all) : null, "");
    this.paint();
  }

  last() {
    return this.place(this.points.at(-1));
  }

  // Place in the window of a point of the world.
  place([x, y]) {
    const box = byId("figure").getBoundingClientRect();
    const { view } = this;
    return [
      box.left + ((x - view.x.start) / (view.x.end - view.x.start)) * box.width,
      box.top + ((view.y.end - y) / (view.y.end - view.y.start)) * box.height,
    ];
  }

  crosshair() {
    const box = byId("figure").getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  }

  paint() {
    if (this.state === "idle") return;
    const box = this.sheet.getBoundingClientRect();
    const here = (point) => {
      const [x, y] = this.place(point);
      return `${(x - box.left).toFixed(1)},${(y - box.top).toFixed(1)}`;
    };
    const drawn = this.points.map(here);
    const open = this.state === "drawing";
    const line = open && this.here && drawn.length && !this.press?.dragged ? [...drawn, here(this.here)] : drawn;
    for (const part of this.sheet.querySelectorAll("polygon")) part.setAttribute("points", line.join(" "));
    byId("draw-dots").setAttribute(
      "d", open ? drawn.map((at) => `M${at.replace(",", " ")}h0`).join("") : "",
    );
    const [x, y] = this.crosshair();
    byId("draw-cross").setAttribute("transform", `translate(${x - box.left} ${y - box.top})`);
    byId("draw-cross").style.display = open && this.keyed ? "" : "none";
  }
}

function away(one, other) {
  return Math.hypot(one[0] - other[0], one[1] - other[1]);
}

function areaMm2(points) {
  const twice = points.reduce((sum, [x, y], i) => {
    const [nextX, nextY] = points[(i + 1) % points.length];
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(twice) / 2e6;
}
