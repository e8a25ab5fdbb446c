// One key reviews all regions of a kind.
"use strict";

const VERDICTS = { a: "abnormal", v: "normal variant", x: "artefact", s: "unsure", u: "" };
const sections = [...document.querySelectorAll("section[data-kind]")];
let current = -1;
let queue = Promise.resolve(); // decisions go to the disk in the order of their keys

function choose(i) {
  if (!sections.length) return;
  current = (i + sections.length) % sections.length;
  sections.forEach((section, k) => section.toggleAttribute("aria-current", k === current));
  sections[current].scrollIntoView({ block: "start" });
}

function decide(section, verdict) {
  const say = (text) => { section.querySelector(".saved").textContent = text; };
  say("saving…");
  queue = queue.then(() => save(section, verdict, say)).catch((error) => {
    say("");
    const problem = document.getElementById("problem");
    problem.textContent = `Not all is saved: ${error.message}`;
    problem.hidden = false;
  });
}

async function save(section, verdict, say) {
  const { kind } = section.dataset;
  const finding = section.querySelector(".finding").value;
  const answer = await fetch("kind", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(verdict ? { kind, verdict, finding } : { kind, undo: true }),
  });
  if (!answer.ok) throw new Error(await answer.text());
  const done = await answer.json();
  document.getElementById("problem").hidden = true;
  section.querySelector("h2").textContent = done.title;
  section.querySelector(".mine").textContent = `${done.mine} of ${done.regions} reviewed`;
  section.querySelector(".said").textContent = done.verdicts;
  const kept = done.kept ? `; ${done.kept} reviewed by themselves stay` : "";
  const regions = `${done.written} region${done.written === 1 ? "" : "s"}`;
  say(verdict ? `Saved: ${regions} ${verdict}${kept}.` : `Taken back: ${regions}.`);
  section.querySelectorAll("button").forEach((button) =>
    button.setAttribute("aria-pressed", Boolean(verdict) && button.dataset.verdict === verdict),
  );
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) {
    if (["Escape", "Enter"].includes(event.key)) event.target.blur();
    return;
  }
  if (event.key === "n") choose(current + 1);
  else if (event.key === "p") choose(current < 0 ? -1 : current - 1);
  else if (current >= 0 && event.key === "f") sections[current].querySelector(".finding").focus();
  else if (current >= 0 && event.key in VERDICTS) decide(sections[current], VERDICTS[event.key]);
  else return;
  event.preventDefault();
});
sections.forEach((section, i) => {
  section.addEventListener("focusin", () => { current = i; });
  section.querySelectorAll("button").forEach((button) =>
    button.addEventListener("click", () => decide(section, button.dataset.verdict)),
  );
});
document.body.dataset.ready = "yes";
