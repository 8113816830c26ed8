"""Updates of reinforcement learners as the peers do them, on the sizes of `updates.rs`."""

from copy import deepcopy

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(1)
torch.set_num_threads(1)

OBSERVATION = GOAL = ACTION = 2
HORIZON, EPISODES, DEMONSTRATIONS = 300, 10, 20
AGENT_ROWS, EXPERT_ROWS, RELABELLED = 256, 96, 0.8
LEARNING_RATE, GAMMA, TAU = 1e-4, 1 - 1 / HORIZON, 0.005


def work(peer: str, method: str, width: int):
    """What to repeat, and how many updates, or steps in the environment, that is."""
    match peer, method:
        case "torch-eager", "ddpg_her":
            return Ddpg(width, AGENT_ROWS).update, 1
        case "torch-eager", "goalgail":
            return GoalGail(width).two_updates, 2
        case "sb3-her", "ddpg_her":
            return sb3(width)
        case "imitation", "gail":
            return imitation(width)
    raise SystemExit(f"no peer {peer} for update/{method}")


def mlp(inputs: int, outputs: int, width: int, between, *after):
    return nn.Sequential(
        nn.Linear(inputs, width), between(), nn.Linear(width, width), between(), nn.Linear(width, outputs), *after
    )


def adam(network, rate: float):
    return torch.optim.Adam(network.parameters(), rate, fused=True)


def descend(optimiser, loss):
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


class Episodes:
    """Episodes of equal length in arrays, sampled with goals of their own future."""

    def __init__(self, count: int):
        self.rng = rng = np.random.default_rng(1)
        draw = lambda *sizes: rng.standard_normal(sizes).astype(np.float32)
        self.observation, self.achieved = draw(count, HORIZON + 1, OBSERVATION), draw(count, HORIZON + 1, GOAL)
        self.action, self.goal = draw(count, HORIZON, ACTION), draw(count, GOAL)

    def sample(self, rows: int, relabelled: float = RELABELLED):
        """`s, s', g, a, 1[s' = g]`"""
        rng = self.rng
        e, t = rng.integers(0, len(self.goal), rows), rng.integers(0, HORIZON, rows)
        future = rng.integers(t + 1, HORIZON + 1)
        new = rng.random(rows) < relabelled
        goal = np.where(new[:, None], self.achieved[e, future], self.goal[e])
        off = self.achieved[e, t + 1] - goal
        success = ((off * off).sum(1) < 0.25).astype(np.float32)
        columns = self.observation[e, t], self.observation[e, t + 1], goal, self.action[e, t], success
        return [torch.from_numpy(column) for column in columns]


class Ddpg:
    def __init__(self, width: int, rows: int):
        self.rows, self.replay = rows, Episodes(EPISODES)
        sight = OBSERVATION + GOAL
        self.actor, self.critic = mlp(sight, ACTION, width, nn.ReLU, nn.Tanh()), mlp(sight + ACTION, 1, width, nn.ReLU)
        self.actor_target, self.critic_target = deepcopy(self.actor), deepcopy(self.critic)
        self.actor_adam, self.critic_adam = adam(self.actor, LEARNING_RATE), adam(self.critic, LEARNING_RATE)
        self.own = [*self.actor.parameters(), *self.critic.parameters()]
        self.targets = [*self.actor_target.parameters(), *self.critic_target.parameters()]
        self.mean, self.deviation = torch.zeros(sight), torch.ones(sight)

    def sight(self, state, goal):
        return ((torch.cat([state, goal], 1) - self.mean) / self.deviation).clamp(-5, 5)

    def update(self):
        state, after, goal, action, success = self.replay.sample(self.rows)
        self.learn(state, after, goal, action, success, success)

    def learn(self, state, after, goal, action, success, reward):
        now, then = self.sight(state, goal), self.sight(after, goal)
        with torch.no_grad():
            value = self.critic_target(torch.cat([then, self.actor_target(then)], 1))[:, 0]
            wanted = (reward + GAMMA * (1 - success) * value).clamp(-500, 1)
        descend(self.critic_adam, F.mse_loss(self.critic(torch.cat([now, action], 1))[:, 0], wanted))
        self.critic.requires_grad_(False)
        descend(self.actor_adam, -self.critic(torch.cat([now, self.actor(now)], 1)).mean())
        self.critic.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(self.targets, self.own, TAU)


