"""Small policies of every architecture that robots commonly run, as their users write them in PyTorch."""

import zlib
from dataclasses import dataclass
from typing import Callable

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Policy:
    """An architecture: how to make it, its inputs for one sample, and the names of its outputs.

    An input is (name, sizes of one sample, axis of the batch, number of classes or None for floats).
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple = (("observation", (6,), 0, None),)
    outputs: tuple = ("action",)
    output_batch_axes: tuple = (0,)
    distinct: bool = True
    """Whether noise makes all parameters distinct; exporters tie tensors that are equal."""

    def module(self) -> nn.Module:
        torch.manual_seed(self.seed())
        module = self.make().eval()
        with torch.no_grad():
            for buffer_name, buffer in module.named_buffers():
                if buffer_name.endswith("running_mean"):
                    buffer.normal_(0.0, 0.2)
                if buffer_name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)
            if self.distinct:
                for parameter in module.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        return module

    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    def draw(self, batch: int, generator: torch.Generator) -> list[torch.Tensor]:
        """Random inputs."""
        drawn = []
        for _, sizes, axis, classes in self.inputs:
            sizes = (*sizes[:axis], batch, *sizes[axis:])
            if classes is None:
                drawn.append(torch.randn(sizes, generator=generator))
            else:
                drawn.append(torch.randint(classes, sizes, generator=generator))
        return drawn


def mlp(activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(6, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 3)
    )


def layer_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 12), nn.LayerNorm(12), nn.GELU(),
        nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 3),
    )  # fmt: skip


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Linear(12, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3),
    )  # fmt: skip


def cnn_batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def cnn_group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.GroupNorm(3, 6), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Flatten(), nn.Linear(54, 3),
    )  # fmt: skip


def cnn_instance_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.SiLU(), nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(4, 6, 1), nn.ReLU(),
        nn.AvgPool2d(3, 2, 1), nn.Flatten(1), nn.Linear(24, 3),
    )  # fmt: skip


class Keypoints(nn.Module):
    """Spatial softmax (Finn et al., 2016): the expected position of each feature."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 5, 3, padding=1)
        self.head = nn.Linear(10 + 6, 3)
        self.temperature = nn.Parameter(torch.ones(()))
        axis = torch.linspace(-1.0, 1.0, 5)
        x, y = torch.meshgrid(axis, axis, indexing="xy")
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], 1))

    def forward(self, image, observation):
        features = self.conv2(F.relu(self.conv1(image)))
        n, c, h, w = features.shape
        attention = F.softmax(features.view(n * c, h * w) / self.temperature, dim=-1)
        points = (attention @ self.grid).view(n, 2 * c)
        return torch.tanh(self.head(torch.cat([points, observation], 1)))


class Decoder(nn.Module):
    """A small image from a state, by transposed convolutions."""

    def __init__(self):
        super().__init__()
        self.seed = nn.Linear(6, 4 * 3 * 3)
        self.up1 = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.up2 = nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1)

    def forward(self, observation):
        x = F.relu(self.seed(observation)).view(-1, 4, 3, 3)
        return torch.sigmoid(self.up2(F.elu(self.up1(x))))


