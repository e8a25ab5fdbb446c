// Verdicts by key: each is saved before it is shown as saved.
"use strict";

const COLORS = { abnormal: "#c81e3c", "normal variant": "#1d7a46", artefact: "#5b6b8c", unsure: "#b06a00" };
const KEYS = { a: "abnormal", v: "normal variant", x: "artefact", s: "unsure" };

class Review {
  constructor(view) {
    this.view = view;
    this.queue = Promise.resolve(); // decisions go to the disk in the order of their keys
    this.target = null;
    this.state = null;
  }

  async start() {
    const answer = await fetch(`../review/${slide}`);
    if (!answer.ok) throw new Error(await answer.text());
    this.take(await answer.json());
    const { view } = this;
    view.onchoose = (region, field) => this.choose(region, field);
    view.next = () => this.next();
    for (const [key, verdict] of Object.entries(KEYS)) view.keys[key] = () => this.decide(verdict);
    view.keys.u = () => this.send({ undo: true });
    view.keys.f = () => byId("finding").focus();
    document.querySelectorAll(".verdicts button").forEach((button) =>
      button.addEventListener("click", () => this.decide(button.dataset.verdict)),
    );
    for (const id of ["finding", "note"]) {
      byId(id).addEventListener("change", () => this.reword());
      byId(id).addEventListener("keydown", (event) => {
        if (event.key === "Escape" || (event.key === "Enter" && id === "finding")) {
          event.preventDefault();
          event.target.blur();
        }
      });
    }
    this.listenToClicks();
    this.choose(view.current < 0 ? null : view.current, null);
  }

  // Everything as the server knows it.
  take(state) {
    this.state = state;
    this.fields = {};
    byId("findings").replaceChildren(...state.findings.map((text) => new Option(text, text)));
    this.view.data.regions.forEach((_, i) => this.draw(i));
    this.view.outlines.change.emit();
    this.listPlaces();
    this.count();
    if (state.problems.length) fail(state.problems.join(" "));
  }

