"""Our datasets in LeRobot and LeRobot's in ours: dataset.py REGOAL EPISODES FOLDER."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.compute_stats import aggregate_stats, compute_episode_stats
from lerobot.datasets.io_utils import load_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

REGOAL, EPISODES, FOLDER = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
EXPORT = FOLDER / "export"


def regoal(*arguments):
    done = subprocess.run([REGOAL, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


class Read:
    """An episode, as the public MCAP reader tells it."""

    def __init__(self, file):
        self.steps = []
        with open(file, "rb") as stream:
            reader = make_reader(stream, decoder_factories=[DecoderFactory()])
            for _, channel, _, message in reader.iter_decoded_messages():
                if channel.topic == "/step":
                    # The number of the file, not of what is in it.
                    message.episode = 0
                    self.steps.append(message)
                elif channel.topic == "/episode":
                    message.number = 0
                    self.header = message
                elif channel.topic == "/outcome":
                    self.outcome = message

    def rows(self, field):
        return [numbers(getattr(step, field)) for step in self.steps]

    def bytes(self):
        messages = [self.header, self.outcome, *self.steps]
        return [message.SerializeToString(deterministic=True) for message in messages]


def numbers(value):
    """A row: a list, or a message with a field for each number."""
    if hasattr(value, "DESCRIPTOR"):
        return [getattr(value, field.name) for field in value.DESCRIPTOR.fields]
    return value if isinstance(value, (int, float)) else list(value)


def read(folder):
    """The episodes of a folder that are exported."""
    episodes = [Read(file) for file in sorted(folder.glob("episode-*.mcap"))]
    evaluation = 3
    return [e for e in episodes if e.header.source != evaluation and e.steps]


def same(found, expected, what, by=0.0):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    worst = np.max(np.abs(found - expected)) if found.size else 0.0
    if found.shape != expected.shape or not worst <= by:
        raise AssertionError(f"{what}: {found.shape} {expected.shape} differ by {worst}")


def loads():
    """LeRobot's loader gives the numbers of the episodes."""
    said = json.loads(regoal("episodes", "export", "lerobot", EPISODES, EXPORT, "--json"))
    dataset = LeRobotDataset("local/export", root=EXPORT)
    if (dataset.num_episodes, dataset.num_frames) != (said["episodes"], said["frames"]):
        raise AssertionError(f"{dataset.num_episodes}, {dataset.num_frames}: {said}")
    frames = dataset.hf_dataset.with_format("numpy")
    for episode, row in zip(read(EPISODES), dataset.meta.episodes, strict=True):
        rows = frames[row["dataset_from_index"] : row["dataset_to_index"]]
        same(rows["observation.state"], episode.rows("position"), "positions")
        same(rows["achieved_goal"], episode.rows("achieved_goal"), "achieved goals")
        same(rows["observation.environment_state"], episode.rows("desired_goal"), "goals")
        same(rows["monotonic_ns"], episode.rows("monotonic_ns"), "times")
    expected = read(EPISODES)[0].header.task or "reach the goal"
    if dataset[0]["task"] != expected:
        raise AssertionError(f"{dataset[0]['task']}, not {expected}")
    return f"{dataset.num_episodes} episodes, {dataset.num_frames} frames"


def statistics():
    """The statistics are what LeRobot computes itself."""
    dataset = LeRobotDataset("local/export", root=EXPORT)
    frames = dataset.hf_dataset.with_format("numpy")
    ours, parts, worst = load_stats(EXPORT), [], 0.0
    features = {name: f for name, f in dataset.features.items() if name in ours}
    for row in dataset.meta.episodes:
        rows = frames[row["dataset_from_index"] : row["dataset_to_index"]]
        parts.append(compute_episode_stats({name: np.asarray(rows[name]) for name in features}, features))
    theirs = aggregate_stats(parts)
    for name in features:
        if features[name]["dtype"] not in ("float32", "bool"):
            continue
        span = np.maximum(np.asarray(theirs[name]["max"]) - np.asarray(theirs[name]["min"]), 1e-3)
        for key in ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"):
            # LeRobot computes in single precision.
            off = np.max(np.abs(np.asarray(ours[name][key]) - np.asarray(theirs[name][key])) / span)
            worst = max(worst, float(off))
            if off > 1e-3:
                raise AssertionError(f"{name}/{key}: {ours[name][key]} {theirs[name][key]}")
        same(ours[name]["count"], theirs[name]["count"], f"{name}/count")
    return f"{len(features)} features, at most {worst:.1e} of the range apart"


