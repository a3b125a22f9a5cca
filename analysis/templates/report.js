"use strict";
// What is switched on above the charts, applied to all of them. A chart's traces are in normalised points, or losses.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const controls = document.getElementById("controls");
  const wanted = (name) => new Set([...controls.elements[name] ? controls.querySelectorAll(`[name="${name}"]:checked`) : []]
    .map((box) => box.value));
  const asked = (name) => controls.elements[name]?.value;

  const points = (chart) => chart.unit === "normalised points";
  const within = (chart) => {
    const sizes = wanted("size"), arms = wanted("arm");
    const hidden = (value, name, shown) => value && controls.querySelector(`[name="${name}"]`) && !shown.has(value);
    return chart.traces.filter(({ meta }) => !hidden(meta.size, "size", sizes) && !hidden(meta.arm, "arm", arms));
  };
  const scaled = (chart, trace) => {
    if (asked("scale") !== "raw" || !chart.raw) return trace;
    const { low, factor } = chart.raw, axis = chart.value_axis, bars = trace[`error_${axis}`];
    const times = (values) => values.map((value) => factor * value);
    return {
      ...trace,
      [axis]: trace[axis].map((value) => low + factor * value),
      ...(bars && { [`error_${axis}`]: { ...bars, array: times(bars.array), arrayminus: times(bars.arrayminus) } }),
    };
  };
  const extent = (chart) => within(chart).map((trace) => scaled(chart, trace)).flatMap((trace) =>
    trace.y.flatMap((value, at) => [value + (trace.error_y?.array[at] ?? 0), value - (trace.error_y?.arrayminus[at] ?? 0)]));

  const font = { family: "system-ui, sans-serif", size: 12, color: "#1b1f24" };
  const axis = { zeroline: false, showgrid: false, ticks: "outside", ticklen: 4, showline: true, linecolor: "#888", fixedrange: false };
  let drawn = 0;  // without a new revision, axes of unchanged traces are not fitted to them again
  const layout = (chart, range) => {
    const percent = asked("scale") === "raw" && chart.raw;
    const name = { text: percent ? "percent" : chart.unit };
    const own = chart.scores ? { [`${chart.value_axis}axis`]: { title: name } } : {};
    const chance = percent ? chart.raw.low : 0;
    const line = { type: "line", line: { color: "#888", width: 1, dash: "dot" }, layer: "below" };
    const across = { xref: "paper", x0: 0, x1: 1, y0: chance, y1: chance };
    return {
      font, hovermode: "closest", dragmode: false, margin: { l: 48, r: 12, t: 8, b: 44 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
      legend: { orientation: "h", y: -0.25, font: { size: 11 } }, showlegend: chart.traces.some((trace) => trace.showlegend),
      hoverlabel: { align: "left" },
      height: chart.layout.height,
      datarevision: drawn,
      shapes: points(chart) && chart.value_axis === "y" ? [{ ...line, ...across }] : [],
      xaxis: { ...axis, automargin: true, ...own.xaxis, ...chart.layout.xaxis },
      yaxis: { ...axis, ...own.yaxis, ...chart.layout.yaxis, ...(range && { range }) },
    };
  };
  const draw = () => {
    drawn += 1;
    const shown = charts.filter((chart) => points(chart) && chart.value_axis === "y");
    const values = asked("ends") === "same" ? shown.flatMap(extent) : [];
    const [low, high] = [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
    const margin = 0.05 * (high - low);
    charts.forEach((chart, at) => {
      const place = plots[at].closest(".chart");
      place.hidden = Boolean(chart.scores && asked("panel") && asked("panel") !== String(at));
      if (place.hidden) return;
      const range = values.length && shown.includes(chart) ? [low - margin, high + margin] : null;
      const traces = within(chart).map((trace) => ({ type: "scatter", showlegend: false, ...scaled(chart, trace) }));
      Plotly.react(plots[at], traces, layout(chart, range), { responsive: true, displaylogo: false, displayModeBar: false });
    });
  };
  document.body.classList.add("live");
  controls.addEventListener("change", draw);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  draw();
})();