  listPlaces() {
    const list = byId("places");
    list.replaceChildren(
      ...this.state.places.map((place) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        const text = document.createElement("span");
        text.textContent = `${place.finding || place.verdict} · ${place.where}`;
        button.append(badge(place.verdict), text);
        button.addEventListener("click", () => {
          this.view.look(place.um);
        });
        item.append(button);
        return item;
      }),
    );
    byId("elsewhere").hidden = !this.state.places.length;
  }

  // A region's line in the list, and the colour of its outline.
  draw(i) {
    const mine = this.state.mine[i];
    const button = byId("regions").children[i].firstChild;
    button.querySelector(".verdict")?.remove();
    const line = document.createElement("span");
    line.className = "verdict";
    if (mine) {
      line.append(badge(mine.verdict), ` ${mine.verdict}${mine.finding ? `: ${mine.finding}` : ""}`);
    }
    for (const [reader, theirs] of Object.entries(this.state.others)) {
      if (theirs[i]) line.append(` · ${reader}: ${theirs[i].verdict}`);
    }
    if (line.textContent) button.append(line);
    const { color, width } = this.view.outlines.data;
    color[i] = mine ? COLORS[mine.verdict] : "#0a0a14";
    width[i] = mine ? 3 : 2;
  }

  count() {
    const [done, all] = [Object.keys(this.state.mine).length, this.view.data.regions.length];
    byId("progress-text").textContent = `${done} of ${all} reviewed`;
    byId("progress").max = Math.max(all, 1);
    byId("progress").value = done;
  }

  next() {
    const all = this.view.data.regions.length;
    for (let step = 1; step <= all; step++) {
      const i = (Math.max(this.view.current, -1) + step + all) % all;
      if (!this.state.mine[i]) return i;
    }
    this.say(all ? "All regions of this slide are reviewed." : "Nothing is flagged here.");
    return undefined;
  }

  choose(region, field) {
    if (document.activeElement?.matches("input[type=text], textarea")) document.activeElement.blur();
    this.target = region === null && field === null ? null : { region, field };
    byId("target").textContent =
      this.target === null
        ? "Choose a region (n) or a field."
        : region === null
          ? `Field in row ${field[0] + 1}, column ${field[1] + 1}`
          : `Region ${region + 1}`;
    this.fill();
  }

  // What is decided of the place that is chosen.
  decided() {
    if (this.target === null) return undefined;
    const { region, field } = this.target;
    return region === null ? this.fields[field] : this.state.mine[region];
  }

  fill() {
    const decided = this.decided();
    byId("finding").value = decided?.finding ?? "";
    byId("note").value = decided?.note ?? "";
    this.mark();
  }

  // Words stay as they are: the reader may be typing on while a decision is saved.
  mark() {
    const decided = this.decided();
    document.querySelectorAll(".verdicts button").forEach((button) => {
      button.setAttribute("aria-pressed", button.dataset.verdict === decided?.verdict);
      button.disabled = this.target === null;
    });
  }

  decide(verdict) {
    if (this.target === null) {
      this.say("Choose a region (n), or click on tissue, first.");
      return;
    }
    const { region, field } = this.target;
    const place = region === null ? { field } : { region };
    this.send({ verdict, finding: byId("finding").value, note: byId("note").value, ...place });
  }

  // A finding or a note that is written after the verdict belongs to it.
  reword() {
    const decided = this.decided();
    const [finding, note] = [byId("finding").value, byId("note").value];
    if (decided && (finding !== decided.finding || note !== decided.note)) this.decide(decided.verdict);
  }

  send(decision) {
    this.say("saving…");
    this.queue = this.queue
      .then(() => this.save(decision))
      .catch((error) => {
        this.say("");
        fail(`Not saved: ${error.message}`);
      });
  }

  async save(decision) {
    const answer = await fetch(`../review/${slide}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ result: this.view.data.result, ...decision }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    const done = await answer.json();
    if (byId("problem").textContent.startsWith("Not saved")) byId("problem").hidden = true;
    if (decision.undo) {
      this.take(done.state);
      const { region, verdict } = done.undone;
      if (region !== null) this.view.go(region);
      this.fill();
      this.say(`Taken back: ${verdict}${region === null ? "" : `, region ${region + 1}`}.`);
      return;
    }
    this.say(`Saved: ${done.saved.verdict}, ${new Date(done.saved.time).toLocaleTimeString()}.`);
    this.keep(decision, done.saved);
  }

  keep({ region, field }, saved) {
    if (region !== undefined) {
      this.state.mine[region] = saved;
      this.draw(region);
      // Thousands of outlines take a while to paint: the next key does not wait for it.
      cancelAnimationFrame(this.painting);
      this.painting = requestAnimationFrame(() => this.view.outlines.change.emit());
      this.count();
    } else {
      this.fields[field] = saved;
      this.state.places = this.state.places.filter(({ um }) => String(um) !== String(saved.um));
      this.state.places.push({ ...saved, where: "not flagged" });
      this.listPlaces();
    }
    if (saved.finding && !this.state.findings.includes(saved.finding)) {
      this.state.findings.push(saved.finding);
      byId("findings").append(new Option(saved.finding, saved.finding));
    }
    const here = this.target;
    if (here && (region !== undefined ? here.region === region : String(here.field) === String(field))) {
      this.mark();
    }
  }

  // A click that did not drag chooses the region there, or the field.
  listenToClicks() {
    const { view } = this;
    const regionOf = new Map(view.data.cells.region_of);
    let down = null;
    byId("figure").addEventListener("pointerdown", (event) => { down = [event.clientX, event.clientY]; }, true);
    byId("figure").addEventListener("pointerup", (event) => {
      if (!down || Math.hypot(event.clientX - down[0], event.clientY - down[1]) > 4) return;
      const cell = view.heatmap.cell(view.world(event.clientX, event.clientY));
      if (cell === null) return;
      const at = cell[0] * view.data.cells.shape[1] + cell[1];
      if (!view.data.kind[at]) return;
      view.choose(regionOf.get(at) ?? null, regionOf.has(at) ? null : cell);
    }, true);
  }

  say(text) {
    byId("saved").textContent = text;
  }
}

function badge(verdict) {
  const mark = document.createElement("i");
  mark.className = "badge";
  mark.style.background = COLORS[verdict];
  return mark;
}
