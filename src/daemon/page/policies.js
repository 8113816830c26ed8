// Policies: which one steers, which is on trial, which was before, and the way back.

import * as api from "./api.js";
import { may } from "./roles.js";

const EVENTS = 30;
const element = (id) => document.getElementById(id);

const CHANGES = {
  staged: "staged", committed: "committed", demoted: "taken out of use", rolled_back: "rolled back",
};
const short = (id) => id.slice(0, 8);
const named = ({ policy, version }) => short(policy) + (version ? `, version ${version}` : "");
const date = (nanoseconds) => new Date(nanoseconds / 1e6).toLocaleString([], {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

export class PoliciesPanel {
  constructor() {
    element("roll-back").addEventListener("click", () => this.ask(true));
    element("keep").addEventListener("click", () => this.ask(false));
    element("roll-back-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.rollBack();
    });
  }

  say(text, how = "") {
    element("policies-says").textContent = text;
    element("policies-says").dataset.how = how;
  }

  /** Asks again, while the panel is seen. */
  async refresh() {
    if (element("policies").hidden) return;
    try {
      this.show(await api.policies());
    } catch (refusal) {
      element("roll-back").disabled = true;
      this.say(`${refusal.message}.`, "bad");
    }
  }

  show({ steering, active, candidate, previous, events }) {
    const trial = candidate && named(candidate)
      + (candidate.starts ? `, start ${candidate.starts} of its trial` : ", waits for its trial");
    const facts = [
      ["Steers toward goals", steering ? short(steering) : "none"],
      ["Active", active ? named(active) : "none yet"],
      ["On trial", trial ?? "none"],
      ["Before", previous ? named(previous) : "none"],
    ];
    element("policies-facts").replaceChildren(...facts.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }));
    // A candidate is dropped; without one the policy before comes back.
    const [from, back] = candidate ? [candidate, active] : [active, previous];
    const open = candidate || previous;
    element("roll-back").disabled = !open || !may("deploy");
    const next = back ? `${short(back.policy)} steers` : "no policy steers";
    element("roll-back-what").textContent = open
      ? `${short(from.policy)} is given up, ${next} at once, in mid-goal too.` : "";
    element("events").replaceChildren(...events.slice(-EVENTS).reverse().map((event) => this.row(event)));
  }

  row({ at, policy, change, why }) {
    const [item, text, more] = ["li", "b", "span"].map((tag) => document.createElement(tag));
    text.textContent = `${short(policy)} ${CHANGES[change] ?? change}`;
    more.textContent = `${date(at)} · ${why}`;
    item.append(text, more);
    return item;
  }

  /** Shows the question, or takes it back. */
  ask(asked) {
    element("roll-back-form").hidden = !asked;
    element("roll-back").hidden = asked;
    element("why").value = "";
    if (asked) element("why").focus();
    this.say("");
  }

  async rollBack() {
    const why = element("why").value.trim();
    if (!why) return this.say("Say why: it stands among what happened.", "bad");
    try {
      await api.rollBack(why);
      this.ask(false);
      this.say("Rolled back.", "good");
      await this.refresh();
    } catch (refusal) {
      this.say(`${refusal.message}.`, "bad");
    }
  }
}
