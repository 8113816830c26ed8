"""An environment whose steps cost nothing, so that what stands around it is measured."""

import gymnasium
import numpy
from gymnasium.spaces import Box


class Free(gymnasium.Env):
    max_episode_steps = 1000
    observation_space = Box(-1.0, 1.0, (10,), numpy.float32)
    action_space = Box(-1.0, 1.0, (4,), numpy.float32)
    seen = numpy.zeros(10, numpy.float32)

    def reset(self, *, seed=None, options=None):
        return self.seen, {}

    def step(self, action):
        return self.seen, 0.0, False, False, {}


def Make():
    return Free()
