"""Two policies from two libraries, as anybody would write them, exported to ONNX.

Both move six joints to goal positions: the observation is (joint positions, goal positions) in rad,
the action a change of each goal position in rad per tick. `python policies.py FOLDER` writes
`pytorch.onnx` and `stable_baselines3.onnx`.
"""

import sys
from pathlib import Path

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from torch import nn

JOINTS = 6
UNIT = 0.015  # The largest action (rad per tick).


def export(model: nn.Module, path: Path) -> None:
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, 2 * JOINTS),),
        str(path),
        input_names=["observation"],
        output_names=["action"],
        dynamo=True,
        optimize=False,
        external_data=False,
    )


def pytorch() -> nn.Module:
    """A multilayer perceptron, regressed on what a proportional controller would do."""
    model = nn.Sequential(nn.Linear(2 * JOINTS, 128), nn.ReLU(), nn.Linear(128, JOINTS), nn.Tanh())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(3000):
        here, goal = torch.rand(2, 256, JOINTS) * 2 - 1
        wanted = torch.clamp(4 * (goal - here), -1, 1)
        loss = (model(torch.cat([here, goal], 1)) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"pytorch: loss {loss.item():.4f} after 3000 steps", file=sys.stderr)
    return nn.Sequential(model, Scale())


class Scale(nn.Module):
    """From shares of the largest action to rad per tick."""

    def forward(self, action: torch.Tensor) -> torch.Tensor:
        return action.clamp(-1, 1) * UNIT


class Reach(gymnasium.Env):
    """Joints that follow at once; the reward is what a step gains."""

    observation_space = gymnasium.spaces.Box(-2, 2, (2 * JOINTS,))
    action_space = gymnasium.spaces.Box(-1, 1, (JOINTS,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.here, self.goal = self.np_random.uniform(-1, 1, (2, JOINTS))
        self.left = 20
        return self.seen(), {}

    def step(self, action):
        before = np.abs(self.goal - self.here).sum()
        self.here = self.here + 0.1 * np.clip(action, -1, 1)
        self.left -= 1
        gained = before - np.abs(self.goal - self.here).sum()
        return self.seen(), 10 * float(gained), False, self.left == 0, {}

    def seen(self):
        return np.concatenate([self.here, self.goal]).astype(np.float32)


class Deterministic(nn.Module):
    """What a learned policy of Stable-Baselines3 does without its noise."""

    def __init__(self, policy) -> None:
        super().__init__()
        self.features, self.net, self.head = policy.features_extractor, policy.mlp_extractor, policy.action_net
        self.scale = Scale()

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.scale(self.head(self.net.forward_actor(self.features(observation))))


def stable_baselines3() -> nn.Module:
    model = PPO("MlpPolicy", Reach(), gamma=0.0, n_steps=2048, batch_size=256, learning_rate=1e-3, seed=1, device="cpu")
    model.learn(150_000)
    return Deterministic(model.policy)


if __name__ == "__main__":
    torch.manual_seed(1)
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    for make in (pytorch, stable_baselines3):
        export(make(), folder / f"{make.__name__}.onnx")
