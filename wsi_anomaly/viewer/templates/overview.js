// The whole slide in a corner: where the view lies, where regions are; a click or a drag goes there.
"use strict";

const OVERVIEW_PX = 180;

class Overview {
  // The picture is the pyramid's uppermost tile, the square world in 256 px; the slide is its part.
  constructor(view, picture) {
    this.view = view;
    this.picture = picture;
    this.canvas = byId("overview");
    const [width, height] = view.data.extent;
    this.scale = OVERVIEW_PX / Math.max(width, height);
    this.canvas.width = Math.max(1, Math.round(width * this.scale));
    this.canvas.height = Math.max(1, Math.round(height * this.scale));
    const go = (event) => {
      const um = width / this.canvas.clientWidth; // a phone shows it smaller
      view.center(event.offsetX * um, view.data.extent[2] - event.offsetY * um);
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) go(event);
    });
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.painting);
    this.painting = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { view, canvas, scale } = this;
    const [width, height, side] = view.data.extent;
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const { naturalWidth, naturalHeight } = this.picture;
    if (naturalWidth) {
      const part = [(width / side) * naturalWidth, (height / side) * naturalHeight];
      context.drawImage(this.picture, 0, 0, ...part, 0, 0, canvas.width, canvas.height);
    }
    context.fillStyle = "#c81e3c";
    for (const { um } of view.data.regions) {
      context.fillRect(um[0] * scale - 1.5, (side - um[1]) * scale - 1.5, 3, 3);
    }
    context.strokeStyle = "#0a0a14";
    context.lineWidth = 2;
    const { x, y } = view;
    context.strokeRect(
      x.start * scale,
      (side - y.end) * scale,
      Math.max(4, (x.end - x.start) * scale),
      Math.max(4, (y.end - y.start) * scale),
    );
  }
}