class GoalGail:
    """Rewards of a discriminator of `(s, g, a)`, which learns once in two updates."""

    def __init__(self, width: int):
        self.ddpg, self.shown = Ddpg(width, AGENT_ROWS), Episodes(DEMONSTRATIONS)
        self.discriminator = mlp(OBSERVATION + GOAL + ACTION, 1, width, nn.Tanh)
        self.adam = adam(self.discriminator, 1e-3)

    def seen(self, state, goal, action):
        noisy = action + 0.15 * torch.randn_like(action)
        return torch.cat([state, goal, noisy.clamp(-1, 1)], 1)

    def update(self):
        both = zip(self.ddpg.replay.sample(AGENT_ROWS), self.shown.sample(EXPERT_ROWS))
        state, after, goal, action, success = (torch.cat(pair) for pair in both)
        with torch.no_grad():
            reward = 0.1 * F.logsigmoid(self.discriminator(self.seen(state, goal, action)))[:, 0]
        self.ddpg.learn(state, after, goal, action, success, reward)

    def discriminate(self):
        rows = lambda episodes, relabelled: self.seen(*(episodes.sample(256, relabelled)[i] for i in (0, 2, 3)))
        expert, agent = rows(self.shown, RELABELLED), rows(self.ddpg.replay, 0.0)
        logits = self.discriminator(torch.cat([expert, agent]))
        sides = torch.cat([torch.ones(256, 1), torch.zeros(256, 1)])
        loss = 2 * F.binary_cross_entropy_with_logits(logits, sides)
        u = torch.rand(256, 1)
        between = (u * expert + (1 - u) * agent).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.discriminator(between).sum(), between, create_graph=True)
        descend(self.adam, loss + 10 * ((slope.norm(dim=1) - 1) ** 2).mean())

    def two_updates(self):
        self.update()
        self.update()
        self.discriminate()


def sb3(width: int):
    """Stable-Baselines3's DDPG with its own replay buffer, filled by random actions."""
    import gymnasium
    from gymnasium.spaces import Box, Dict
    from stable_baselines3 import DDPG, HerReplayBuffer
    from stable_baselines3.common.logger import configure

    box = lambda size: Box(-20.0, 20.0, (size,), np.float32)

    class Walk(gymnasium.Env):
        observation_space = Dict(observation=box(OBSERVATION), achieved_goal=box(GOAL), desired_goal=box(GOAL))
        action_space = Box(-1.0, 1.0, (ACTION,), np.float32)

        def see(self):
            return {"observation": self.at.copy(), "achieved_goal": self.at.copy(), "desired_goal": self.goal}

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.at, self.steps = np.zeros(2, np.float32), 0
            self.goal = self.np_random.uniform(-10, 10, 2).astype(np.float32)
            return self.see(), {}

        def step(self, action):
            self.at += 0.2 * action
            self.steps += 1
            return self.see(), self.compute_reward(self.at, self.goal, {}), False, self.steps == HORIZON, {}

        def compute_reward(self, achieved, wished, info):
            off = achieved - wished
            return ((off * off).sum(-1) < 0.25).astype(np.float32)

    collected = HORIZON * EPISODES
    model = DDPG(
        "MultiInputPolicy", Walk(), batch_size=AGENT_ROWS, buffer_size=10**6, gamma=GAMMA, tau=TAU, seed=1, device="cpu",
        learning_rate=LEARNING_RATE, learning_starts=2 * collected, policy_kwargs={"net_arch": [width, width]},
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "future"},
    )  # fmt: skip
    model.set_logger(configure(None, []))
    model.learn(collected)
    return lambda: model.train(gradient_steps=5, batch_size=AGENT_ROWS), 5