def trains():
    """LeRobot's trainer learns from it: ACT, without a camera."""
    program = Path(sys.executable).parent / "lerobot-train"
    out = FOLDER / "act"
    arguments = {
        "dataset.repo_id": "local/export", "dataset.root": EXPORT, "policy.type": "act",
        "policy.device": "cpu", "policy.push_to_hub": "false", "policy.chunk_size": 10,
        "policy.n_action_steps": 10, "policy.dim_model": 64, "policy.dim_feedforward": 64,
        "policy.n_heads": 2, "steps": 20, "batch_size": 8, "num_workers": 0, "log_freq": 5,
        "save_freq": 20, "output_dir": out, "wandb.enable": "false",
    }
    done = subprocess.run(
        [program, *(f"--{key}={value}" for key, value in arguments.items())],
        capture_output=True, text=True,
    )
    said = done.stdout + done.stderr
    if done.returncode or not list(out.glob("checkpoints/*/pretrained_model/model.safetensors")):
        raise RuntimeError(said[-2000:])
    losses = [float(part.split()[0]) for part in said.split("loss:")[1:]]
    if not losses or not all(np.isfinite(losses)):
        raise AssertionError(said[-2000:])
    return f"20 steps, loss {losses[0]:.3f} to {losses[-1]:.3f}"


def returns():
    """What was exported comes back with the same numbers."""
    back = FOLDER / "back"
    regoal("episodes", "import", "lerobot", EXPORT, back)
    originals, imported = read(EPISODES), read(back)
    for i, (one, other) in enumerate(zip(originals, imported, strict=True)):
        if one.bytes() != other.bytes():
            raise AssertionError(f"episode {i} differs: {one.header} {other.header}")
    return f"{len(imported)} episodes"


def theirs():
    """A dataset that LeRobot wrote, with a camera, becomes episodes."""
    root = FOLDER / "theirs"
    joints = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"]
    names = [f"{joint}.pos" for joint in joints]
    feature = {"dtype": "float32", "shape": (6,), "names": names}
    features = {
        "observation.state": feature, "action": feature,
        "observation.images.front": {
            "dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"],
        },
    }
    dataset = LeRobotDataset.create("local/theirs", 30, features, root=root, robot_type="so101_follower")
    rng = np.random.default_rng(3)
    expected = []
    for episode in range(3):
        rows = rng.uniform(-90, 90, (20 + 5 * episode, 2, 6)).astype(np.float32)
        expected.append(rows)
        for state, action in rows:
            dataset.add_frame({
                "observation.state": state, "action": action, "task": f"task {episode % 2}",
                "observation.images.front": rng.integers(0, 255, (64, 64, 3), np.uint8),
            })
        dataset.save_episode()
    dataset.finalize()
    folder = FOLDER / "imported"
    regoal(
        "episodes", "import", "lerobot", root, folder, "--units", "degrees",
        "--robot", "firmware-config/emulated.toml",
    )
    found = read(folder)
    for i, (rows, episode) in enumerate(zip(expected, found, strict=True)):
        same(np.rad2deg(episode.rows("position")), rows[:, 0], "positions", 1e-4)
        same(np.rad2deg(episode.rows("action")), rows[:, 1], "actions", 1e-4)
        header = episode.header
        if header.task != f"task {i % 2}" or list(header.joints) != joints:
            raise AssertionError(f"{header.task} {header.joints}")
        if any(len(goal) != 3 for goal in episode.rows("achieved_goal")):
            raise AssertionError("no achieved goals")
        [video] = header.videos
        file = video.split("=", 1)[1].split("#")[0]
        if not video.startswith("observation.images.front=") or not Path(file).is_file():
            raise AssertionError(video)
    return f"{len(found)} episodes, videos referenced"


failed = 0
for name, run in [
    ("LeRobotDataset loads an export", loads),
    ("its statistics are LeRobot's", statistics),
    ("lerobot-train learns from it (ACT)", trains),
    ("import(export(x)) is x", returns),
    ("a dataset of LeRobot's is imported", theirs),
]:
    try:
        print(f"ok      {name:<40} {run()}", flush=True)
    except Exception as error:
        failed += 1
        print(f"FAILED  {name:<40} {type(error).__name__}: {error}", flush=True)
sys.exit(failed > 0)
