"""A Gymnasium environment for `regoal train --env gym:NAME`, which starts this program as a child process.

    python gym_bridge.py NAME

NAME is an id (`CartPole-v1`), a module to import first and an id (`gymnasium_robotics:FetchReach-v4`), or a
file and a callable in it that returns an environment (`my/file.py:Make`).

Observations are a Box, or a goal environment's dictionary of three; they become rows of 32-bit numbers.
Actions are a Box or Discrete. A Box that is the same on both sides of 0 in each number is taken as it is;
any other is stretched to -1 ... 1. What Gymnasium does not say, the environment may say by attributes:
`distance_threshold` (when a goal counts as reached; needed with goals), `max_episode_steps` (needed where no
TimeLimit is around it), `ends` ("never", "success" or "failure": why it terminates), and a method `expert`
(the action of a demonstrator here and now).

Standard input and output are the protocol; what the environment prints goes to standard error. The first
line out says what the environment is, as JSON, or what is wrong. Then each request has one answer, all
little endian:

    request  op u32 (1 reset, 2 step, 3 expert), then 4 bytes or as many as an action has, whichever is
             more: seed u32; action f32[a] (a choice is its number from 0); nothing
    answer   status u8 (0 done, 1 failed), flags u8 (1 terminated, 2 truncated, 4 success is known,
             8 success), u16, size u32, reward f32, then size bytes: f32 rows of observation, achieved
             and desired goal; or the expert's action; or, where it failed, JSON
"""

import array
import importlib
import importlib.util
import json
import math
import os
import struct
import sys
import traceback

VERSION = 1
RESET, STEP, EXPERT = 1, 2, 3
TERMINATED, TRUNCATED, KNOWN, SUCCESS = 1, 2, 4, 8
GOALS = ("observation", "achieved_goal", "desired_goal")
UNBOUNDED = 1e30


class Problem(Exception):
    """What is wrong: a kind that the other side knows, and a text."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind, self.text = kind, text

    def json(self):
        return json.dumps({"regoal_bridge": VERSION, "error": self.kind, "text": self.text})


def raised(error):
    """An exception of the environment's own code: its last frames."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return Problem("raised", "".join(lines[-3:]).strip())


def make(name):
    """The environment of a name."""
    place, _, last = name.rpartition(":")
    if place.endswith(".py"):
        return of_file(place, last)
    try:
        import gymnasium
    except ImportError as error:
        raise Problem("no_gymnasium", str(error)) from error
    if place:
        try:
            importlib.import_module(place)
        except ImportError as error:
            raise Problem("unknown", f"cannot import {place}: {error}") from error
    try:
        return gymnasium.make(last)
    except gymnasium.error.Error as error:
        raise Problem("unknown", str(error)) from error


