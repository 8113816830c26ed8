// Fine-tunings: what they are doing, their curves, how they ended and why.

import * as api from "./api.js";
import { colour, plot } from "./plot.js";
import { may } from "./roles.js";

const element = (id) => document.getElementById(id);

const ENDINGS = {
  staged: ["good", "✓", "Passed, staged"],
  passed: ["good", "✓", "Passed"],
  refused: ["bad", "✗", "Refused"],
  cancelled: ["unknown", "–", "Cancelled"],
  failed: ["bad", "⚠", "Failed"],
};
const PHASES = { reading: "Reads episodes", training: "Trains", judging: "Is judged" };

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
    /** Its row by a job's number: one that is just being tapped must stay. */
    this.rows = new Map();
    this.complaint = "";
    const does = (id, act) => element(id).addEventListener("click", () => this.does(act));
    const changes = (ask) => () => ask((this.chosen = this.shown.id));
    does("job-cancel", changes(api.cancelJob));
    does("job-resume", changes(api.resumeJob));
    element("learn").addEventListener("submit", (event) => {
      event.preventDefault();
      const steps = element("steps");
      this.does(async () => {
        if (!steps.checkValidity()) throw new Error("Training steps: 1 to 1,000,000, or empty");
        await api.startJob(steps.value === "" ? {} : { steps: steps.valueAsNumber });
        this.chosen = null;
      });
    });
  }

  say(text, how) {
    element("learning-says").textContent = text;
    element("learning-says").dataset.how = how;
  }

  async does(act) {
    this.complaint = "";
    await act().catch(({ message }) => (this.complaint = `${message}.`));
    await this.refresh();
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
    if (this.complaint) this.say(this.complaint, "bad");
    else this.say(this.jobs.length ? "" : "No fine-tuning yet.", "");
    this.show();
  }

  show() {
    const busy = this.jobs.some(({ state }) => state === "running");
    element("learn-start").disabled = busy || !may("deploy");
    const rows = this.jobs.map((job) => this.row(job));
    const list = element("jobs");
    if (rows.length !== list.children.length || rows.some((row, i) => row !== list.children[i])) {
      list.replaceChildren(...rows);
    }
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
    const row = this.rows.get(job.id) ?? this.newRow(job.id);
    const button = row.firstElementChild;
    const [mark, text, more] = button.children;
    const [how, sign, words] = outcome(job);
    mark.dataset.how = how;
    mark.textContent = sign;
    text.textContent = `${job.id} · ${words}`;
    const { step = 0, steps = 0 } = job.progress.at(-1) ?? {};
    more.textContent = job.result?.why || `${step} of ${steps} steps`;
    button.setAttribute("aria-pressed", job.id === this.shown?.id);
    return row;
  }

  newRow(id) {
    const [item, button, ...parts] =
      ["li", "button", "i", "b", "span"].map((tag) => document.createElement(tag));
    button.type = "button";
    button.append(...parts);
    button.addEventListener("click", () => {
      this.chosen = id;
      this.refresh();
    });
    item.append(button);
    this.rows.set(id, item);
    return item;
  }
}
