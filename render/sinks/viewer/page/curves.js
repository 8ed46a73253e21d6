// Curves over the last seconds: chosen blendshapes, and the angles of the head.

import uPlot from "./vendor/uPlot.esm.js";

const SPAN_S = 10;
const GAP_S = 2; // a longer jump, as in a log, begins new curves
const COLOURS = ["#3987e5", "#e07b39", "#3aa655", "#b45fd1", "#d14b6a", "#8a8f2a"];
export const MOST_CURVES = COLOURS.length;
const ANGLES = ["yaw", "pitch", "roll"];
const HEIGHT_PX = 130;

export class Curves {
  constructor(weights, angles) {
    this.places = { weights, angles };
    this.names = [];
    this.clear();
    this.chosen = [];
    this.plots = {};
    const observer = new ResizeObserver(() => this.fit());
    observer.observe(weights);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
  }

  clear() {
    this.times = [];
    this.rows = [];
  }

  /** Draw the curves of these blendshapes; returns their colours by name. */
  choose(chosen, names) {
    this.chosen = chosen;
    this.names = names;
    this.build();
    return Object.fromEntries(chosen.map((name, k) => [name, COLOURS[k]]));
  }

  add(time, blendshapes, pose) {
    const last = this.times.at(-1);
    if (last !== undefined && (time <= last || time - last > GAP_S)) this.clear();
    this.times.push(time);
    this.rows.push({ blendshapes, pose });
    while (this.times[0] < time - SPAN_S) {
      this.times.shift();
      this.rows.shift();
    }
  }

  build() {
    const text = getComputedStyle(document.body).color;
    const grid = { stroke: getComputedStyle(this.places.weights.parentElement).borderTopColor, width: 1 };
    const axis = { stroke: text, grid, ticks: grid, font: "11px system-ui", labelFont: "11px system-ui" };
    const plot = (place, labels, range, size) => {
      place.replaceChildren();
      return new uPlot({
        width: Math.max(place.clientWidth, 200),
        height: HEIGHT_PX,
        legend: { live: false },
        cursor: { show: false },
        scales: { x: { time: false }, y: { range } },
        axes: [{ ...axis, size: 26, values: (_, ticks) => ticks.map((t) => `${t} s`) }, { ...axis, size }],
        series: [{}, ...labels.map((label, k) => ({ label, stroke: COLOURS[k], width: 1.5, points: { show: false } }))],
      }, [[], ...labels.map(() => [])], place);
    };
    this.plots.weights = plot(this.places.weights, this.chosen, [0, 1], 36);
    this.plots.angles = plot(this.places.angles, ANGLES.map((name) => `${name}, degrees`), (_, low, high) =>
      [Math.min(low ?? 0, -20), Math.max(high ?? 0, 20)], 36);
    this.draw();
  }

  fit() {
    for (const plot of Object.values(this.plots)) {
      const width = plot.root.parentElement.clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: HEIGHT_PX });
    }
  }

  draw() {
    if (!this.plots.weights) return;
    const columns = this.chosen.map((name) => this.names.indexOf(name));
    this.plots.weights.setData([this.times, ...columns.map((k) => this.rows.map((row) => row.blendshapes[k]))]);
    this.plots.angles.setData([this.times, ...ANGLES.map((_, k) => this.rows.map((row) => row.pose[k]))]);
  }
}