def of_file(path, name):
    if not os.path.exists(path):
        raise Problem("unknown", f"there is no file {path}")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("regoal_environment", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise Problem("unknown", f"{path} has no callable {name}")
    return getattr(module, name)()


def kind_of(space):
    """The name of a space's class or of the one it is derived from."""
    names = [c.__name__ for c in type(space).__mro__]
    return next((name for name in ("Box", "Discrete", "Dict") if name in names), names[0])


def flat(value):
    """All numbers of an array or of nested lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (list, tuple)):
        return [number for part in value for number in flat(part)]
    return [float(value)]


def packer():
    """What turns an array or nested lists into the bytes of 32-bit numbers."""
    try:
        import numpy
    except ImportError:
        return lambda value: array.array("f", flat(value)).tobytes()
    return lambda value: numpy.asarray(value, numpy.float32).tobytes()


def size_of(space, what):
    if kind_of(space) != "Box":
        raise Problem(
            "space",
            f"{what}: expected a Box, found {space}: wrap the environment with "
            "gymnasium.wrappers.FlattenObservation",
        )
    return math.prod(space.shape)


def attribute(env, name):
    """An attribute of the environment or of one of the wrappers around it."""
    while env is not None:
        found = getattr(env, name, None)
        if found is not None:
            return found
        inner = getattr(env, "env", None)
        env = inner if inner is not env else None
    return None


class Bridge:
    """An environment, and what is told of it."""

    def __init__(self, env):
        self.env, self.pack = env, packer()
        self.expert = attribute(env, "expert")
        self.has_goals = kind_of(env.observation_space) == "Dict"
        spaces = [env.observation_space]
        if self.has_goals:
            inner = env.observation_space.spaces
            if not set(GOALS) <= set(inner):
                raise Problem(
                    "space",
                    f"observations: expected a dictionary with {', '.join(GOALS)}, found "
                    f"{', '.join(inner)}: wrap the environment with gymnasium.wrappers.FlattenObservation",
                )
            spaces = [inner[name] for name in GOALS]
        names = GOALS if self.has_goals else ("observation",)
        self.sizes = [size_of(space, name) for space, name in zip(spaces, names)]
        if self.has_goals and self.sizes[1] != self.sizes[2]:
            raise Problem("space", f"expected goals of one size, found {self.sizes[1]} and {self.sizes[2]}")
        self.actions, self.action = self.acting(env.action_space)
        self.action_size = self.actions.get("size", 1)

    def acting(self, space):
        """What actions are, and what makes one of a request's bytes."""
        if kind_of(space) == "Discrete":
            start = int(getattr(space, "start", 0))
            return {"choices": int(space.n)}, lambda row: start + int(row[0])
        if kind_of(space) != "Box":
            raise Problem("space", f"actions: expected a Box or Discrete, found {space}: wrap the environment")
        low, high = flat(space.low), flat(space.high)
        if not all(abs(bound) < UNBOUNDED for bound in low + high):
            raise Problem(
                "space",
                f"actions: expected bounds, found {space}: give the action space bounds, in the environment "
                "or by a wrapper",
            )
        limit = max(high, default=0.0)
        as_is = limit > 0 and all(h == limit and l == -limit for l, h in zip(low, high))
        middle = [(l + h) / 2 for l, h in zip(low, high)]
        half = [(h - l) / 2 for l, h in zip(low, high)]

        def stretched(row):
            return row if as_is else [m + h * a for m, h, a in zip(middle, half, row)]

        try:
            import numpy
        except ImportError:
            action = stretched
        else:
            def action(row):
                return numpy.array(stretched(row), space.dtype).reshape(space.shape)
        return {"size": len(low), "limit": limit if as_is else 1.0}, action

    def announcement(self):
        horizon = attribute(self.env, "_max_episode_steps") or attribute(self.env, "max_episode_steps")
        horizon = horizon or getattr(getattr(self.env, "spec", None), "max_episode_steps", None)
        if not horizon:
            raise Problem(
                "space",
                "expected a time limit, found none: wrap the environment with gymnasium.wrappers.TimeLimit, "
                "or give it an attribute max_episode_steps",
            )
        tolerance = attribute(self.env, "distance_threshold") if self.has_goals else 0.0
        if tolerance is None:
            raise Problem(
                "space",
                "expected an attribute distance_threshold, found none: it says within which distance a goal "
                "counts as reached; set it on the environment",
            )
        ends = attribute(self.env, "ends") or ("success" if self.has_goals else "failure")
        if ends not in ("never", "success", "failure"):
            raise Problem("space", f"attribute ends: expected never, success or failure, found {ends}")
        return {
            "regoal_bridge": VERSION,
            "observation": self.sizes[0],
            "goal": self.sizes[1] if self.has_goals else 0,
            "actions": self.actions,
            "horizon": int(horizon),
            "tolerance": float(tolerance),
            "ends": ends,
            "expert": callable(self.expert),
        }

    def rows(self, observation):
        """The bytes of an observation."""
        parts = [observation[name] for name in GOALS] if self.has_goals else [observation]
        packed = [self.pack(part) for part in parts]
        for name, size, part in zip(GOALS, self.sizes, packed):
            if len(part) != 4 * size:
                raise Problem("shape", f"{name}: expected {size} numbers, found {len(part) // 4}")
        return b"".join(packed)

    def reset(self, seed):
        observation, info = self.env.reset(seed=seed)
        return success(info), 0.0, self.rows(observation)

    def step(self, row):
        observation, reward, terminated, truncated, info = self.env.step(self.action(row))
        flags = success(info) | (TERMINATED if terminated else 0) | (TRUNCATED if truncated else 0)
        return flags, float(reward), self.rows(observation)

    def demonstrate(self):
        action = self.pack(self.expert())
        if len(action) != 4 * self.action_size:
            raise Problem(
                "shape", f"expert: expected {self.action_size} numbers, found {len(action) // 4}"
            )
        return 0, 0.0, action

    def serve(self, requests, answers):
        """Answers until nobody asks any more."""
        action = struct.Struct(f"<{self.action_size}f")
        size = 4 + max(4, action.size)
        while request := take(requests, size):
            op = request[0]
            try:
                if op == STEP:
                    answer = self.step(action.unpack_from(request, 4))
                elif op == RESET:
                    answer = self.reset(*struct.unpack_from("<I", request, 4))
                elif op == EXPERT:
                    answer = self.demonstrate()
                else:
                    raise Problem("request", f"expected a request 1 to 3, found {op}")
                give(answers, 0, *answer)
            except Problem as problem:
                give(answers, 1, 0, 0.0, problem.json().encode())
            except Exception as error:
                give(answers, 1, 0, 0.0, raised(error).json().encode())


def success(info):
    found = info.get("is_success")
    return 0 if found is None else KNOWN | (SUCCESS if found else 0)


def take(descriptor, size):
    """So many bytes; none when the other side has closed."""
    got = os.read(descriptor, size)
    while 0 < len(got) < size:
        more = os.read(descriptor, size - len(got))
        if not more:
            return b""
        got += more
    return got


def give(descriptor, status, flags, reward, rows):
    answer = struct.pack("<BBHIf", status, flags, 0, len(rows), reward) + rows
    while answer:
        answer = answer[os.write(descriptor, answer):]


def descriptors():
    """The protocol's own, while what anybody prints goes to standard error."""
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests, answers


def main():
    requests, answers = descriptors()
    try:
        bridge = Bridge(make(sys.argv[1]))
        first = json.dumps(bridge.announcement())
    except Problem as problem:
        bridge, first = None, problem.json()
    except Exception as error:
        bridge, first = None, raised(error).json()
    os.write(answers, first.encode() + b"\n")
    if bridge:
        bridge.serve(requests, answers)
        bridge.env.close()


if __name__ == "__main__":
    main()
