// The arm in 3D on a canvas: a finger turns the view, a tap places the goal, two fingers zoom.

import { polyline, reach } from "./arm.js";
import { colour, sheet } from "./plot.js";

const TAP_PX = 8;
const GRAB_PX = 34;
const NEAR = 0.02;
const TRAIL = 200;

const sub = (a, b) => a.map((x, i) => x - b[i]);
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
const cross = ([a, b, c], [x, y, z]) => [b * z - c * y, c * x - a * z, a * y - b * x];
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

export class Scene {
  /** `onPlace` is told of points (m) on the plane of the goal's height. */
  constructor(canvas, onPlace) {
    this.canvas = canvas;
    this.onPlace = onPlace;
    // The arms of this kind point along -y: seen so, to the right.
    this.view = { azimuth: -2.5, elevation: 0.42, zoom: 1 };
    this.size = 0.4;
    this.points = [];
    /** Whether the goal that is being chosen is shown: where, in `draft` (m). */
    this.drafting = true;
    this.trail = [];
    this.fingers = new Map();
    this.listen();
  }

  set geometry(geometry) {
    this.chain = geometry;
    this.size = reach(geometry);
  }

  /** Takes over a message of telemetry; `space` is what goals are made of. */
  update(telemetry, space) {
    this.points = polyline(this.chain, telemetry.positions_rad);
    const [achieved, desired] = [telemetry.achieved_goal, telemetry.desired_goal].map((goal) =>
      space?.startsWith("joint") ? this.tipAt(goal) : goal.length >= 3 ? goal.slice(0, 3) : null);
    this.goal = desired;
    this.object = space === "object_position" ? achieved : null;
    const end = this.object ?? this.points.at(-1);
    if (end && (!this.trail.length || Math.hypot(...sub(end, this.trail.at(-1))) > 0.002)) {
      this.trail.push(end);
      if (this.trail.length > TRAIL) this.trail.shift();
    }
  }

  tipAt(positions) {
    return positions.length ? polyline(this.chain, positions).at(-1) ?? null : null;
  }

  /** The camera: where it is, and its axes. */
  get camera() {
    const { azimuth, elevation, zoom } = this.view;
    const [ca, sa, ce, se] = [Math.cos(azimuth), Math.sin(azimuth), Math.cos(elevation), Math.sin(elevation)];
    const out = [ce * ca, ce * sa, se];
    const right = [-sa, ca, 0];
    const centre = [0, -0.3 * this.size, 0.28 * this.size];
    const eye = centre.map((x, i) => x + (out[i] * 2.1 * this.size) / zoom);
    return { eye, right, up: cross(out, right), forward: out.map((x) => -x) };
  }