class TemporalConv(nn.Module):
    """A trajectory in, a trajectory out, as the denoiser of a diffusion policy."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv1d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.middle = nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.condition = nn.Linear(6, 16)
        self.up = nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)
        self.out = nn.Conv1d(4 + 3, 3, 1)

    def forward(self, trajectory, observation):
        x = F.mish(self.norm(self.down(trajectory.transpose(1, 2))))
        scale, shift = self.condition(observation).unsqueeze(-1).chunk(2, dim=1)
        x = x + F.mish(self.middle(x) * (1 + scale) + shift)
        x = torch.cat([F.mish(self.up(x)), trajectory.transpose(1, 2)], dim=1)
        return self.out(x).transpose(1, 2)


class EncoderBlock(nn.Module):
    """A transformer block, normalised before each part."""

    def __init__(self, width=8, heads=2):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A window of observations, to the action after the last."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.position = nn.Parameter(torch.zeros(1, 5, 8))
        self.blocks = nn.ModuleList(EncoderBlock() for _ in range(2))

    def forward(self, observations):
        x = self.embed(observations) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


class Act(nn.Module):
    """An encoder over the robot's state and the goal, a decoder whose learned queries become a chunk of
    actions (Zhao et al., 2023, without the style variable)."""

    def __init__(self):
        super().__init__()
        self.state, self.goal = nn.Linear(6, 8), nn.Linear(3, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.queries = nn.Parameter(torch.zeros(4, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, observation, goal):
        tokens = torch.stack([self.state(observation), self.goal(goal)], dim=1)
        memory = self.encoder(tokens)
        queries = self.queries.unsqueeze(0).expand(observation.shape[0], -1, -1)
        return self.head(self.decoder(queries, memory))


class StepGru(nn.Module):
    """One observation and the hidden state [1, N, h] in, the action and the next hidden state out."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, observation, hidden):
        x, hidden = self.gru(observation.unsqueeze(1), hidden)
        return self.head(x[:, 0]), hidden


class CellGru(nn.Module):
    """The same with a cell and the hidden state [N, h]."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(6, 8), nn.Linear(8, 3)

    def forward(self, observation, hidden):
        hidden = self.cell(observation, hidden)
        return self.head(hidden), hidden


class StepLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 6, num_layers=2), nn.Linear(6, 3)

    def forward(self, observation, hidden, cell):
        x, (hidden, cell) = self.lstm(observation.unsqueeze(0), (hidden, cell))
        return self.head(x[0]), hidden, cell


class WindowLstm(nn.Module):
    """A window of observations, from a hidden state of zeros."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, observations):
        return self.head(self.lstm(observations)[0][:, -1])


class WindowGru(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, observations):
        return self.head(self.gru(observations)[0])


class Tasks(nn.Module):
    """One policy for several tasks: the task's number chooses an embedding."""

    def __init__(self):
        super().__init__()
        self.tasks = nn.Embedding(5, 4)
        self.net = nn.Sequential(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, observation, task):
        return self.net(torch.cat([observation, self.tasks(task)], -1))


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 12), nn.Tanh())


class Gaussian(Trunk):
    """Mean and logarithm of the standard deviation, clamped as in soft actor-critic."""

    def __init__(self):
        super().__init__()
        self.mean, self.log_std = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, observation):
        x = self.trunk(observation)
        return self.mean(x), torch.clamp(3.0 * self.log_std(x), -2.0, 0.5)


class Mixture(Trunk):
    """Mixture density network: normalised logits [N, k], means and log std [N, k, a]."""

    def __init__(self):
        super().__init__()
        self.logits, self.parts = nn.Linear(12, 3), nn.Linear(12, 3 * 2 * 2)

    def forward(self, observation):
        x = self.trunk(observation)
        means, log_std = self.parts(x).view(-1, 3, 4).split(2, dim=-1)
        logits = self.logits(x)
        logits = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
        return logits, means, -F.softplus(-log_std)


