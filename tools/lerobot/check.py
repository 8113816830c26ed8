"""LeRobot's buses and programs against `regoal emulate`: check.py REGOAL [PART...]."""

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from lerobot.motors import Motor, MotorCalibration, MotorNormMode
from lerobot.motors.dynamixel import DynamixelMotorsBus
from lerobot.motors.feetech import FeetechMotorsBus

REGOAL = sys.argv[1]
FOLDER = Path(tempfile.mkdtemp(prefix="regoal-lerobot-"))
JOINTS = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
# Of a program; the import of PyTorch alone takes seconds.
PATIENCE = 240
# LeRobot waits 50 ms at most for an answer; on a busy machine a terminal takes longer.
TRIES = 5
results = []


def show(name, run):
    """Runs one check and keeps what became of it."""
    start = time.monotonic()
    for attempt in range(1, TRIES + 1):
        try:
            found = run()
            passed, found = True, "" if found is None else str(found)
            break
        # The SDK takes half an answer for a whole one: an IndexError.
        except (ConnectionError, IndexError) as error:
            passed, found = False, f"{type(error).__name__}: {error}"
            print(f"        {name}: an answer was late, try {attempt}", flush=True)
        except Exception as error:
            passed, found = False, f"{type(error).__name__}: {error}".replace("\n", " ")[:1500]
            break
    results.append(passed)
    seconds = time.monotonic() - start
    print(f"{'ok' if passed else 'FAILED':<7} {name:<44} {seconds:6.1f} s  {found}", flush=True)


