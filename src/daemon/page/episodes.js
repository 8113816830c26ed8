// The robot's episodes: how they ended, their curves, and what a person says of them.

import * as api from "./api.js";
import { colour, jointColour, plot } from "./plot.js";

const COUNT = 50;
const DEGREES = 180 / Math.PI;
const element = (id) => document.getElementById(id);

const outcome = ({ success, damage }) =>
  damage ? ["damaged", "⚠", "damaged"]
    : success === null ? ["unknown", "?", "not known"]
      : success ? ["good", "✓", "success"] : ["bad", "✗", "failure"];

const date = (seconds) => new Date(seconds * 1000).toLocaleString([], {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

export class EpisodesPanel {
  constructor() {
    /** Of distances between goals. */
    this.unit = "";
    element("close").addEventListener("click", () => this.showAll());
    for (const button of document.querySelectorAll("[data-verdict]")) {
      button.addEventListener("click", () => this.label(button.dataset.verdict));
    }
  }

  async showAll() {
    element("episode").hidden = true;
    element("all-episodes").hidden = false;
    this.shown = null;
    try {
      const { total, episodes } = await api.episodes(COUNT);
      element("episodes-says").textContent = total > COUNT
        ? `${total} episodes, the newest ${COUNT}:`
        : total ? `${total} episodes, the newest first:` : "No episodes yet: each goal becomes one.";
      element("list").replaceChildren(...episodes.map((one) => this.row(one)));
    } catch (refusal) {
      element("episodes-says").textContent = refusal.message;
    }
  }

  row(summary) {
    const [item, button, mark, text, more] =
      ["li", "button", "i", "b", "span"].map((tag) => document.createElement(tag));
    const [how, sign, words] = outcome(summary);
    mark.dataset.how = how;
    mark.textContent = sign;
    mark.title = words;
    text.textContent = `${summary.id} · ${summary.task || summary.source}`;
    more.textContent = `${date(summary.started_s)} · ${summary.seconds.toFixed(1)} s · ${summary.reason || words}${this.distance(summary)}`;
    button.type = "button";
    button.append(mark, text, more);
    button.addEventListener("click", () => this.open(summary.id));
    item.append(button);
    return item;
  }

  distance({ distance }) {
    return distance === null ? "" : ` · ${distance.toPrecision(2)} ${this.unit} off`;
  }

  async open(id) {
    try {
      this.shown = await api.episode(id);
    } catch (refusal) {
      element("episodes-says").textContent = refusal.message;
      return;
    }
    element("all-episodes").hidden = true;
    element("episode").hidden = false;
    const { summary } = this.shown;
    const [, , words] = outcome(summary);
    element("episode-title").textContent = `Episode ${summary.id}: ${words}`;
    element("episode-about").textContent = [
      date(summary.started_s), `${summary.seconds.toFixed(1)} s, ${summary.steps} steps`, summary.source,
      summary.reason, summary.policy && `policy ${summary.policy.slice(0, 8)}`, summary.damage,
    ].filter(Boolean).join(" · ");
    element("episode-says").textContent = "";
    this.draw();
  }

  draw() {
    if (!this.shown || element("episodes").hidden) return;
    const { time_s: x, positions_rad, sent_rad, achieved_goal, desired_goal } = this.shown;
    const window = { from: 0, to: x.at(-1) ?? 0 };
    const degrees = (curve) => curve.map((q) => (q ?? NaN) * DEGREES);
    const lines = (curves, dashed) => curves.map((curve, i) => ({ x, y: degrees(curve), colour: jointColour(i), dashed }));
    plot(element("episode-plot"), [...lines(sent_rad, true), ...lines(positions_rad, false)], window);
    const distance = achieved_goal.map((at, i) => {
      const to = desired_goal[i] ?? [];
      return to.length && at.length === to.length ? Math.hypot(...at.map((a, k) => (a ?? NaN) - to[k])) : NaN;
    });
    const known = distance.some(Number.isFinite);
    element("distance-caption").textContent = known ? `Distance from the goal (${this.unit})` : "No distance from a goal was logged.";
    element("distance-plot").hidden = !known;
    if (known) plot(element("distance-plot"), [{ x, y: distance, colour: colour("goal") }], { ...window, floor: 0 });
  }

  async label(verdict) {
    try {
      await api.label(this.shown.summary.id, verdict);
      await this.open(this.shown.summary.id);
      element("episode-says").textContent = "Noted.";
    } catch (refusal) {
      element("episode-says").textContent = refusal.message;
    }
  }
}