class Categorical(Trunk):
    """Each of 3 actions in 4 bins: logarithms of probabilities [N, 3, 4]."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 12)

    def forward(self, observation):
        return F.log_softmax(self.head(self.trunk(observation)).view(-1, 3, 4), dim=-1)


class Bilinear(Trunk):
    """Products of features over named axes."""

    def __init__(self):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(4, 12, 5) * 0.3)
        self.values = nn.Parameter(torch.randn(4, 5, 3) * 0.3)

    def forward(self, observation):
        x = self.trunk(observation)
        keys = torch.einsum("nf,hfk->nhk", x, self.keys)
        return torch.einsum("nhk,hka->na", torch.softmax(keys, dim=-1), self.values)


class Arrangement(nn.Module):
    """Normalised and clipped observations, cut, padded, chosen and put together again."""

    def __init__(self):
        super().__init__()
        self.register_buffer("center", torch.linspace(-0.3, 0.4, 6))
        self.register_buffer("spread", torch.linspace(0.6, 1.4, 6))
        self.first, self.second = nn.Linear(4, 6), nn.Linear(4, 6)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.head = nn.Linear(12, 3)

    def forward(self, observation):
        x = ((observation - self.center) / self.spread).clamp(-5.0, 5.0)
        position, velocity = x.split([4, 2], dim=-1)
        velocity = F.pad(velocity, (1, 1))
        a, b = self.first(position), self.second(velocity)
        x = torch.where(a > b, a, 0.1 * b).abs().clamp(min=1e-3).sqrt()
        x = torch.stack([x, a.minimum(b), torch.maximum(a, b)], dim=1)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x[:, ::2]], dim=1)
        return self.head(torch.cat([x.mean(1), x.amax(1)], -1).pow(2))


class ActorCritic(nn.Module):
    """Shaped as Stable-Baselines3's `ActorCriticPolicy`, of which users export the mean action."""

    def __init__(self):
        super().__init__()
        net = lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh())
        self.mlp_extractor = nn.ModuleDict({"policy_net": net(), "value_net": net()})
        self.action_net, self.value_net = nn.Linear(12, 3), nn.Linear(12, 1)
        self.log_std = nn.Parameter(torch.zeros(3))

    def forward(self, observation):
        features = torch.flatten(observation, 1)
        return self.action_net(self.mlp_extractor["policy_net"](features))


STATE, IMAGE = ("observation", (6,), 0, None), ("image", (1, 10, 10), 0, None)
WINDOW = (("observations", (5, 6), 0, None),)
HIDDEN = ("hidden", (1, 8), 1, None)
LAYERS = tuple((name, (2, 6), 1, None) for name in ("hidden", "cell"))

POLICIES = [
    *(
        Policy(f"mlp_{name}", mlp(activation))
        for name, activation in {
            "relu": nn.ReLU, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU,
            "gelu_tanh": lambda: nn.GELU("tanh"), "silu": nn.SiLU, "mish": nn.Mish,
            "tanh": nn.Tanh, "softplus": nn.Softplus,
        }.items()
    ),
    Policy("layer_norm", layer_norm),
    Policy("layer_norm_tied", layer_norm, distinct=False),
    Policy("batch_norm", batch_norm),
    Policy("cnn_batch_norm", cnn_batch_norm, (IMAGE,)),
    Policy("cnn_group_norm", cnn_group_norm, (IMAGE,)),
    Policy("cnn_instance_norm", cnn_instance_norm, (IMAGE,)),
    Policy("cnn_keypoints", Keypoints, (("image", (1, 11, 11), 0, None), STATE)),
    Policy("decoder", Decoder, outputs=("image",)),
    Policy("temporal_conv", TemporalConv, (("trajectory", (8, 3), 0, None), STATE)),
    Policy("transformer", Transformer, WINDOW),
    Policy("act", Act, (STATE, ("goal", (3,), 0, None)), ("actions",)),
    Policy("gru_step", StepGru, (STATE, HIDDEN), ("action", "next_hidden"), (0, 1)),
    Policy("gru_cell", CellGru, (STATE, ("hidden", (8,), 0, None)), ("action", "next_hidden"), (0, 0)),
    Policy("gru_window", WindowGru, WINDOW, ("actions",)),
    Policy("lstm_step", StepLstm, (STATE, *LAYERS), ("action", "next_hidden", "next_cell"), (0, 1, 1)),
    Policy("lstm_window", WindowLstm, WINDOW),
    Policy("embedding", Tasks, (STATE, ("task", (), 0, 5))),
    Policy("gaussian", Gaussian, outputs=("mean", "log_std"), output_batch_axes=(0, 0)),
    Policy("mixture", Mixture, outputs=("logits", "means", "log_std"), output_batch_axes=(0, 0, 0)),
    Policy("categorical", Categorical, outputs=("log_probabilities",)),
    Policy("einsum", Bilinear),
    Policy("arrangement", Arrangement),
    Policy("actor_critic", ActorCritic),
]
