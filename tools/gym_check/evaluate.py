"""Runs an exported policy inside Gymnasium with Python's onnxruntime, on the seeds of a file of episodes, and
compares the successes with those in the file: prints a table, exits 1 where one differs.

    python evaluate.py POLICY.onnx EPISODES
"""

import sys

import gymnasium
import gymnasium_robotics
import numpy
import onnxruntime

gymnasium.register_envs(gymnasium_robotics)


def success(env, session, seed):
    seen, _ = env.reset(seed=seed)
    done = False
    while not done:
        given = {name: seen[name].astype(numpy.float32)[None] for name in ("observation", "desired_goal")}
        (action,) = session.run(["action"], given)
        seen, _, terminated, truncated, info = env.step(action[0].clip(-1, 1))
        done = terminated or truncated
    return int(info["is_success"])


def main():
    policy, episodes = sys.argv[1:]
    with open(episodes) as file:
        theirs = [tuple(map(int, line.split())) for line in file]
    env, session = gymnasium.make("FetchReach-v4"), onnxruntime.InferenceSession(policy)
    ours = [(seed, success(env, session, seed)) for seed, _ in theirs]
    differ = [seed for (seed, a), (_, b) in zip(theirs, ours) if a != b]
    print(f"{'episodes':>10} {'regoal':>10} {'onnxruntime in Python':>22} {'differ':>8}")
    counts = [sum(success for _, success in rows) for rows in (theirs, ours)]
    print(f"{len(ours):>10} {counts[0]:>10} {counts[1]:>22} {len(differ):>8}")
    if differ or not ours:
        print("seeds that differ:", *differ or ["none: no episodes"], file=sys.stderr)
        sys.exit(1)


main()
