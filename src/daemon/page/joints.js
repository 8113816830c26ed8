// Joint and tick plots of the last 30 s, and the robot's health.

import { colour, jointColour, plot } from "./plot.js";

const WINDOW_S = 30;
const DEGREES = 180 / Math.PI;
const SCALES = { positions_rad: DEGREES, velocities_rad_s: DEGREES, loads: 100, temperatures_c: 1 };
const element = (id) => document.getElementById(id);
const shown = (x, places, unit = "") => (Number.isFinite(x) ? x.toFixed(places) + unit : "–");

const samples = [];

/** Remembers a message of telemetry. */
export function remember(telemetry) {
  const last = samples.at(-1);
  // A robot that was started again counts from the beginning.
  if (last && telemetry.time_s < last.time_s) samples.length = 0;
  if (last?.time_s !== telemetry.time_s) samples.push(telemetry);
  while (samples[0].time_s < telemetry.time_s - WINDOW_S) samples.shift();
}

/** Draws both plots. */
export function drawPlots() {
  const now = samples.at(-1)?.time_s;
  if (now === undefined) return;
  const x = samples.map((sample) => sample.time_s - now);
  const quantity = element("quantity").value;
  const joint = (_, i) => ({
    x, y: samples.map((s) => (s[quantity][i] ?? NaN) * SCALES[quantity]), colour: jointColour(i),
  });
  const window = { from: -WINDOW_S, to: 0 };
  plot(element("joint-plot"), samples.at(-1)[quantity].map(joint), window);
  const tick = (key, name) => ({ x, y: samples.map((s) => s[key] / 1000), colour: colour(name) });
  const ticks = [tick("lateness_us", "late"), tick("duration_us", "took")];
  plot(element("tick-plot"), ticks, { ...window, floor: 0 });
}

/** The joints' names in their colours. */
export function nameJoints(names) {
  element("names").replaceChildren(...names.map((name, i) => {
    const label = document.createElement("b");
    label.textContent = name.replaceAll("_", " ");
    label.className = `joint-${i % 8}`;
    return label;
  }));
  element("joints").replaceChildren(...names.map((name) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name.replaceAll("_", " ");
    row.append(head, ...[0, 1, 2].map(() => document.createElement("td")));
    return row;
  }));
}

/** The table of joints. */
export function showJoints({ positions_rad, loads, temperatures_c }) {
  [...element("joints").rows].forEach(({ cells }, i) => {
    cells[1].textContent = shown(positions_rad[i] * DEGREES, 1);
    cells[2].textContent = shown(loads[i] * 100, 0, " %");
    cells[3].textContent = shown(temperatures_c[i], 0);
  });
}

/** What is counted. */
export function showFacts({ timing, counters, faults, log, rate_hz, policy }) {
  const ms = (us) => shown(us / 1000, 2, " ms");
  const ill = Object.entries({ ...faults.bus, implausible: faults.implausible }).filter(([, n]) => n > 0);
  const facts = [
    ["Policy", policy ?? "none steers now"],
    ["Ticks", `${rate_hz} per second, ${counters.missed} missed`],
    ["Late by", `${ms(timing.lateness_us.p50)} (half), ${ms(timing.lateness_us.p99)} (99 %)`],
    ["Real-time priority", { true: "yes", false: "no: see regoal doctor" }[timing.realtime] ?? "not known"],
    ["Servo bus", ill.map(([name, n]) => `${n} × ${name.replaceAll("_", " ")}`).join(", ") || "no faults"],
    ["Log", log ? `${log.episodes} episodes${log.disk_full ? ", THE DISK IS FULL" : ""}${log.last_error ? `, ${log.last_error}` : ""}` : "nothing is logged"],
  ];
  element("facts").replaceChildren(...facts.flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}
