// The robot's modes: in words, and which buttons make sense.

const MODES = {
  disarmed: { name: "Disarmed", hint: "Torque is off. Press Arm to power up.", arm: true },
  holding: { name: "Holding", hint: "Give it a goal, or steer it.", goal: true, steer: true, disarm: true },
  reaching: { name: "Reaching", hint: "On its way to the goal.", goal: true, steer: true, stop: true, disarm: true },
  teleop: { name: "Steered", hint: "Nothing moves unless the button is held.", steer: true, stop: true, disarm: true },
  faulted: { name: "Stopped", hint: "", arm: true, disarm: true },
};
const UNKNOWN = { name: "No contact", hint: "" };

/** What a mode is called and what may be done in it. */
export const modeOf = ({ mode, alive }) => (alive && MODES[mode]) || UNKNOWN;
