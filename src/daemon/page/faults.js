// Each fault in words, and what to do.

export const FAULTS = {
  emergency_stop: ["Emergency stop.", "See that nobody is near the arm, then press Arm: it holds where it is."],
  bus_silent: ["The servos do not answer.", "Check their power supply and the cable from servo to servo, then press Arm."],
  port_lost: ["The arm's USB port is gone.", "Plug the cable in again. When the arm was found again, press Arm."],
  implausible_state: ["A joint jumped further than it can move.", "Check cable and plugs of the servo bus, and that no two servos have the same id. Then press Arm."],
  bad_action: ["The policy gave no usable action.", "Go back to the policy before (regoal policy rollback), then press Arm."],
  overheat: ["A servo is too hot.", "Support the arm and press Disarm. Let it cool down (Health shows the temperatures), then press Arm."],
  servo: ["A servo reports an error.", "Its light blinks. Support the arm, take its power away for a moment, look for what blocks it, then press Arm."],
  tracking: ["The arm does not follow.", "Look for what holds it back, take off some load, then press Arm."],
  stall: ["A joint pushed against something.", "Clear the way. The arm has backed off; press Arm to go on."],
  voltage: ["The supply voltage is out of range.", "Check the power supply: it must be the arm's own voltage and strong enough. Then press Arm."],
  policy_late: ["The policy is too slow.", "End other programs on the robot's computer, or deploy a smaller policy (regoal policy bench). Then press Arm."],
};

/** What happened, and what to do. */
export const explain = (fault) =>
  FAULTS[fault] ?? [`Stopped by a fault: ${fault}.`, "regoal doctor says more. Press Arm to clear it."];
