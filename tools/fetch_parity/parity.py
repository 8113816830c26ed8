#!/usr/bin/env python3
"""Largest differences between our Fetch environments and Gymnasium-Robotics' (tools/fetch_parity/run).

usage: parity.py FOLDER PROGRAM: the installed models, and the program that plays actions in ours."""
import json
import subprocess
import sys

import gymnasium
import gymnasium_robotics
import mujoco
import numpy as np
from gymnasium_robotics.envs.fetch.fetch_env import MujocoFetchEnv
from gymnasium_robotics.utils import mujoco_utils, rotations

FOLDER, PROGRAM = sys.argv[1:]
EPISODES, STEPS, LIMIT = 5, 100, 1e-12


class StackTwo(MujocoFetchEnv):
    """Pick & place with a second block; observations in the order of ours."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self):
        block = lambda y: [1.25, y, 0.4, 1.0, 0.0, 0.0, 0.0]
        start = {"robot0:slide0": 0.405, "robot0:slide1": 0.48, "robot0:slide2": 0.0,
                 "object0:joint": block(0.53), "object1:joint": block(0.93)}
        super().__init__(
            model_path=f"{FOLDER}/stack_two.xml", has_object=True, block_gripper=False, n_substeps=20,
            gripper_extra_height=0.2, target_in_the_air=True, target_offset=0.0, obj_range=0.15,
            target_range=0.15, distance_threshold=0.05, initial_qpos=start, reward_type="sparse")

    def _reset_sim(self):
        super()._reset_sim()
        at = mujoco_utils.get_joint_qpos(self.model, self.data, "object1:joint")
        first = mujoco_utils.get_joint_qpos(self.model, self.data, "object0:joint")
        at[:2] = first[:2]
        while min(np.linalg.norm(at[:2] - other[:2]) for other in (first, self.initial_gripper_xpos)) < 0.1:
            at[:2] = self.initial_gripper_xpos[:2] + self.np_random.uniform(-0.15, 0.15, size=2)
        mujoco_utils.set_joint_qpos(self.model, self.data, "object1:joint", at)
        # From the beginning, as with one block: a second `mj_forward` would start from the first.
        qpos = self.data.qpos.copy()
        mujoco.mj_resetData(self.model, self.data)
        self.data.time, self.data.qpos[:], self.data.qvel[:] = self.initial_time, qpos, self.initial_qvel
        mujoco.mj_forward(self.model, self.data)
        return True

    def _get_obs(self):
        utils, of = mujoco_utils, (self.model, self.data)
        dt = self.n_substeps * self.model.opt.timestep
        names = ["object0", "object1"]
        grip, grip_speed = utils.get_site_xpos(*of, "robot0:grip"), utils.get_site_xvelp(*of, "robot0:grip") * dt
        joints, speeds = utils.robot_get_obs(*of, self._model_names.joint_names)
        places = [utils.get_site_xpos(*of, name) for name in names]
        rows = [grip, *places, *[place - grip for place in places], joints[-2:]]
        rows += [rotations.mat2euler(utils.get_site_xmat(*of, name)) for name in names]
        rows += [utils.get_site_xvelp(*of, name) * dt - grip_speed for name in names]
        rows += [utils.get_site_xvelr(*of, name) * dt for name in names]
        seen = np.concatenate([*rows, grip_speed, speeds[-2:] * dt])
        achieved = np.concatenate(places)
        return {"observation": seen, "achieved_goal": achieved, "desired_goal": np.resize(self.goal, 6)}

    def _is_success(self, achieved, desired):
        return np.float32(0)

    def compute_reward(self, achieved, goal, info):
        return 0.0


def action(seen, t, blocks, rng):
    """To the last block, close, up; from the 40th step on anything."""
    if blocks == 0 or t >= 40:
        return rng.uniform(-1, 1, 4).astype(np.float32)
    grip, block = seen[:3], seen[3 * blocks:3 * blocks + 3]
    off = block - grip
    if t < 10:
        off[2] += 0.08
    if t >= 22:
        off = np.array([0.01, 0.0, 0.02])
    return np.clip(np.append(15 * off, 1.0 if t < 18 else -1.0), -1, 1).astype(np.float32)


def compare(name, env, blocks):
    rng, worst, contacts = np.random.default_rng(7), 0.0, 0
    for seed in range(EPISODES):
        seen = [env.reset(seed=seed)[0]["observation"].copy()]
        at = [mujoco_utils.get_joint_qpos(env.model, env.data, f"object{i}:joint")[:2].tolist() for i in range(blocks)]
        goal = [float(x) for x in (env.goal if blocks < 2 else np.resize(env.goal, 6))]
        names = {mujoco.mj_name2id(env.model, mujoco.mjtObj.mjOBJ_GEOM, f"robot0:{side}_gripper_finger_link") for side in "rl"}
        actions = []
        for t in range(STEPS):
            actions.append(action(seen[-1].copy(), t, blocks, rng))
            seen.append(env.step(actions[-1])[0]["observation"].copy())
            touched = (names & {contact.geom1, contact.geom2} for contact in env.data.contact)
            contacts += any(touched)
        asked = json.dumps({"env": name, "blocks": at, "goal": goal, "actions": [a.tolist() for a in actions]})
        played = subprocess.run([PROGRAM], input=asked + "\n", capture_output=True, text=True, check=True)
        ours = np.array(json.loads(played.stdout))
        worst = max(worst, float(np.abs(ours - np.array(seen)).max()))
    print(f"{name:20} {env.model.nq:4} {EPISODES * STEPS:6} {contacts:8} {worst:12.2e}  {'same' if worst <= LIMIT else 'DIFFERS'}")
    return worst <= LIMIT and (contacts > 0 or blocks == 0)


gymnasium.register_envs(gymnasium_robotics)
make = lambda name: gymnasium.make(name, max_episode_steps=STEPS).unwrapped
print(f"mujoco {mujoco.__version__}, gymnasium-robotics {gymnasium_robotics.__version__}")
print(f"{'environment':20} {'nq':>4} {'steps':>6} {'touching':>8} {'difference':>12}")
same = [compare("fetch_reach", make("FetchReach-v4"), 0),
        compare("fetch_push", make("FetchPush-v4"), 1),
        compare("fetch_pick_place", make("FetchPickAndPlace-v4"), 1),
        compare("fetch_stack_two", StackTwo(), 2)]
sys.exit(0 if all(same) else 1)
