// Why is this flagged? The chosen region's highest field beside the nearest normal ones.
"use strict";

document.addEventListener("chosen", async ({ detail: { region } }) => {
  const panel = byId("why");
  panel.dataset.region = region ?? "";
  const answer = region === null ? null : await fetch(`../why/${slide}/${region + 1}`);
  if (panel.dataset.region !== String(region ?? "")) return; // another was chosen meanwhile
  const row = answer?.ok ? await answer.json() : null;
  panel.hidden = row === null;
  if (row === null) return;
  byId("why-fields").replaceChildren(
    field(row.picture, `Region ${region + 1}`, `this field, ${row.field_um} µm`),
    ...row.normals.map((normal, i) =>
      field(normal.picture, `Normal field ${i + 1}`,
        `normal: ${normal.slide}${normal.pictured ? "" : ` at ${normal.place.join(", ")} px`}; ` +
        `${normal.distance} SD away, ${normal.farther}`),
    ),
  );
  byId("why-spoke").textContent = row.sentence;
});

function field(picture, name, text) {
  const figure = document.createElement("figure");
  if (picture) {
    const image = document.createElement("img");
    image.src = picture;
    image.alt = name;
    figure.append(image);
  }
  const caption = document.createElement("figcaption");
  caption.textContent = text;
  figure.append(caption);
  return figure;
}
