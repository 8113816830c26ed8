// A person steers: while the button is held, messages go out; the arm holds when none comes.

import * as api from "./api.js";

const BEAT_MS = 50;
const LEASE_S = 5;
const element = (id) => document.getElementById(id);
const clamp = (x) => Math.min(1, Math.max(-1, x));

const KEYS = {
  ArrowLeft: ["right", -1], ArrowRight: ["right", 1], ArrowUp: ["away", 1], ArrowDown: ["away", -1],
  PageUp: ["up", 1], PageDown: ["up", -1], t: ["pitch", 1], g: ["pitch", -1],
  r: ["roll", 1], f: ["roll", -1], o: ["gripper", 1], c: ["gripper", -1],
};
const DEADMAN_KEY = "m";

export class SteerPanel {
  /** `table()` says what is right and away in the picture. */
  constructor(table) {
    this.table = table;
    this.pads = { right: 0, away: 0, up: 0 };
    this.pressed = new Map();
    this.held = false;
    this.hold(element("deadman"), (held) => this.setHeld(held));
    this.listenPad(element("pad"), (x, y) => Object.assign(this.pads, { right: x, away: y }));
    this.listenPad(element("lift"), (_, y) => (this.pads.up = y), true);
    for (const button of document.querySelectorAll("[data-axis]")) {
      const { axis, share } = button.dataset;
      this.hold(button, (held) => this.press(button, held && [axis, Number(share)]));
    }
    this.listenKeys();
    this.listenButtons();
    // A finger may leave without a word: with the page, say.
    for (const event of ["blur", "pagehide"]) addEventListener(event, () => this.letGoOfAll());
    document.addEventListener("visibilitychange", () => document.hidden && this.letGoOfAll());
  }

  press(key, axis) {
    if (axis) this.pressed.set(key, axis);
    else this.pressed.delete(key);
  }

  letGoOfAll() {
    this.pressed.clear();
    this.pads = { right: 0, away: 0, up: 0 };
    this.setHeld(false);
  }

  /** A button that counts as long as a finger is on it. */
  hold(button, on) {
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      button.classList.add("held");
      on(true);
    });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      button.addEventListener(end, () => {
        button.classList.remove("held");
        on(false);
      });
    }
    button.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  /** A pad that springs back to its middle. */
  listenPad(pad, on, upright = false) {
    const knob = pad.querySelector("i");
    const set = (x, y) => {
      knob.style.transform = `translate(${x * pad.clientWidth * 0.36}px, ${-y * pad.clientHeight * 0.36}px)`;
      on(x, y);
    };
    const follow = (event) => {
      if (!pad.hasPointerCapture(event.pointerId)) return;
      const { left, top, width, height } = pad.getBoundingClientRect();
      const share = (at, from, size) => clamp(((at - from) / size - 0.5) * 2.6);
      set(upright ? 0 : share(event.clientX, left, width), -share(event.clientY, top, height));
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      follow(event);
    });
    pad.addEventListener("pointermove", follow);
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
      pad.addEventListener(end, () => set(0, 0));
    }
  }

  listenKeys() {
    document.addEventListener("keydown", (event) => {
      if (this.panelHidden() || event.target.matches("input, select, canvas") || event.ctrlKey || event.metaKey) return;
      if (event.key === DEADMAN_KEY) this.setHeld(true);
      else if (KEYS[event.key]) this.press(event.key, KEYS[event.key]);
      else return;
      event.preventDefault();
    });
    document.addEventListener("keyup", ({ key }) => {
      if (key === DEADMAN_KEY) this.setHeld(false);
      this.press(key, null);
    });
  }

  panelHidden() {
    return element("steer").hidden;
  }

  listenButtons() {
    const does = (id, act) => element(id).addEventListener("click", () =>
      act().catch((refusal) => this.say(refusal.message, "bad")));
    does("record", async () => {
      await api.demonstrate();
      this.setRecording(true);
      this.say("Recording. Show it, then say how it went.", "");
    });
    for (const verdict of ["success", "failure"]) {
      does(verdict, async () => {
        await api.conclude(verdict);
        this.setRecording(false);
        this.say("The demonstration is among the episodes.", "good");
      });
    }
    does("back", async () => {
      await api.letGo();
      this.end();
    });
  }

  setRecording(recording) {
    this.recording = recording;
    element("success").hidden = element("failure").hidden = !recording;
    element("record").hidden = recording;
  }

  /** What the loop does now. */
  show({ mode, desired_goal }) {
    const steers = mode === "teleop";
    element("record").disabled = element("back").disabled = !steers;
    element("back").textContent = steers && desired_goal.length && !this.recording
      ? "Let go: the policy goes on" : "Let go";
    if (!steers && this.recording) {
      this.setRecording(false);
      this.say("The demonstration ended.", "");
    }
    if (!steers && this.steered) this.end();
    this.steered = steers;
  }

  allow(allowed) {
    element("deadman").disabled = !allowed;
    if (!allowed) this.setHeld(false);
  }

  say(text, how) {
    element("steer-says").textContent = text;
    element("steer-says").dataset.how = how;
  }

  async setHeld(held) {
    if (held === this.held) return;
    this.held = held;
    element("deadman").classList.toggle("held", held);
    clearInterval(this.beat);
    if (!held) {
      element("deadman").dataset.steering = "";
      this.send();
      return;
    }
    try {
      await this.open();
    } catch (refusal) {
      this.say(refusal.message, "bad");
      return;
    }
    if (!this.held) return;
    this.send();
    this.beat = setInterval(() => this.send(), BEAT_MS);
  }

  /** The lease, then the WebSocket. */
  async open() {
    if (this.socket?.readyState === WebSocket.OPEN) return;
    await api.takeLease(LEASE_S);
    this.renewal ??= setInterval(
      () => api.takeLease(LEASE_S).catch((refusal) => this.say(refusal.message, "bad")),
      (LEASE_S * 1000) / 3,
    );
    const socket = api.steer();
    this.socket = socket;
    socket.onmessage = ({ data }) => this.hear(JSON.parse(data));
    socket.onclose = () => this.socket === socket && this.end();
    await new Promise((opened, failed) => {
      socket.onopen = opened;
      socket.onerror = () => failed(new Error("The robot does not let you steer now: somebody else may."));
    });
  }

  hear({ steering, error }) {
    element("deadman").dataset.steering = steering ? "yes" : "";
    if (error) this.say(`${error}. Let go and press again.`, "bad");
    else this.say(steering ? "You steer." : "The arm holds.", steering ? "good" : "");
  }

  /** Nobody steers any more. */
  end() {
    clearInterval(this.renewal);
    this.renewal = undefined;
    const { socket } = this;
    this.socket = undefined;
    socket?.close();
    if (api.holdsLease()) api.releaseLease();
    element("deadman").dataset.steering = "";
    if (element("steer-says").dataset.how !== "bad") this.say("", "");
  }

  send() {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(this.pad()));
  }

  pad() {
    const sum = { ...this.pads, pitch: 0, roll: 0, gripper: 0 };
    for (const [axis, share] of this.pressed.values()) sum[axis] += share;
    for (const axis of Object.keys(sum)) sum[axis] = clamp(sum[axis]);
    const { right, away } = this.table();
    const linear = [0, 1].map((i) => clamp(sum.right * right[i] + sum.away * away[i]));
    const { up, pitch, roll, gripper } = sum;
    return { held: this.held, linear: [...linear, up], pitch, roll, gripper };
  }
}
