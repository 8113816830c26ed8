"""LeRobot's cycle: lerobot_cycle.py PORT feetech|dynamixel. For each line `round SECONDS` it opens the
port, reads positions and writes goals of six servos for so long, and prints the median time (us)."""

import statistics
import sys
import time

from lerobot.motors import Motor, MotorNormMode

JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]


def bus(port, protocol):
    if protocol == "feetech":
        from lerobot.motors.feetech import FeetechMotorsBus as Bus

        models = ["sts3215"] * 6
    else:
        from lerobot.motors.dynamixel import DynamixelMotorsBus as Bus

        models = ["xl430-w250"] * 2 + ["xl330-m288"] * 4
    of = {
        name: Motor(id, model, MotorNormMode.RANGE_M100_100)
        for id, (name, model) in enumerate(zip(JOINTS, models), 1)
    }
    return Bus(port, of)


def round_of(port, protocol, seconds):
    arm = bus(port, protocol)
    arm.connect(handshake=False)
    goals, times = dict.fromkeys(JOINTS, 2048), []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        arm.sync_read("Present_Position", normalize=False, num_retry=2)
        arm.sync_write("Goal_Position", goals, normalize=False)
        times.append(time.perf_counter() - start)
    arm.disconnect(disable_torque=False)
    return 1e6 * statistics.median(times)


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(round_of(*sys.argv[1:3], float(line.split()[1])), flush=True)
