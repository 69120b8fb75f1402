// Draws what stands in JSON beside a [data-chart]: lines over time, with thresholds, bounds and a legend.
(() => {
  "use strict";

  const DAY = 86400;
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const styles = () => getComputedStyle(document.documentElement);
  const drawn = new Map();

  function power(value) {
    if (value == null) return "–";
    const shown = 10 ** value;
    if (value >= -2 && value < 5) return shown >= 10 ? Math.floor(shown).toLocaleString("en") : shown.toPrecision(2);
    return "10" + (value < 0 ? "⁻" : "") + [...String(Math.abs(Math.round(value)))].map((digit) => SUPERSCRIPTS[digit]).join("");
  }

  function share(value) {
    return value == null ? "–" : `${(100 * value).toFixed(100 * value < 10 ? 2 : 1)} %`;
  }

  // Whole powers of ten alone, few enough to read.
  function powers(u, axis, low, high) {
    const every = Math.max(1, Math.ceil((high - low) / 8));
    const splits = [];
    if (!Number.isFinite(low) || !Number.isFinite(high)) return splits;
    for (let at = Math.ceil(low / every) * every; at <= high; at += every) splits.push(at);
    return splits;
  }

  // Evidence of several times what is needed says nothing more, and would flatten what is being decided.
  function roofOf(chart) {
    const needed = Math.max(...chart.lines.filter((line) => line.dashed).map((line) => line.values.at(-1)));
    return Math.max(4 * needed, 6);
  }

  function dayOrHour(u, splits, axis, space, step) {
    return splits.map((seconds) => {
      const iso = new Date(seconds * 1000).toISOString();
      const [, month, day] = iso.slice(0, 10).split("-");
      return step >= DAY || iso.endsWith("T00:00:00.000Z") ? `${Number(day)} ${MONTHS[month - 1]}` : iso.slice(11, 16);
    });
  }

  const KINDS = {
    evidence: { write: power, top: (chart, high) => Math.min(high + 0.5, roofOf(chart)), bottom: (low) => Math.min(low, 0), splits: powers },
    share: { write: share, top: (chart) => (highest(chart) || 0.01) * 1.08, bottom: () => 0 },
  };

  function moment(seconds) {
    return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
  }

  function colour(name) {
    return styles().getPropertyValue(name).trim();
  }

  function faded(name, share) {
    return `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;
  }

  // One series for each line; a line with bounds brings two more, that a band is filled between.
  function seriesOf(chart, write) {
    const series = [{ label: "until", value: (u, at) => (at == null ? "–" : moment(at)) }], columns = [chart.times], bands = [];
    const few = chart.times.length < 60;
    for (const line of chart.lines) {
      if (line.low.length) {
        const bound = { stroke: faded(line.colour, 45), width: 1, points: { show: false }, value: (u, value) => write(value) };
        bands.push({ series: [series.length + 1, series.length], fill: faded(line.colour, 16) });
        series.push({ ...bound, label: "proven at least" }, { ...bound, label: "at most" });
        columns.push(line.low, line.high);
      }
      series.push({
        label: line.label, stroke: line.dashed ? faded(line.colour, 70) : colour(line.colour), width: line.dashed ? 1.25 : line.low.length ? 1.5 : 2,
        dash: line.dashed ? [6, 5] : undefined, points: { show: !line.dashed && few, size: 5 }, value: (u, value) => write(value),
        spanGaps: false,
      });
      columns.push(line.values);
    }
    return { series, columns, bands };
  }

  function axisOf(more) {
    const stroke = colour("--faint"), grid = { stroke: colour("--grid"), width: 1 };
    return { stroke, grid, ticks: { ...grid, size: 4 }, font: "12px system-ui, sans-serif", ...more };
  }

  function draw(place) {
    const chart = JSON.parse(place.parentElement.querySelector("script[type='application/json']").textContent);
    const kind = KINDS[chart.kind];
    const { series, columns, bands } = seriesOf(chart, kind.write);
    const options = {
      width: Math.max(place.clientWidth, 200), height: Number(place.dataset.height), series, bands,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      scales: { x: { time: true }, y: { range: (u, low, high) => [kind.bottom(low), kind.top(chart, high)] } },
      axes: [axisOf({ size: 32, space: 60, values: dayOrHour }), axisOf({ size: 62, splits: kind.splits, values: (u, splits) => splits.map(kind.write) })],
      cursor: { sync: place.dataset.sync ? { key: place.dataset.sync } : undefined, drag: { x: true, y: false }, points: { size: 6 } },
      legend: { live: true, markers: { width: 2 } },
      hooks: { draw: [(u) => nameThresholds(u, chart, kind)] },
    };
    const plot = new uPlot(options, columns, place);
    drawn.set(place, plot);
    makeReachable(place, plot);
  }

  // On the line itself, so that nobody has to look for it in the legend.
  function nameThresholds(u, chart, kind) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.fillStyle = colour("--faint");
    ctx.textAlign = "left";
    for (const line of chart.lines) {
      if (!line.dashed || !line.values.length) continue;
      const y = u.valToPos(line.values[0], "y", true);
      if (y > bbox.top && y < bbox.top + bbox.height) ctx.fillText(line.label, bbox.left + 6 * devicePixelRatio, y - 5 * devicePixelRatio);
    }
    ctx.restore();
  }

  // The highest bounds are those of the first hours, before anything was known: they must not flatten all the rest.
  function highest(chart) {
    let most = 0;
    for (const line of chart.lines) {
      if (!line.dashed) for (const value of line.values) if (value > most) most = value;
      const settled = line.high.slice(Math.floor(line.high.length / 8));
      for (const value of settled) if (value > most) most = value;
    }
    return most;
  }

  // By keyboard: arrows walk through time, and the legend's names switch lines on and off.
  function makeReachable(place, plot) {
    place.tabIndex = 0;
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", `${place.dataset.title}; arrow keys walk through time, the table below has the figures`);
    for (const [index, row] of [...place.querySelectorAll(".u-legend .u-series")].entries()) {
      const name = row.querySelector("th");
      if (!index || !name) continue;
      // Named where it is drawn.
      row.hidden = Boolean(plot.series[index].dash);
      name.tabIndex = 0;
      name.setAttribute("role", "button");
      name.setAttribute("aria-pressed", "true");
      name.addEventListener("click", () => setTimeout(() => name.setAttribute("aria-pressed", String(plot.series[index].show))));
      name.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        event.stopPropagation();
        name.click();
      });
    }
  }

  function walk(event) {
    const place = event.target.closest("[data-chart]");
    const plot = place && event.target === place && drawn.get(place);
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!plot || steps === undefined) return;
    event.preventDefault();
    const times = plot.data[0], last = times.length - 1;
    const at = plot.cursor.idx ?? (steps > 0 ? -1 : last + 1);
    const next = Math.min(Math.max(at + steps, 0), last);
    plot.setCursor({ left: plot.valToPos(times[next], "x"), top: 10 });
  }

  function drawAll(root) {
    for (const place of root.querySelectorAll("[data-chart]")) if (!drawn.has(place)) draw(place);
  }

  // Canvas keeps the colours that it was drawn with.
  function redraw() {
    // Of what is there now: each is drawn anew and comes back into the map.
    const former = [...drawn];
    drawn.clear();
    for (const [place, plot] of former) {
      plot.destroy();
      if (place.isConnected) draw(place);
    }
  }

  function fit() {
    for (const [place, plot] of drawn) {
      const width = place.clientWidth;
      if (width && Math.abs(width - plot.width) > 1) plot.setSize({ width, height: plot.height });
    }
  }

  document.addEventListener("keydown", walk);
  document.addEventListener("DOMContentLoaded", () => drawAll(document));
  document.addEventListener("htmx:afterSettle", () => { redraw(); drawAll(document); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  window.addEventListener("resize", fit);
})();
