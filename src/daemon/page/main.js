// What joins the page's parts: telemetry in, everything shown.

import * as api from "./api.js";
import { EpisodesPanel } from "./episodes.js";
import { explain } from "./faults.js";
import { GoalPanel } from "./goal.js";
import { drawPlots, nameJoints, remember, showFacts, showJoints } from "./joints.js";
import { LearningPanel } from "./learning.js";
import { modeOf } from "./modes.js";
import { PoliciesPanel } from "./policies.js";
import { learnRole, may } from "./roles.js";
import { Scene } from "./scene.js";
import { SteerPanel } from "./steer.js";

const STATUS_MS = 1000;
const PLOT_MS = 100;
const REFUSAL_MS = 8000;
const element = (id) => document.getElementById(id);

const goals = new GoalPanel((draft) => (scene.draft = draft));
const scene = new Scene(element("scene"), (x, y) => {
  select("goal");
  goals.place(x, y);
});
const person = new SteerPanel(() => scene.table);
const episodes = new EpisodesPanel();
const learning = new LearningPanel();
const policies = new PoliciesPanel();
let space = null;

function show(telemetry) {
  remember(telemetry);
  scene.update(telemetry, space);
  showJoints(telemetry);
  const mode = modeOf(telemetry);
  element("mode").textContent = mode.name;
  element("mode").dataset.mode = telemetry.alive ? telemetry.mode : "unknown";
  element("hint").textContent =
    may("observe") && !may("goal") ? "This page may look, and stop the arm." : mode.hint;
  allow(mode);
  person.show(telemetry);
  const faulted = telemetry.mode === "faulted";
  element("fault").hidden = !faulted;
  if (faulted) {
    const [what, todo] = explain(telemetry.fault);
    element("fault-what").textContent = what;
    element("fault-todo").textContent = todo;
  }
}

function allow(mode) {
  for (const id of ["arm", "stop", "disarm"]) element(id).disabled = !(mode[id] && may("goal"));
  goals.allow(Boolean(mode.goal && may("goal")));
  person.allow(Boolean(mode.steer && may("goal")));
}

function connected(here) {
  element("offline").hidden = here;
  if (!here) element("fault").hidden = true;
  document.body.classList.toggle("old", !here);
  if (!here) {
    element("mode").textContent = "No contact";
    element("mode").dataset.mode = "unknown";
    element("hint").textContent = "";
    allow({});
  }
}

async function refresh() {
  try {
    const [status, { holder }] = await Promise.all([api.status(), api.holder(), learnRole()]);
    showFacts(status);
    const others = holder && !api.holdsLease();
    element("holder").hidden = !others;
    element("holder").textContent = others ? `${holder} holds the arm` : "";
    const names = status.joints.map((joint) => joint.name).join();
    if (names !== refresh.names || status.goal_space !== space) {
      await meet(status);
      refresh.names = names;
    }
    await Promise.all([learning.refresh(), policies.refresh()]);
  } catch ({ code, message }) {
    // That there is no connection is told by telemetry.
    if (code === "unauthorized") refuse(message);
  }
  setTimeout(refresh, STATUS_MS);
}

/** A robot that was not seen before. */
async function meet(status) {
  const geometry = await api.geometry();
  space = status.goal_space;
  episodes.unit = status.unit;
  element("robot").textContent = status.robot;
  document.title = `${status.robot} · regoal`;
  scene.geometry = geometry;
  goals.setUp(status, geometry);
  nameJoints(status.joints.map((joint) => joint.name));
}

const tabs = [...document.querySelectorAll("[role=tab]")];

function select(name) {
  for (const tab of tabs) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    element(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
  scene.drafting = name === "goal";
  if (name === "episodes") episodes.showAll();
  if (name === "learning") learning.refresh();
  if (name === "policies") policies.refresh();
}

for (const [i, tab] of tabs.entries()) {
  const name = tab.getAttribute("aria-controls");
  tab.addEventListener("click", () => select(name));
  tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!step) return;
    const next = tabs.at((i + step) % tabs.length);
    select(next.getAttribute("aria-controls"));
    next.focus();
  });
}

function refuse(message) {
  element("refusal").textContent = message;
  element("refusal").hidden = false;
  clearTimeout(refuse.timer);
  refuse.timer = setTimeout(() => (element("refusal").hidden = true), REFUSAL_MS);
}

function does(id, act) {
  element(id).addEventListener("click", async () => {
    element("refusal").hidden = true;
    await act().catch(({ message }) => refuse(message));
  });
}
does("arm", api.arm);
does("disarm", api.disarm);
does("stop", async () => {
  await api.stop();
  // Who steered has let go, too; without a goal the arm holds then.
  if (element("mode").dataset.mode === "teleop") await api.letGo();
});

function frame() {
  scene.draw();
  requestAnimationFrame(frame);
}

api.telemetry(show, connected);
refresh();
frame();
setInterval(() => {
  drawPlots();
  episodes.draw();
  learning.draw();
}, PLOT_MS);
