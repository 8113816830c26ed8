"""As much of Gymnasium as `tests/gym.rs` needs, with environments that fail in every way there is.

How often a faulty one still fails stands in the file that FAULTS names: the third step of an episode counts
it down.
"""

import math
import os
import random
import sys
import time
from pathlib import Path


class error:
    class Error(Exception):
        pass


class Space:
    def __init__(self, **facts):
        self.__dict__.update(facts)

    def __str__(self):
        return type(self).__name__


class Box(Space):
    pass


class Discrete(Space):
    pass


class Dict(Space):
    pass


class MultiBinary(Space):
    pass


def box(size, low=-1.0, high=1.0):
    return Box(shape=(size,), low=[low] * size, high=[high] * size, dtype=float)


class Point:
    """A point goes to a place in a square: observation and goal [2], action [2], a tenth of it a step."""

    max_episode_steps = 20
    distance_threshold = 0.15
    action_space = box(2, -2.0, 2.0)

    def __init__(self):
        self.observation_space = Dict(
            spaces={"observation": box(2), "achieved_goal": box(2), "desired_goal": box(2)}
        )

    def reset(self, seed=None):
        draw = random.Random(seed).uniform
        self.place, self.goal = ([draw(-1, 1), draw(-1, 1)] for _ in range(2))
        self.steps = 0
        return self.seen(), {}

    def step(self, action):
        self.steps += 1
        self.place = [min(1.0, max(-1.0, x + 0.1 * a)) for x, a in zip(self.place, action)]
        distance = math.dist(self.place, self.goal)
        info = {"is_success": distance < self.distance_threshold}
        return self.seen(), -distance, False, self.steps >= self.max_episode_steps, info

    def expert(self):
        return [min(2.0, max(-2.0, 10 * (g - x))) for x, g in zip(self.place, self.goal)]

    def seen(self):
        return {"observation": self.place, "achieved_goal": self.place, "desired_goal": self.goal}

    def close(self):
        pass


class Corridor:
    """Nine places in a row; choice 4 goes up, choice 3 goes down; it ends above."""

    max_episode_steps = 30
    ends = "success"
    observation_space = box(1)
    action_space = Discrete(n=2, start=3)

    def reset(self, seed=None):
        print("reset")
        os.write(1, b"past Python's own output\n")
        self.place = 4
        return [self.place], {}

    def step(self, action):
        print("step", action)
        if action not in (3, 4):
            raise ValueError(f"no choice: {action!r}")
        self.place += 1 if action == 4 else -1
        return [self.place], float(action), self.place > 7, False, {}

    def close(self):
        pass


class Uneven(Corridor):
    """What it is told, it shows."""

    observation_space = box(2)
    action_space = Box(shape=(2,), low=[0.0, -1.0], high=[10.0, 1.0], dtype=float)

    def reset(self, seed=None):
        return [0.0, 0.0], {}

    def step(self, action):
        return action, 0.0, False, False, {}


class Faulty(Point):
    def step(self, action):
        seen, *rest = super().step(action)
        if self.steps == 3 and count_down():
            seen = self.fail(seen)
        return (seen, *rest)


def count_down():
    path = os.environ["FAULTS"]
    with open(path) as file:
        left = int(file.read())
    with open(path, "w") as file:
        file.write(str(max(0, left - 1)))
    return left > 0


class Dies(Faulty):
    def fail(self, seen):
        print("these are the last words", file=sys.stderr, flush=True)
        os._exit(7)


class Hangs(Faulty):
    def fail(self, seen):
        print("this takes long", file=sys.stderr, flush=True)
        time.sleep(600)


class Raises(Faulty):
    def fail(self, seen):
        raise ZeroDivisionError("a mistake in the environment")


class Shapes(Faulty):
    def fail(self, seen):
        return {**seen, "achieved_goal": [0.0, 0.0, 0.0]}


class Short(Faulty):
    def fail(self, seen):
        return {**seen, "achieved_goal": [0.0]}


class Shifted(Faulty):
    """As many numbers as there should be, in other places."""

    def fail(self, seen):
        return {**seen, "observation": [0.0] * 3, "achieved_goal": [0.0]}


class Shrinks(Faulty):
    """Takes the memory away that it shares."""

    def fail(self, seen):
        for path in Path("/proc/self/fd").iterdir():
            if path.is_symlink() and "memfd:regoal" in os.readlink(path):
                os.truncate(path, 0)
        return seen


class Diverges(Faulty):
    def fail(self, seen):
        return {**seen, "observation": [math.nan, 0.0]}


class NoLimit(Corridor):
    max_episode_steps = None


class NoTolerance(Point):
    distance_threshold = None


class NoBounds(Corridor):
    action_space = box(2, -math.inf, math.inf)


class Bits(Corridor):
    action_space = MultiBinary(n=4)


class Words(Corridor):
    observation_space = Discrete(n=4)


class Parts(Corridor):
    observation_space = Dict(spaces={"camera": box(3)})


def make(name):
    made = globals().get(name.removesuffix("-v0"))
    if made is None or name == made:
        raise error.Error(f"Environment `{name}` doesn't exist.")
    return made()
