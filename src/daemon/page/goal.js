// Goals: by a tap in the picture, by a slider or by numbers; and what became of them.

import * as api from "./api.js";
import { explain } from "./faults.js";
import { reach } from "./arm.js";

const DEGREES = 180 / Math.PI;
const POLL_MS = 150;
const element = (id) => document.getElementById(id);

const HOW = {
  end_effector_position: "Tap in the picture, drag the mark or type where the tip shall go (m).",
  end_effector_pose: "Tap in the picture or type where the tip shall go (m), and how it is turned (°).",
  joint_position: "Where the joints shall go (°).",
  object_position: "Tap in the picture or type where the object shall go (m).",
  none: "This robot takes no goals.",
};

const ENDINGS = {
  reached: "Reached",
  timed_out: "Not reached: the time was up",
  stopped: "Taken back",
  replaced: "Another goal took its place",
  stream_ended: "Its stream ended",
  object_lost: "Given up: where the object is was not told in time",
};

/** A slider and a number that are one value, `scale` of which is the API's 1. */
function field({ name, low, high, step, value, scale = 1 }) {
  const [label, text, slider, number] =
    ["label", "span", "input", "input"].map((tag) => document.createElement(tag));
  text.textContent = name;
  slider.type = "range";
  number.type = "number";
  for (const input of [slider, number]) {
    Object.assign(input, { min: low, max: high, step, value });
    input.setAttribute("aria-label", input === slider ? `${name} slider` : name);
  }
  slider.tabIndex = -1;
  const places = Math.max(0, -Math.floor(Math.log10(step)));
  slider.addEventListener("input", () => (number.value = Number(slider.value).toFixed(places)));
  number.addEventListener("input", () => (slider.value = number.value));
  label.className = "field";
  label.append(text, slider, number);
  return {
    label,
    get value() { return number.value === "" ? NaN : number.valueAsNumber / scale; },
    set value(x) { slider.value = number.value = (x * scale).toFixed(places); },
  };
}

export class GoalPanel {
  /** `onDraft` is told where the goal would be (m), or null. */
  constructor(onDraft) {
    this.onDraft = onDraft;
    this.fields = [];
    element("goal").addEventListener("input", () => this.drafted());
    element("goal").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go();
    });
  }

  /** Makes the fields that the robot's goals need. */
  setUp({ goal_space: space, joints }, geometry) {
    this.space = space;
    this.names = joints.map((joint) => joint.name);
    element("goal-how").textContent = HOW[space] ?? HOW.none;
    const far = Math.ceil(reach(geometry) * 20) / 20;
    const metres = (name, low, value) => field({ name, low, high: far, step: 0.005, value });
    const place = () => [metres("x (m)", -far, 0.1), metres("y (m)", -far, -0.2), metres("height z (m)", 0, 0.1)];
    const turn = (name) => field({ name, low: -180, high: 180, step: 1, value: 0, scale: DEGREES });
    this.fields = {
      end_effector_position: place,
      object_position: place,
      end_effector_pose: () => [...place(), ...["roll (°)", "pitch (°)", "yaw (°)"].map(turn)],
      joint_position: () => geometry.joints.map(({ name, lowest_rad, highest_rad }, i) => field({
        name: name.replaceAll("_", " "), scale: DEGREES, step: 0.5,
        low: Math.ceil(lowest_rad * DEGREES), high: Math.floor(highest_rad * DEGREES),
        value: ((joints[i].position_rad ?? 0) * DEGREES).toFixed(1),
      })),
    }[space]?.() ?? [];
    element("goal-fields").replaceChildren(...this.fields.map((one) => one.label));
    this.drafted();
  }

  get numbers() {
    return this.fields.map((one) => one.value);
  }

  get placed() {
    return this.fields.length > 0 && this.space !== "joint_position";
  }

  /** A tap in the picture. */
  place(x, y) {
    if (!this.placed) return;
    [this.fields[0].value, this.fields[1].value] = [x, y];
    this.drafted();
  }

  drafted() {
    const point = this.numbers.slice(0, 3);
    this.onDraft(this.placed && point.every(Number.isFinite) ? point : null);
  }

  allow(allowed) {
    element("go").disabled = !allowed || !this.fields.length;
  }

  say(text, how) {
    element("goal-says").textContent = text;
    element("goal-says").dataset.how = how;
  }

  async go() {
    const goal = this.numbers;
    if (!goal.every(Number.isFinite)) return this.say("Every field needs a number.", "bad");
    try {
      this.say("Asking…", "");
      const { id } = await api.reach({ goal, anyway: element("anyway").checked });
      this.id = id;
      this.say("On its way…", "");
      this.follow(id);
    } catch (refusal) {
      this.say(`Refused: ${refusal.message.replace(/; --anyway.*/, "")}.`, "bad");
    }
  }

  /** Asks until the goal has ended: a request that waits would keep a connection. */
  async follow(id) {
    while (this.id === id) {
      await new Promise((done) => setTimeout(done, POLL_MS));
      const { result, code } = await api.goal(id).catch((refusal) => refusal);
      if (code === "not_found") return this.say("The robot has forgotten this goal.", "bad");
      if (result && this.id === id) return this.tell(result);
    }
  }

  tell({ ending, fault, distance, unit }) {
    const far = distance === null ? "" : unit === "m"
      ? `, ${(distance * 1000).toFixed(0)} mm from the goal`
      : `, ${(distance * DEGREES).toFixed(1)}° from the goal`;
    const what = fault ? explain(fault)[0].replace(/\.$/, "") : ENDINGS[ending] ?? ending;
    this.say(`${what}${far}.`, ending === "reached" ? "good" : "bad");
  }
}
