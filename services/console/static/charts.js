/* The charts of an endpoint: windows over time, drawn with uPlot, in the colours of the page. */
(() => {
  "use strict";
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const wash = (name, percent) => `color-mix(in srgb, ${colour(name)} ${percent}%, transparent)`;
  const seconds = (time) => Date.parse(time) / 1000;
  const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19);
  const day = (at) => new Date(at * 1000).toISOString().slice(5, 16).replace("T", " ");
  const rounded = (digits) => (_, value) => (value == null ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits }));

  const kinds = {
    evidence: {
      rows: (windows) => [
        windows.map((w) => w.statistic),
        windows.map((w) => w.threshold),
        windows.map((w) => (w.statistic > w.threshold ? w.statistic : null)),
      ],
      series: () => [
        { label: "Evidence", stroke: colour("accent"), fill: wash("accent", 12), width: 2, points: { size: 5, fill: colour("surface") }, value: rounded(1) },
        { label: "Alarm line", stroke: colour("rope"), width: 1.5, dash: [6, 5], points: { show: false }, value: rounded(1) },
        { label: "Alarm", stroke: colour("bad"), width: 0, paths: () => null, points: { show: true, size: 9, fill: colour("bad") }, value: rounded(1) },
      ],
      height: 250,
      // Evidence grows without bound, and the line that it has to cross is low: both stay readable.
      scale: { distr: 4, asinh: 12 },
      axis: {
        splits: (chart) => [0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].filter((at) => at <= chart.scales.y.max),
        filter: (_, splits) => splits,
        values: (_, splits) => splits.map((at) => at.toLocaleString("en")),
      },
    },
    latency: {
      rows: (windows) => ["p50_ms", "p95_ms", "p99_ms"].map((q) => windows.map((w) => w.latency?.[q] ?? null)),
      series: () => [
        { label: "p50", stroke: colour("accent"), width: 2, points: { show: false }, value: rounded(2) },
        { label: "p95", stroke: colour("rope"), width: 1.5, points: { show: false }, value: rounded(2) },
        { label: "p99", stroke: colour("bad"), width: 1.5, dash: [4, 3], points: { show: false }, value: rounded(2) },
      ],
      height: 190,
    },
    performance: {
      rows: (windows) => ["value", "low", "high"].map((end) => windows.map((w) => w[end])),
      series: (box) => [
        { label: box.dataset.label, stroke: colour("accent"), width: 2, points: { size: 5, fill: colour("surface") }, value: rounded(3) },
        { label: "from", stroke: wash("accent", 35), width: 1, points: { show: false }, value: rounded(3) },
        { label: "to", stroke: wash("accent", 35), width: 1, points: { show: false }, value: rounded(3) },
      ],
      bands: () => [{ series: [3, 2], fill: wash("accent", 12) }],
      height: 250,
      // Not from zero: a point of accuracy is much.
      range: (_, low, high) => { const room = (high - low || Math.abs(high ?? 1) || 1) * 0.12; return [(low ?? 0) - room, (high ?? 1) + room]; },
    },
    rows: {
      rows: (windows) => [windows.map((w) => w.rows)],
      series: () => [
        { label: "Rows", stroke: colour("accent"), fill: wash("accent", 45), width: 1, paths: uPlot.paths.bars({ size: [0.7, 26] }), points: { show: false }, value: rounded(0) },
      ],
      height: 190,
    },
  };

  // A line where another version took over, with its name.
  const versions = (box) => ({
    hooks: {
      draw: [(chart) => {
        const windows = box.windows;
        const { ctx, bbox } = chart;
        ctx.save();
        ctx.strokeStyle = colour("faint");
        ctx.fillStyle = colour("soft");
        ctx.textAlign = "left";
        ctx.font = `${11 * devicePixelRatio}px Inter, sans-serif`;
        ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
        windows.forEach((window, n) => {
          if (n > 0 && window.version === windows[n - 1].version) return;
          const x = chart.valToPos(seconds(window.to), "x", true);
          if (n > 0) {
            ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
          }
          ctx.fillText(`v${window.version}`, x + 5 * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
        });
        ctx.restore();
      }],
    },
  });

  const axis = () => ({ stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px Inter, sans-serif" });

  const draw = (box) => {
    const kind = kinds[box.dataset.chart];
    box.plot?.destroy();
    box.plot = new uPlot({
      width: box.clientWidth, height: kind.height,
      scales: { x: { range: (_, first, last) => (first === last ? [first - 1800, last + 1800] : [first, last]) }, y: { ...kind.scale, range: kind.range ?? ((_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 1, 1e-3) * 1.12]) } },
      axes: [{ ...axis(), space: 76, values: (_, splits) => splits.map(splits.at(-1) - splits[0] > 86_400 ? day : clock) }, { ...axis(), size: 52, ...kind.axis }],
      series: [{ label: "UTC", value: (_, at) => (at == null ? "–" : clock(at)) }, ...kind.series(box)],
      bands: kind.bands?.() ?? [],
      plugins: ["evidence", "performance"].includes(box.dataset.chart) ? [versions(box)] : [],
    }, [box.windows.map((w) => seconds(w.to)), ...kind.rows(box.windows)], box);
  };

  const show = (box, told) => {
    const waiting = box.querySelector(".wait");
    if (told.problem || told.windows.length === 0) {
      if (waiting && told.problem) waiting.textContent = told.problem;
      return;
    }
    waiting?.remove();
    box.windows = told.windows;
    if (!box.plot) draw(box);
    else box.plot.setData([told.windows.map((w) => seconds(w.to)), ...kinds[box.dataset.chart].rows(told.windows)]);
    box.dataset.windows = told.windows.length;
  };

  const boxes = [...document.querySelectorAll("[data-chart]")];
  const load = async () => {
    if (document.hidden || boxes.length === 0) return;
    const bySource = Map.groupBy ? Map.groupBy(boxes, (box) => box.dataset.src) : new Map([[boxes[0].dataset.src, boxes]]);
    for (const [source, group] of bySource) {
      const answer = await fetch(source, { headers: { accept: "application/json" } });
      if (answer.ok) { const told = await answer.json(); group.forEach((box) => show(box, told)); }
    }
  };
  const redraw = () => boxes.forEach((box) => box.plot && draw(box));

  load();
  setInterval(load, 5000);
  document.body.addEventListener("refresh", load);
  addEventListener("resize", () => boxes.forEach((box) => box.plot?.setSize({ width: box.clientWidth, height: kinds[box.dataset.chart].height })));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.fonts?.ready.then(redraw);
})();
