// The filter of the list of rollouts; all else needs no script.
"use strict";
(() => {
  const form = document.getElementById("filter");
  document.documentElement.dataset.ready = "yes";
  if (!form) return;
  const rows = [...document.querySelectorAll("#rows > details")];
  const words = new Map();
  const text = row => {
    if (!words.has(row)) words.set(row, row.textContent.toLowerCase());
    return words.get(row);
  };
  const filter = () => {
    const stage = form.elements.stage.value, outcome = form.elements.outcome.value;
    const wanted = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (!stage || row.dataset.stage === stage) && (!outcome || row.dataset.outcome === outcome)
        && wanted.every(word => text(row).includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
})();
