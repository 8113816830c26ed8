// Fine-tunings: what they are doing, their curves, how they ended and why.

import * as api from "./api.js";
import { colour, plot } from "./plot.js";
import { may } from "./roles.js";

const element = (id) => document.getElementById(id);

const ENDINGS = {
  staged: ["good", "✓", "Passed: it is tried next"],
  passed: ["good", "✓", "Passed"],
  refused: ["bad", "✗", "Refused"],
  cancelled: ["unknown", "–", "Cancelled"],
  failed: ["bad", "⚠", "Failed"],
};
const PHASES = { reading: "Reads the episodes", training: "Trains", judging: "Is judged in the emulator" };

/** How a job is, as colour, sign and words. */
function outcome({ state, result, cancelled, progress }) {
  if (state === "running" && cancelled) return ["unknown", "▸", "Is being cancelled"];
  if (state === "running") return ["running", "▸", PHASES[progress.at(-1)?.phase] ?? "Begins"];
  if (state === "interrupted") return ["bad", "⚠", cancelled ? "Cancelled" : "Interrupted"];
  return ENDINGS[result?.ending] ?? ["unknown", "?", result?.ending ?? "ended"];
}

const resumable = ({ state, result }) =>
  state === "interrupted" || ["cancelled", "failed"].includes(result?.ending);

export class LearningPanel {
  constructor() {
    this.jobs = [];
    /** The one that is shown; null for the newest. */
    this.chosen = null;
    const does = (id, act) => element(id).addEventListener("click", () => this.does(act));
    does("job-cancel", () => api.cancelJob(this.shown.id));
    does("job-resume", () => api.resumeJob(this.shown.id));
    element("learn").addEventListener("submit", (event) => {
      event.preventDefault();
      const steps = element("steps");
      if (!steps.checkValidity()) return this.say("Training steps: 1 to 1,000,000, or empty.", "bad");
      this.does(() => api.startJob(steps.value === "" ? {} : { steps: steps.valueAsNumber }));
    });
  }

  say(text, how = "") {
    element("learning-says").textContent = text;
    element("learning-says").dataset.how = how;
  }

  async does(act) {
    this.say("");
    try {
      await act();
      this.chosen = null;
      await this.refresh();
    } catch (refusal) {
      this.say(`${refusal.message}.`, "bad");
    }
  }

  /** Asks again, while the panel is seen. */
  async refresh() {
    if (element("learning").hidden) return;
    try {
      this.jobs = await api.jobs();
      const id = this.chosen ?? this.jobs[0]?.id;
      this.shown = id === undefined ? null : await api.job(id);
    } catch (refusal) {
      return this.say(`${refusal.message}.`, "bad");
    }
    if (!this.jobs.length) this.say("No fine-tuning yet.");
    else if (element("learning-says").dataset.how !== "bad") this.say("");
    this.show();
  }

  show() {
    const busy = this.jobs.some(({ state }) => state === "running");
    element("learn-start").disabled = busy || !may("deploy");
    element("jobs").replaceChildren(...this.jobs.map((job) => this.row(job)));
    element("job").hidden = !this.shown;
    if (this.shown) this.showJob(this.shown);
  }

  showJob(job) {
    const [how, , words] = outcome(job);
    const { step = 0, steps = 0 } = job.progress.at(-1) ?? {};
    element("job-title").textContent = `Fine-tuning ${job.id}: ${words}`;
    element("job-title").dataset.how = how;
    element("job-bar").value = steps ? step / steps : 0;
    element("job-about").textContent = [
      `${step} of ${steps} steps`, `${job.episodes} episodes logged`,
      job.starts > 1 && `started ${job.starts} times`,
      job.result?.candidate && `candidate ${job.result.candidate.slice(0, 8)}`,
    ].filter(Boolean).join(" · ");
    element("job-why").textContent = job.result?.why ?? "";
    element("job-cancel").disabled = job.state !== "running" || job.cancelled || !may("deploy");
    const busy = this.jobs.some(({ state }) => state === "running");
    element("job-resume").disabled = busy || !resumable(job) || !may("deploy");
    this.draw();
  }

  draw() {
    if (element("learning").hidden || !this.shown) return;
    const { progress } = this.shown;
    const curve = (key, name) => {
      const known = progress.filter((line) => Number.isFinite(line[key]));
      return { x: known.map((line) => line.step), y: known.map((line) => line[key]), colour: colour(name) };
    };
    const lines = [curve("loss", "took"), curve("validation", "late")];
    const known = lines.some((line) => line.x.length);
    element("loss").hidden = !known;
    const to = progress.at(-1)?.steps ?? 0;
    if (known) plot(element("loss-plot"), lines, { from: 0, to, floor: 0, unit: "" });
  }

  row(job) {
    const [item, button, mark, text, more] =
      ["li", "button", "i", "b", "span"].map((tag) => document.createElement(tag));
    const [how, sign, words] = outcome(job);
    mark.dataset.how = how;
    mark.textContent = sign;
    text.textContent = `${job.id} · ${words}`;
    const { step = 0, steps = 0 } = job.progress.at(-1) ?? {};
    more.textContent = job.result?.why || `${step} of ${steps} steps`;
    button.type = "button";
    button.setAttribute("aria-pressed", job.id === this.shown?.id);
    button.append(mark, text, more);
    button.addEventListener("click", () => {
      this.chosen = job.id;
      this.refresh();
    });
    item.append(button);
    return item;
  }
}