def sb3_replay(rows: int):
    """Batches of Stable-Baselines3's own replay buffer, a million transitions of Fetch pick & place in it: its
    arrays are filled at once, as episodes of 50 that each ran out of time."""
    import gymnasium
    from gymnasium.spaces import Box, Dict
    from stable_baselines3.common.vec_env import DummyVecEnv
    from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

    box = lambda size: Box(-20.0, 20.0, (size,), np.float32)

    class Fetch(gymnasium.Env):
        observation_space = Dict(observation=box(25), achieved_goal=box(3), desired_goal=box(3))
        action_space = Box(-1.0, 1.0, (4,), np.float32)

        def compute_reward(self, achieved, wished, info):
            return -(np.linalg.norm(achieved - wished, axis=-1) > 0.05).astype(np.float32)

    size, steps = 10**6, 50
    env, rng = DummyVecEnv([Fetch]), np.random.default_rng(1)
    buffer = HerReplayBuffer(size, env.observation_space, env.action_space, env, n_sampled_goal=4)
    for rows_of in [*buffer.observations.values(), *buffer.next_observations.values(), buffer.actions]:
        rows_of[:] = rng.random(rows_of.shape, np.float32)
    buffer.ep_start[:, 0] = np.arange(size) // steps * steps
    buffer.ep_length[:] = steps
    buffer.full = True
    return lambda: buffer.sample(rows)


def imitation(width: int):
    """GAIL as `imitation` has it, over 8 environments at once, which is where it is fastest."""
    import gymnasium
    from gymnasium.spaces import Box
    from imitation.algorithms.adversarial.gail import GAIL
    from imitation.data.types import Trajectory
    from imitation.data.wrappers import RolloutInfoWrapper
    from imitation.rewards.reward_nets import BasicRewardNet
    from imitation.util.logger import configure
    from imitation.util.networks import RunningNorm
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Point(gymnasium.Env):
        observation_space = Box(-20.0, 20.0, (4,), np.float32)
        action_space = Box(-1.0, 1.0, (2,), np.float32)

        def reset(self, seed=None, options=None):
            super().reset(seed=seed)
            self.state, self.steps = self.np_random.uniform(-2, 2, 4).astype(np.float32), 0
            return self.state.copy(), {}

        def step(self, action):
            self.state[:2] = np.clip(self.state[:2] + 0.2 * action, -20, 20)
            self.steps += 1
            off = self.state[2:] - self.state[:2]
            return self.state.copy(), -float(np.hypot(*off)), False, self.steps == 50, {}

    def demonstration(seed: int):
        point = Point()
        seen, actions = [point.reset(seed=seed)[0]], []
        for _ in range(50):
            actions.append(np.clip(5 * (seen[-1][2:] - seen[-1][:2]), -1, 1))
            seen.append(point.step(actions[-1])[0])
        return Trajectory(obs=np.array(seen), acts=np.array(actions), infos=None, terminal=False)

    envs, steps = 8, 2048
    points = DummyVecEnv([lambda: RolloutInfoWrapper(Point())] * envs)
    policy = PPO(
        "MlpPolicy", points, n_steps=steps // envs, batch_size=64, n_epochs=10, seed=1, device="cpu",
        policy_kwargs={"net_arch": [width, width]},
    )  # fmt: skip
    reward = BasicRewardNet(
        points.observation_space, points.action_space, hid_sizes=(width, width), normalize_input_layer=RunningNorm
    )
    gail = GAIL(
        demonstrations=[demonstration(seed) for seed in range(20)], demo_batch_size=256, n_disc_updates_per_round=16,
        gen_replay_buffer_capacity=steps, venv=points, gen_algo=policy, reward_net=reward, allow_variable_horizon=True,
        custom_logger=configure(None, []),
    )  # fmt: skip
    return lambda: gail.train(steps), steps