@contextmanager
def emulated(config, name):
    """An emulated arm; the path of its port."""
    link = FOLDER / name
    process = subprocess.Popen([REGOAL, "emulate", config, "--link", link], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while not link.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no port of {config}")
            time.sleep(0.05)
        yield str(link)
    finally:
        process.terminate()
        process.wait()


def expect(found, expected):
    if found != expected:
        raise AssertionError(f"expected {expected}, found {found}")
    return found


def near(found, expected, by):
    if any(abs(found[name] - expected[name]) > by for name in expected):
        raise AssertionError(f"expected {expected} within {by}, found {found}")


def bus_checks(title, bus):
    """Every operation of a motor bus."""

    def check(name, run):
        show(f"{title}: {name}", run)

    def calibration(offset):
        return {
            name: MotorCalibration(motor.id, 0, offset, 1000 + motor.id, 3000 + motor.id)
            for name, motor in bus.motors.items()
        }

    def write_one():
        bus.write("Goal_Position", "wrist_roll", 2100, normalize=False, num_retry=TRIES)
        return expect(read("Goal_Position", "wrist_roll"), 2100)

    def read(register, motor):
        return bus.read(register, motor, normalize=False, num_retry=TRIES)

    def sync_write():
        goals = {name: 2000 + 10 * i for i, name in enumerate(JOINTS)}
        bus.sync_write("Goal_Position", goals, normalize=False, num_retry=TRIES)
        found = bus.sync_read("Goal_Position", normalize=False, num_retry=TRIES)
        expect(found, goals)

    def torque():
        bus.enable_torque(num_retry=TRIES)
        expect([read("Torque_Enable", name) for name in JOINTS], [1] * 6)
        bus.sync_write("Goal_Position", dict.fromkeys(JOINTS, 2150), normalize=False)
        time.sleep(2)
        found = bus.sync_read("Present_Position", normalize=False, num_retry=TRIES)
        near(found, dict.fromkeys(JOINTS, 2150), 20)
        bus.disable_torque(num_retry=TRIES)
        expect([read("Torque_Enable", name) for name in JOINTS], [0] * 6)

    def calibrate():
        wished = calibration(-5)
        bus.write_calibration(wished)
        expect(bus.read_calibration(), wished)
        expect(bus.is_calibrated, True)

    def reset():
        bus.reset_calibration()
        found = bus.read_calibration()
        expect({c.homing_offset for c in found.values()}, {0})
        expect({(c.range_min, c.range_max) for c in found.values()}, {(0, 4095)})

    def half_turn():
        bus.set_half_turn_homings()
        found = bus.sync_read("Present_Position", normalize=False, num_retry=TRIES)
        near(found, dict.fromkeys(JOINTS, 2047), 4)

    def ranges():
        by_hand = iter([False] * 40 + [True])
        from lerobot.motors import motors_bus

        before, motors_bus.enter_pressed = motors_bus.enter_pressed, lambda: next(by_hand)
        try:
            low, high = bus.record_ranges_of_motion(display_values=False)
        finally:
            motors_bus.enter_pressed = before
        expect(all(low[name] < high[name] for name in JOINTS), True)

    def reconnect():
        bus.disconnect(True)
        bus.connect()
        bus.disconnect(True)

    check("connect and handshake", bus.connect)
    check("broadcast ping", lambda: expect(sorted(bus.broadcast_ping(num_retry=TRIES)), [1, 2, 3, 4, 5, 6]))
    check("ping", lambda: [bus.ping(name, num_retry=TRIES, raise_on_error=True) for name in JOINTS])
    # As its programs do: that unlocks the EEPROM too.
    check("torque off", lambda: bus.disable_torque(num_retry=TRIES))
    check("configure", bus.configure_motors)
    check("read", lambda: read("Present_Position", "gripper"))
    check("write", write_one)
    check("sync read", lambda: bus.sync_read("Present_Position", normalize=False, num_retry=TRIES))
    check("sync write", sync_write)
    check("write and read a calibration", calibrate)
    check("reset a calibration", reset)
    check("half-turn homing", half_turn)
    check("ranges of motion", ranges)
    check("reset again", reset)
    check("torque, motion, torque off", torque)
    check("disconnect and connect again", reconnect)


def feetech():
    with emulated("firmware-config/so101-follower.toml", "feetech") as port:
        motors = {n: Motor(i + 1, "sts3215", MotorNormMode.RANGE_M100_100) for i, n in enumerate(JOINTS)}
        bus_checks("FeetechMotorsBus", FeetechMotorsBus(port, motors))


def dynamixel():
    with emulated("firmware-config/koch-follower.toml", "dynamixel") as port:
        models = ["xl430-w250"] * 2 + ["xl330-m288"] * 4
        motors = {
            n: Motor(i + 1, models[i], MotorNormMode.RANGE_M100_100) for i, n in enumerate(JOINTS)
        }
        bus_checks("DynamixelMotorsBus", DynamixelMotorsBus(port, motors))


# How LeRobot says that an answer took longer than it waits.
LATE = re.compile("Missing motor IDs|There is no status packet|Incorrect status packet")


def program(name, arguments, replies=(), before=lambda: None):
    """The same as `once`, again where an answer came too late for LeRobot, which is printed."""
    for attempt in range(1, TRIES + 1):
        before()
        try:
            return once(name, arguments, replies)
        except RuntimeError as error:
            if attempt == TRIES or not LATE.search(str(error)):
                raise
            print(f"        {name}: an answer was late, once more", flush=True)


def once(name, arguments, replies):
    """Runs one of LeRobot's programs; each reply is given some seconds after its prompt."""
    command = [str(Path(sys.executable).parent / name), *arguments]
    environment = dict(os.environ, HF_LEROBOT_HOME=str(FOLDER / "home"), HF_HUB_OFFLINE="1", PYTHONUNBUFFERED="1")
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=environment)
    said, seen, until = "", 0, time.monotonic() + PATIENCE
    replies = list(replies)
    try:
        while time.monotonic() < until:
            if select.select([process.stdout], [], [], 0.2)[0]:
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    break
                said += chunk.decode(errors="replace")
            prompt = replies and re.search(replies[0][0], said[seen:])
            if prompt:
                seen += prompt.end()
                time.sleep(replies.pop(0)[1])
                process.stdin.write(b"\n")
                process.stdin.flush()
        process.stdin.close()
        code = process.wait(max(1, until - time.monotonic()))
    finally:
        process.kill()
    if code != 0:
        raise RuntimeError(f"exit status {code}: ...{said[-1200:]}")
    return said


