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

Standard output is a socket, standard input is memory that both sides share; what the environment prints goes
to standard error. The first line over the socket says what the environment is, as JSON, or what is wrong; the
other side then makes the memory large enough. Each request is one byte: 1 reset, 2 step, 3 expert. So is its
answer, 0, when it is done; else it is a line of JSON, and what stands in the memory has no meaning. The memory
is f64 in the computer's own byte order:

    [0]      seed of a reset
    [1]      flags: 1 terminated, 2 truncated, 4 success is known, 8 success
    [2]      reward
    [8]...   action (a choice is its number from 0), observation, achieved and desired goal
"""

import array
import importlib
import importlib.util
import itertools
import json
import math
import mmap
import os
import socket
import sys
import traceback

try:
    import numpy
except ImportError:
    numpy = None

VERSION = 2
DONE, RESET, STEP, EXPERT = range(4)
SEED, FLAGS, REWARD, HEAD = 0, 1, 2, 8
TERMINATED, TRUNCATED, KNOWN, SUCCESS = 1, 2, 4, 8
GOALS = ("observation", "achieved_goal", "desired_goal")
UNBOUNDED = 1e30


class Problem(Exception):
    """What is wrong: a kind that the other side knows, and a text."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind, self.text = kind, text

    def line(self):
        problem = {"regoal_bridge": VERSION, "error": self.kind, "text": self.text}
        return json.dumps(problem).encode() + b"\n"


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


def row_of(value):
    """All numbers of an array or of nested lists, side by side."""
    return array.array("d", flat(value)) if numpy is None else numpy.asarray(value, numpy.float64).ravel()


def shared(memory, size):
    """So many numbers of the memory, to be read and written in place."""
    memory = mmap.mmap(memory, 8 * size)
    return memoryview(memory).cast("d") if numpy is None else numpy.frombuffer(memory)


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
        self.env = env
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
        """What actions are, and what makes one of a row."""
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

        # Each a copy: the environment may keep it.
        def action(row):
            row = row if as_is else [m + h * a for m, h, a in zip(middle, half, row)]
            return list(row) if numpy is None else numpy.array(row, space.dtype).reshape(space.shape)

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

    def share(self, memory):
        """Finds the places of the numbers in the memory."""
        ends = list(itertools.accumulate([self.action_size, *self.sizes], initial=HEAD))
        self.memory = shared(memory, ends[-1])
        self.row, *self.rows = [self.memory[start:end] for start, end in zip(ends, ends[1:])]

    def put(self, name, place, value):
        row = row_of(value)
        if len(row) != len(place):
            raise Problem("shape", f"{name}: expected {len(place)} numbers, found {len(row)}")
        place[:] = row

    def show(self, observation, reward, flags):
        parts = [observation[name] for name in GOALS] if self.has_goals else [observation]
        for name, place, part in zip(GOALS, self.rows, parts):
            self.put(name, place, part)
        self.memory[FLAGS], self.memory[REWARD] = flags, float(reward)

    def reset(self):
        observation, info = self.env.reset(seed=int(self.memory[SEED]))
        self.show(observation, 0.0, success(info))

    def step(self):
        observation, reward, terminated, truncated, info = self.env.step(self.action(self.row))
        flags = success(info) | (TERMINATED if terminated else 0) | (TRUNCATED if truncated else 0)
        self.show(observation, reward, flags)

    def demonstrate(self):
        self.put("expert", self.row, self.expert())

    def serve(self, stream):
        """Answers until nobody asks any more."""
        requests = {RESET: self.reset, STEP: self.step, EXPERT: self.demonstrate}
        while request := stream.recv(1):
            answer = bytes([DONE])
            try:
                requests[request[0]]()
            except Problem as problem:
                answer = problem.line()
            except Exception as error:
                answer = raised(error).line()
            stream.sendall(answer)


def success(info):
    found = info.get("is_success")
    return 0 if found is None else KNOWN | (SUCCESS if found else 0)


def standard():
    """The memory and the socket, while what anybody prints goes to standard error."""
    memory, stream = os.dup(0), socket.socket(fileno=os.dup(1))
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return memory, stream


def main():
    memory, stream = standard()
    try:
        bridge = Bridge(make(sys.argv[1]))
        first = json.dumps(bridge.announcement()).encode() + b"\n"
    except Problem as problem:
        bridge, first = None, problem.line()
    except Exception as error:
        bridge, first = None, raised(error).line()
    stream.sendall(first)
    if bridge:
        # Who asks has made the memory large enough.
        if stream.recv(1, socket.MSG_PEEK):
            bridge.share(memory)
            bridge.serve(stream)
        bridge.env.close()


if __name__ == "__main__":
    main()
