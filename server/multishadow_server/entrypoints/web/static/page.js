// What the page does beyond its HTML; without it everything still works.
(() => {
  "use strict";

  const UNITS = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });

  // "3 min ago", with the time itself in the title.
  function tellAges(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = Date.parse(time.dateTime);
      if (Number.isNaN(at)) continue;
      const seconds = (at - Date.now()) / 1000;
      const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) || ["second", 1];
      time.textContent = words.format(Math.round(seconds / size), unit);
    }
  }

  // A button with data-key is pressed by its key, unless somebody is writing.
  function pressByKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const named = document.querySelectorAll("[data-key]");
    const wanted = [...named].find((each) => each.dataset.key === event.key && !each.disabled);
    if (!wanted) return;
    event.preventDefault();
    wanted.click();
  }

  document.addEventListener("keydown", pressByKey);
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("[data-theme-form]");
    if (form) form.requestSubmit();
  });
  document.addEventListener("DOMContentLoaded", () => tellAges(document));
  document.addEventListener("htmx:afterSwap", (event) => tellAges(event.target));
  setInterval(() => tellAges(document), 30000);
})();