def setup():
    """One servo on the bus takes each id in turn, as if another were plugged in each time."""
    for family, servo, teleop in [("feetech", "sts3215", "so101_leader"), ("dynamixel", "xl330-m077", "koch_leader")]:
        config = FOLDER / f"one-{family}.toml"
        config.write_text(
            f"""name = "one"
model = "none"
[bus]
protocol = "{family}"
port = "emulated"
baud = 1000000
[control]
goal_space = "joint_position"
rate_hz = 100.0
[[joint]]
name = "any"
id = 1
servo = "{servo}"
zero_ticks = 2048
direction = 1
min_rad = -1.5
max_rad = 1.5
max_velocity = 1.0
max_acceleration = 10.0
home_rad = 0.0
"""
        )
        with emulated(config, f"one-{family}") as port:
            prompts = [("only and press enter", 0.2)] * 6
            arguments = [f"--teleop.type={teleop}", f"--teleop.port={port}"]

            def run():
                said = program("lerobot-setup-motors", arguments, prompts)
                return expect(said.count("motor id set to"), 6) and "6 ids set"

            show(f"lerobot-setup-motors {teleop}", run)


def arms(kind, follower, leader):
    """Two arms, calibrated, teleoperated and recorded."""
    with emulated(follower, f"{kind}-follower") as one, emulated(leader, f"{kind}-leader") as other:
        robot = [f"--robot.type={kind}_follower", f"--robot.port={one}", "--robot.id=follower"]
        teleop = [f"--teleop.type={kind}_leader", f"--teleop.port={other}", "--teleop.id=leader"]
        prompts = [("range of motion and press ENTER", 0.5), ("Press ENTER to stop", 3)]

        def calibrate(arguments):
            said = program("lerobot-calibrate", arguments, prompts)
            expect("Calibration saved" in said, True)

        def record():
            folder = FOLDER / f"{kind}-data"
            dataset = {
                "repo_id": "local/emulated", "root": folder, "num_episodes": 2, "episode_time_s": 3,
                "reset_time_s": 1, "single_task": "nothing", "push_to_hub": "false", "video": "false",
            }
            arguments = [f"--dataset.{key}={value}" for key, value in dataset.items()]
            arguments = [*robot, *teleop, *arguments, "--play_sounds=false"]
            program("lerobot-record", arguments, before=lambda: shutil.rmtree(folder, ignore_errors=True))
            from lerobot.datasets.lerobot_dataset import LeRobotDataset

            found = LeRobotDataset("local/emulated", root=folder)
            expect(found.num_episodes, 2)
            return f"{found.num_episodes} episodes, {found.num_frames} frames"

        def teleoperate():
            said = program("lerobot-teleoperate", [*robot, *teleop, "--fps=60", "--teleop_time_s=5"])
            rates = sorted(int(rate) for rate in re.findall(r"\((\d+) Hz\)", said))
            return f"median {rates[len(rates) // 2]} Hz of 60"

        show(f"lerobot-calibrate {kind}_follower", lambda: calibrate(robot))
        show(f"lerobot-calibrate {kind}_leader", lambda: calibrate(teleop))
        show(f"lerobot-teleoperate {kind}", teleoperate)
        show(f"lerobot-record {kind}", record)


PARTS = {
    "feetech": feetech,
    "dynamixel": dynamixel,
    "setup": setup,
    "so101": lambda: arms("so101", "firmware-config/so101-follower.toml", "firmware-config/so101-leader.toml"),
    "koch": lambda: arms("koch", "firmware-config/koch-follower.toml", "firmware-config/koch-leader.toml"),
}

for part in sys.argv[2:] or PARTS:
    PARTS[part]()
print(f"{sum(results)} of {len(results)}")
sys.exit(not all(results))
