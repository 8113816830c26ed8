#!/usr/bin/env python3
"""Writes `tests/data/classic.json`: motions of gymnasium's classic control (made with 1.4.0) that
the native ones are compared with. Needs `pip install gymnasium==1.4.0`.

    classic_reference.py > tests/data/classic.json
"""

import json
import random

import gymnasium
import numpy as np

# (our name, gymnasium's name, number of choices, start, steps): ordinary starts, and some beside
# every bound: falling, the wall, the top, the fastest joint, an angle that wraps.
EPISODES = [
    ("cart_pole", "CartPole-v1", 2, [0.01, -0.02, 0.03, 0.04], 25),
    ("cart_pole", "CartPole-v1", 2, [-2.38, -1.5, -0.2, 0.3], 3),
    ("mountain_car", "MountainCar-v0", 3, [-0.5, 0.0], 20),
    ("mountain_car", "MountainCar-v0", 3, [-1.17, -0.04], 8),
    ("mountain_car", "MountainCar-v0", 3, [0.42, 0.0697], 4),
    ("acrobot", "Acrobot-v1", 3, [0.05, -0.1, 0.02, 0.08], 25),
    ("acrobot", "Acrobot-v1", 3, [3.0, -3.1, 12.4, 28.2], 5),
    ("acrobot", "Acrobot-v1", 3, [2.0, 0.3, 3.0, -1.0], 4),
]


def main():
    rng = random.Random(0)
    episodes = []
    for name, theirs, choices, start, length in EPISODES:
        env = gymnasium.make(theirs).unwrapped
        env.reset(seed=0)
        env.state = np.array(start, dtype=np.float64)
        steps = []
        for _ in range(length):
            action = rng.randrange(choices)
            observation, reward, ended, _, _ = env.step(action)
            state = [round(float(x), 9) for x in env.state]
            steps.append({"action": action, "state": state, "reward": reward, "ended": ended})
            if ended:
                break
        observation = [float(x) for x in observation]
        episodes.append({"env": name, "start": start, "steps": steps, "observation": observation})
    lines = ",\n".join(json.dumps(episode) for episode in episodes)
    print(f'{{"gymnasium": "{gymnasium.__version__}", "episodes": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