  /** What is to the right and away from the viewer, on the table. */
  get table() {
    const { right, forward } = this.camera;
    const flat = Math.hypot(forward[0], forward[1]);
    return { right, away: [forward[0] / flat, forward[1] / flat, 0] };
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const at = this.at(event);
      const draft = this.drafting && this.draft && this.project(this.draft);
      const grabs = Boolean(draft) && Math.hypot(draft[0] - at[0], draft[1] - at[1]) < GRAB_PX;
      this.fingers.set(event.pointerId, { at, from: at, moved: false, grabs });
    });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        const finger = this.fingers.get(event.pointerId);
        this.fingers.delete(event.pointerId);
        if (kind === "pointerup" && finger && !finger.moved) this.place(finger.at);
      });
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 600));
    }, { passive: false });
    canvas.addEventListener("keydown", ({ key }) => {
      const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[key];
      if (turns) this.turn(...turns);
      else if (key === "+" || key === "-") this.zoom(key === "+" ? 1.15 : 1 / 1.15);
    });
  }

  at(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  move(event) {
    const finger = this.fingers.get(event.pointerId);
    if (!finger) return;
    const at = this.at(event);
    const [dx, dy] = sub(at, finger.at);
    finger.moved ||= Math.hypot(...sub(at, finger.from)) > TAP_PX;
    if (!finger.moved) return;
    const other = [...this.fingers.values()].find((f) => f !== finger);
    if (other) {
      const apart = (p) => Math.max(20, Math.hypot(...sub(p, other.at)));
      other.moved = true;
      this.zoom(apart(at) / apart(finger.at));
    } else if (finger.grabs) {
      this.place(at);
    } else {
      this.turn(-dx / 160, dy / 160);
    }
    finger.at = at;
  }

  turn(azimuth, elevation) {
    this.view.azimuth += azimuth;
    this.view.elevation = clamp(this.view.elevation + elevation, 0.05, 1.5);
  }

  zoom(factor) {
    this.view.zoom = clamp(this.view.zoom * factor, 0.4, 4);
  }

  /** Where the line of sight through a point of the canvas meets the plane of the goal's height. */
  place([x, y]) {
    const { eye, right, up, forward } = this.camera;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const focal = this.focal(height, width);
    const [u, v] = [(x - width / 2) / focal, (height / 2 - y) / focal];
    const ray = forward.map((f, i) => f + u * right[i] + v * up[i]);
    const plane = this.draft?.[2] ?? 0;
    const way = (plane - eye[2]) / ray[2];
    const point = eye.map((e, i) => e + way * ray[i]);
    if (way > 0 && Math.hypot(point[0], point[1]) < 1.6 * this.size) this.onPlace(point[0], point[1]);
  }

  focal(height, width) {
    return 1.55 * Math.min(height, width * 0.8);
  }

  /** A point (m) on the canvas: x, y, distance; none behind the camera. */
  project(point) {
    const { eye, right, up, forward } = this.camera;
    const to = sub(point, eye);
    const depth = dot(to, forward);
    if (depth < NEAR) return null;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = this.focal(height, width) / depth;
    return [width / 2 + dot(to, right) * scale, height / 2 - dot(to, up) * scale, scale];
  }

  draw() {
    const { pen } = sheet(this.canvas);
    pen.lineCap = pen.lineJoin = "round";
    this.pen = pen;
    this.drawTable();
    this.line(this.points.map(([x, y]) => [x, y, 0]), colour("shade"), 0.018);
    this.line(this.trail, colour("trail"), 0.003);
    this.drawArm();
    if (this.object) this.ball(this.object, "object", 0.016, "object");
    if (this.drafting && this.draft) this.target(this.draft, "draft", true);
    if (this.goal) this.target(this.goal, "goal", false);
  }

  /** A line through points (m), so wide (m) in the picture's middle. */
  line(points, style, width, dash = []) {
    const drawn = points.map((point) => this.project(point));
    if (drawn.length < 2 || drawn.includes(null)) return;
    const { pen } = this;
    pen.setLineDash(dash);
    pen.strokeStyle = style;
    pen.lineWidth = Math.max(1, width * drawn[0][2]);
    pen.beginPath();
    drawn.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
    pen.setLineDash([]);
  }

  ball(point, name, radius, label) {
    const drawn = this.project(point);
    if (!drawn) return;
    const { pen } = this;
    const [x, y, scale] = drawn;
    pen.fillStyle = colour(name);
    pen.beginPath();
    pen.arc(x, y, Math.max(4, radius * scale), 0, 2 * Math.PI);
    pen.fill();
    if (label) this.text(label, x, y - radius * scale - 8);
  }

  text(text, x, y) {
    const { pen } = this;
    pen.font = "600 14px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    pen.strokeStyle = colour("card");
    pen.lineWidth = 4;
    pen.strokeText(text, x, y);
    pen.fillStyle = colour("text");
    pen.fillText(text, x, y);
  }

  drawTable() {
    const cell = this.size > 0.8 ? 0.1 : 0.05;
    const n = Math.ceil(this.size / cell);
    const end = n * cell;
    const grid = colour("grid");
    for (let i = -n; i <= n; i++) {
      this.line([[i * cell, -end, 0], [i * cell, end, 0]], grid, 0);
      this.line([[-end, i * cell, 0], [end, i * cell, 0]], grid, 0);
    }
    for (const [axis, name] of ["x", "y", "z"].entries()) {
      const tip = [0, 0, 0];
      tip[axis] = 0.25 * this.size;
      this.line([[0, 0, 0], tip], colour(`axis-${name}`), 0.003);
      const at = this.project(tip);
      if (at) this.text(name, at[0], at[1]);
    }
  }

  drawArm() {
    const { points } = this;
    this.line(points.slice(0, -1), colour("edge"), 0.032);
    this.line(points.slice(0, -1), colour("link"), 0.026);
    this.line(points.slice(-2), colour("edge"), 0.02);
    this.line(points.slice(-2), colour("hand"), 0.014);
    points.slice(1, -1).forEach((point) => this.ball(point, "joint", 0.009));
    if (points.length) this.ball(points.at(-1), "tip", 0.008);
  }

  /** A goal: a ring where it is, and a line down to the table. */
  target(point, name, draft) {
    const [x, y, z] = point;
    const style = colour(name);
    const dash = draft ? [6, 5] : [];
    const ring = (radius, height) => Array.from({ length: 25 }, (_, i) => {
      const angle = (i / 24) * 2 * Math.PI;
      return [x + radius * Math.cos(angle), y + radius * Math.sin(angle), height];
    });
    this.line([[x, y, 0], [x, y, z]], style, 0.002, dash);
    this.line(ring(0.02, 0), style, 0.002, dash);
    this.ball(point, name, 0.011, draft ? "new goal" : "goal");
  }
}
