// Marked normal tissue: drawn, named, listed, and the command that scores with it.
"use strict";

class Marks {
  constructor(view, page) {
    this.view = view;
    this.areas = page.get_model_by_name("normal");
    this.names = page.get_model_by_name("normal_names");
    this.points = null;
  }

  async start() {
    const answer = await fetch(`../marks/${slide}`);
    if (!answer.ok) throw new Error(await answer.text());
    this.drawing = new Drawing(this.view, {
      changed: (mm2, hint) => this.show(mm2, hint),
      closed: (points, mm2) => this.name(points, mm2),
      cancelled: () => this.leave("Nothing was marked."),
    });
    this.view.keys.m = () => byId("mark").click();
    byId("mark").addEventListener("click", () => this.draw());
    byId("close-outline").addEventListener("click", () => this.drawing.close());
    byId("cancel-outline").addEventListener("click", () => this.drawing.cancel());
    byId("save-mark").addEventListener("click", () => this.save());
    byId("kind").addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.save();
    });
    byId("copy").addEventListener("click", () => this.copy());
    this.take(await answer.json());
  }

  // Everything as the server knows it.
  take(state) {
    this.state = state;
    byId("mark").disabled = Boolean(state.why_not);
    byId("mark-why-not").textContent = state.why_not;
    byId("mark-why-not").className = state.problem ? "warning" : "small soft";
    byId("kinds").replaceChildren(...state.kinds.map((kind) => new Option(kind, kind)));
    this.areas.data = { xs: state.marks.map(({ xs }) => xs), ys: state.marks.map(({ ys }) => ys) };
    this.names.data = {
      x: state.marks.map(({ um }) => um[0]),
      y: state.marks.map(({ um }) => um[1]),
      text: state.marks.map(({ kind }) => kind || "no kind"),
    };
    byId("mark-list").replaceChildren(...state.marks.map((mark) => this.line(mark)));
    this.sum();
  }

  // Whether what is marked is enough of each kind, and whether the scores know it.
  sum() {
    const { tissue, least_mm2: least, doubts, marks, scored, command, blanks } = this.state;
    const few = tissue.filter(({ enough }) => !enough);
    const sentences = few.map(
      ({ kind, mm2 }) =>
        `Of ${kind || "no kind"} ${mm2.toFixed(3)} mm² of tissue are marked: mark ` +
        `${least.toFixed(3)} mm² or more of it, or delete it.`,
    );
    byId("mark-doubts").replaceChildren(
      ...[...sentences, ...doubts].map((sentence) => {
        const item = document.createElement("p");
        item.className = "warning";
        item.textContent = sentence;
        return item;
      }),
    );
    byId("again").hidden = !command || few.length > 0;
    // Each word by itself: a line must not end within "--normal".
    byId("command").replaceChildren(
      ...command.split(" ").flatMap((word, i) => {
        const span = document.createElement("span");
        span.textContent = word;
        return i ? [" ", span] : [span];
      }),
    );
    byId("again-why").textContent = marks.length
      ? "The scores do not know these marks yet. Score the slide again with them:"
      : "The slide was scored with marks that are not here. Score it again without:";
    byId("blanks").textContent = blanks;
    byId("mark-scored").hidden = !scored;
  }

  line(mark) {
    const item = document.createElement("li");
    const go = document.createElement("button");
    const text = `${mark.kind || "no kind"}, ${mark.mm2.toFixed(3)} mm²`;
    for (const part of [mark.kind || "no kind", `${mark.mm2.toFixed(3)} mm²`, this.by(mark)]) {
      const span = document.createElement("span");
      span.textContent = part;
      go.append(span);
    }
    go.lastChild.className = "by";
    go.addEventListener("click", () => this.view.look(mark.um));
    item.append(go);
    if (mark.mine && !this.state.why_not) item.append(this.remover(mark, text));
    return item;
  }

  by(mark) {
    const day = mark.time && !Number.isNaN(Date.parse(mark.time)) ? new Date(mark.time).toLocaleDateString() : "";
    return mark.reader ? [`by ${mark.reader}`, day].filter(Boolean).join(", ") : "drawn elsewhere";
  }

  // Deleting takes two presses: there is no way back.
  remover(mark, text) {
    const button = document.createElement("button");
    button.className = "delete";
    const ask = (asked) => {
      button.dataset.asked = asked ? "yes" : "";
      button.textContent = asked ? "really?" : "delete";
      button.setAttribute("aria-label", asked ? `Really delete ${text}?` : `Delete ${text}`);
    };
    ask(false);
    button.addEventListener("blur", () => ask(false));
    button.addEventListener("click", () => {
      if (button.dataset.asked) this.send({ remove: mark.id }, "Deleted");
      else ask(true);
    });
    return button;
  }

  draw() {
    if (this.state.why_not) return;
    byId("marking").hidden = false;
    byId("naming").hidden = true;
    byId("outlining").hidden = false;
    this.say("");
    this.drawing.begin();
  }

  show(mm2, hint) {
    byId("drawn").textContent = mm2 === null ? "–" : `${mm2.toFixed(3)} mm²`;
    byId("draw-hint").textContent =
      hint ||
      (this.drawing.keyed
        ? "Arrows move the slide, Space sets a point: 0.05 to 0.1 mm² of every kind."
        : "Click round some tissue, or drag: 0.05 to 0.1 mm² of every kind.");
    byId("close-outline").disabled = this.drawing.points.length < 3;
  }

  name(points, mm2) {
    this.points = points;
    this.show(mm2, mm2 > 0.5 ? "That is much: is all of it normal?" : "Which kind of tissue is it?");
    byId("outlining").hidden = true;
    byId("naming").hidden = false;
    byId("kind").value = ""; // else the list would offer that kind alone
    byId("kind").focus();
  }

  save() {
    const kind = byId("kind").value.trim();
    if (!kind) {
      byId("draw-hint").textContent = "Name the kind of tissue, such as Mucosa.";
      byId("kind").focus();
      return;
    }
    const points = this.points.map((point) => point.map((um) => Number(um.toFixed(2))));
    if (this.saving) return; // a second Enter is no second mark
    this.saving = true;
    this.send({ kind, points }, "Marked").then((saved) => {
      this.saving = false;
      if (!saved) return; // it stays there to be named otherwise
      this.drawing.end();
      this.leave();
    });
  }

  // Back to the page as it was.
  leave(text) {
    byId("marking").hidden = true;
    byId("mark").focus({ preventScroll: true });
    if (text) this.say(text);
  }

  async send(change, done) {
    this.say("saving…");
    try {
      const answer = await fetch(`../marks/${slide}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ result: this.view.data.result, ...change }),
      });
      if (!answer.ok) throw new Error(await answer.text());
      const state = await answer.json();
      if (byId("problem").textContent.startsWith("Not saved")) byId("problem").hidden = true;
      this.take(state);
      const { kind, mm2 } = state.changed;
      this.say(`${done}: ${kind || "no kind"}, ${mm2.toFixed(3)} mm².`);
      return true;
    } catch (error) {
      this.say("");
      byId("draw-hint").textContent = error.message;
      fail(`Not saved: ${error.message}`);
      return false;
    }
  }

  async copy() {
    try {
      await navigator.clipboard.writeText(this.state.command);
      byId("copied").textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(byId("command"));
      byId("copied").textContent = "Selected: copy it with Ctrl-C.";
    }
  }

  say(text) {
    byId("mark-said").textContent = text;
  }
}
