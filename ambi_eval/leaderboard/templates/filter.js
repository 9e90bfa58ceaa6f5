// Filters of the boards; without it every row is shown.
"use strict";
for (const form of document.querySelectorAll(".board-filters")) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
  const apply = () => {
    const { strategy, status, text } = Object.fromEntries(new FormData(form));
    for (const row of rows) {
      row.hidden = (strategy && row.dataset.strategy !== strategy) || (status && row.dataset.status !== status)
        || !row.textContent.toLowerCase().includes(text.toLowerCase());
    }
    form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
