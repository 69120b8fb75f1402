// What the page does beyond its HTML; without it everything still works.
(() => {
  "use strict";

  const UNITS = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
  const WRITING = "input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]";
  const REACHED = "a[href], button, input, select, textarea, summary, [tabindex]";
  const GO_SECONDS = 2;

  // --- ages ---------------------------------------------------------------------------------------------------------

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

  // --- what refreshes itself ----------------------------------------------------------------------------------------

  // Nobody loses what they are writing, choosing or marking, and nobody looks at a hidden page.
  function isBusy(region) {
    const selection = window.getSelection();
    const marked = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
    const writing = document.activeElement && region.contains(document.activeElement) && document.activeElement.matches(WRITING);
    return document.hidden || marked || writing || region.querySelector("details[open] form") !== null;
  }

  // A swap puts new elements in the old ones' places: what was open stays so, and the focus where it was.
  function stateOf(region) {
    const reached = [...region.querySelectorAll(REACHED)];
    return {
      open: [...region.querySelectorAll("details[open][id]")].map((each) => each.id),
      focused: reached.indexOf(document.activeElement),
      text: document.activeElement ? document.activeElement.textContent : "",
    };
  }

  function restore(region, state) {
    for (const id of state.open) {
      const details = document.getElementById(id);
      if (details) details.open = true;
    }
    const again = region.querySelectorAll(REACHED)[state.focused];
    if (again && again.textContent === state.text) again.focus({ preventScroll: true });
  }

  const before = new Map();

  document.addEventListener("htmx:beforeRequest", (event) => {
    const region = event.target.closest("[data-fresh]");
    if (region && isBusy(region)) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const region = event.detail.target;
    if (!region.matches("[data-fresh]") || !event.detail.shouldSwap) return;
    // Somebody may have begun to write while the answer was on its way.
    if (isBusy(region)) event.detail.shouldSwap = false;
    else before.set(region.id, stateOf(region));
  });
  document.addEventListener("htmx:load", (event) => {
    const region = event.detail.elt;
    tellAges(region);
    if (before.has(region.id)) restore(region, before.get(region.id));
    before.delete(region.id);
  });

  // Figures that are no longer fresh say so.
  let heardAt = new Date();
  function showStale(stale) {
    const notice = document.getElementById("stale");
    if (!notice) return;
    if (notice.hidden && stale) notice.querySelector("time").textContent = heardAt.toLocaleTimeString();
    notice.hidden = !stale;
  }
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) heardAt = new Date();
    showStale(!event.detail.successful);
  });

  // --- the keyboard -------------------------------------------------------------------------------------------------

  let goingSince = -Infinity;

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(WRITING)) return;
    // A key that is held would judge the next request, too, and the one after it.
    if (event.repeat) return;
    if (document.querySelector("dialog[open]")) return;
    const going = event.timeStamp - goingSince < GO_SECONDS * 1000;
    goingSince = -Infinity;
    const wanted = going ? section(event.key) : labelled(event.key);
    if (wanted) {
      event.preventDefault();
      wanted.click();
    } else if (event.key === "g") {
      goingSince = event.timeStamp;
    } else if (event.key === "/") {
      const field = document.querySelector("main form input:not([type=hidden]), main form select");
      if (!field) return;
      event.preventDefault();
      field.focus();
    }
  }

  // "g" and a letter lead to a section.
  function section(key) {
    return [...document.querySelectorAll("[data-go]")].find((each) => each.dataset.go === key);
  }

  // A button with data-key is pressed by its key.
  function labelled(key) {
    return [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key && !each.disabled);
  }

  // The list of shortcuts, with those of this page.
  function showKeys(dialog) {
    const own = dialog.querySelector("[data-page-keys]");
    own.replaceChildren();
    for (const each of document.querySelectorAll("main [data-key]")) {
      const row = document.createElement("div");
      const key = document.createElement("kbd");
      key.textContent = each.dataset.key;
      const term = document.createElement("dt");
      term.append(key);
      const meaning = document.createElement("dd");
      meaning.textContent = each.textContent.replace(each.querySelector("kbd")?.textContent ?? "", "").trim();
      row.append(term, meaning);
      own.append(row);
    }
    dialog.showModal();
  }

  document.addEventListener("keydown", pressed);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-shows]");
    if (button) showKeys(document.getElementById(button.dataset.shows));
  });

  // --- forms --------------------------------------------------------------------------------------------------------

  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    const form = event.target.closest("[data-theme-form]");
    if (form) form.requestSubmit();
  });

  document.addEventListener("DOMContentLoaded", () => {
    tellAges(document);
    for (const button of document.querySelectorAll("[data-shows]")) button.hidden = false;
  });
  setInterval(() => tellAges(document), 30000);
})();
