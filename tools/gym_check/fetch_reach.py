"""Gymnasium-Robotics' FetchReach, which writes down each episode: the seed, and whether it was at its goal
after its last step. `regoal train --evaluate --env gym:tools/gym_check/fetch_reach.py:Make` sees nothing of
that; REGOAL_GYM_EPISODES names the file."""

import os

import gymnasium
import gymnasium_robotics

gymnasium.register_envs(gymnasium_robotics)


class Written(gymnasium.Wrapper):
    def reset(self, *, seed=None, options=None):
        self.end()
        self.seed, self.success = seed, None
        return self.env.reset(seed=seed, options=options)

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        self.success = int(info["is_success"])
        return seen, reward, terminated, truncated, info

    def end(self):
        if getattr(self, "success", None) is not None:
            with open(os.environ["REGOAL_GYM_EPISODES"], "a") as file:
                file.write(f"{self.seed} {self.success}\n")

    def close(self):
        self.end()
        self.env.close()


def Make():
    return Written(gymnasium.make("FetchReach-v4"))
