#!/usr/bin/env python3
"""What our figures are compared with, as a process that the benchmarks start.

  peers.py PEER FIGURE          e.g. `peers.py torch-eager train_step/mlp/256`
  peers.py export MODEL BATCH FILE

Prints `ready`; then for each line `round SECONDS` on stdin works for that long and prints a line:
steps a second, or for `act/` the median and the 99th percentile (us), or for `update/` and
`relabel/` updates and samples a second of processor time. THREADS (1 by default) CPUs are
used, the last ones, as the benchmarks themselves do.
"""

import os
import sys
import time

THREADS = int(os.environ.get("THREADS", "1"))
CPUS = sorted(os.sched_getaffinity(0))[-THREADS:]
# Before anything is imported that starts threads.
os.sched_setaffinity(0, CPUS)
os.environ.update(OMP_NUM_THREADS=str(THREADS), MKL_NUM_THREADS=str(THREADS))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if THREADS == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import numpy as np

MLP = [19, 256, 256, 256, 7]
LEARNING_RATE = 1e-4


def torch_model(name: str):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Act(nn.Module):
        """32 tokens to 32 actions: 4 layers, width 256, 3.2 M parameters."""

        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(19, 256), nn.Linear(256, 7)
            self.position = nn.Parameter(0.02 * torch.randn(32, 256))
            layers = (nn.TransformerEncoderLayer(256, 8, 1024, 0.0, "gelu", batch_first=True) for _ in range(4))
            self.layers = nn.ModuleList(layers)
            with torch.no_grad():  # Exporters tie what is equal.
                for parameter in self.parameters():
                    parameter.add_(0.001 * torch.randn_like(parameter))

        def forward(self, observation):
            x = self.embed(observation) + self.position
            for layer in self.layers:
                x = layer(x)
            return self.head(x)

    class Cnn(nn.Module):
        """4 convolutions over 96 x 96 and a spatial softmax, 133 k parameters."""

        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(i, o, 3, stride, 1) for i, o, stride in ((3, 32, 2), (32, 64, 2), (64, 64, 2), (64, 64, 1))
            )
            axis = torch.linspace(-1.0, 1.0, 12)
            x, y = torch.meshgrid(axis, axis, indexing="xy")
            self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], 1))
            self.hidden, self.head = nn.Linear(128 + 19, 256), nn.Linear(256, 7)

        def forward(self, image, observation):
            for conv in self.convs[:-1]:
                image = F.relu(conv(image))
            attention = F.softmax(self.convs[-1](image).flatten(2), dim=-1)
            points = (attention @ self.grid).flatten(1)
            return self.head(F.relu(self.hidden(torch.cat([points, observation], 1))))

    def mlp():
        layers = [x for i, o in zip(MLP, MLP[1:]) for x in (nn.Linear(i, o), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    torch.manual_seed(1)
    torch.set_num_threads(THREADS)
    return {"mlp": mlp, "act": Act, "cnn": Cnn}[name]()


def shapes(model: str, batch: int) -> tuple[list, tuple]:
    """Of the inputs and of the action."""
    return {
        "mlp": ([(batch, 19)], (batch, 7)),
        "act": ([(batch, 32, 19)], (batch, 32, 7)),
        "cnn": ([(batch, 3, 96, 96), (batch, 19)], (batch, 7)),
    }[model]


def samples(model: str, batch: int) -> tuple[list, np.ndarray]:
    rng = np.random.default_rng(1)
    inputs, action = shapes(model, batch)
    draw = lambda sizes, scale: (scale * rng.standard_normal(sizes)).astype(np.float32)
    return [draw(sizes, 1.0) for sizes in inputs], draw(action, 0.1)


def torch_step(model_name: str, batch: int, compiled: bool):
    import torch

    model = torch_model(model_name)
    inputs, target = samples(model_name, batch)
    inputs, target = [torch.from_numpy(i) for i in inputs], torch.from_numpy(target)
    adam = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)

    def loss_of(*inputs):
        return torch.nn.functional.mse_loss(model(*inputs), target)

    loss_of = torch.compile(loss_of) if compiled else loss_of

    def step():
        adam.zero_grad()
        loss = loss_of(*inputs)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def jax_step(batch: int):
    """Adam as in its paper, on a list of (weight, bias), jitted as one function with donated buffers."""
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(1)
    layers = [
        (jnp.asarray(rng.standard_normal((i, o)) * (2 / i) ** 0.5, jnp.float32), jnp.zeros(o)) for i, o in zip(MLP, MLP[1:])
    ]
    zeros = lambda: jax.tree.map(jnp.zeros_like, layers)
    inputs, target = samples("mlp", batch)
    x, target = jnp.asarray(inputs[0]), jnp.asarray(target)

    def loss_of(layers, x, target):
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return jnp.mean((x @ layers[-1][0] + layers[-1][1] - target) ** 2)

    def update(state, x, target):
        layers, mean, square, count = state
        loss, gradients = jax.value_and_grad(loss_of)(layers, x, target)
        count = count + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradients)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradients)
        first, second = 1 - 0.9**count, 1 - 0.999**count
        move = lambda p, m, v: p - LEARNING_RATE * (m / first) / (jnp.sqrt(v / second) + 1e-8)
        return (jax.tree.map(move, layers, mean, square), mean, square, count), loss

    compiled = jax.jit(update, donate_argnums=0)
    state = (layers, zeros(), zeros(), jnp.zeros(()))

    def step():
        nonlocal state
        state, loss = compiled(state, x, target)
        return float(loss)

    return step


def torch_act(model_name: str):
    """From numpy to numpy, as a control loop would call it."""
    import torch

    model = torch_model(model_name).eval()
    inputs, _ = samples(model_name, 1)

    def act():
        with torch.inference_mode():
            return model(*(torch.from_numpy(i) for i in inputs)).numpy()

    return act


def gymnasium_steps(peer):
    """A hundred steps of an environment that costs nothing: called, or as one of Gymnasium's vectors."""
    import gymnasium
    import numpy
    from free_env import Make

    vectors = {"sync-vector": gymnasium.vector.SyncVectorEnv, "async-vector": gymnasium.vector.AsyncVectorEnv}
    env = vectors[peer]([Make]) if peer in vectors else Make()
    env.reset(seed=0)
    action = numpy.zeros((1, 4) if peer in vectors else 4, numpy.float32)

    def steps():
        for _ in range(100):
            env.step(action)

    return steps


def four_rooms():
    """A thousand steps of a point in four rooms, in plain Python: quicker than numpy for one point."""

    def is_wall(column, row):
        door = (row == 12 and column % 12 == 6) or (column == 12 and row % 12 == 6)
        return (column % 12 == 0 or row % 12 == 0) and not door

    walls = [[is_wall(column, row) for row in range(25)] for column in range(25)]
    x = y = 0.0

    def slide(at, by, column, row, across):
        ahead = 1 if by >= 0 else -1
        beyond = walls[column + ahead][row] if across else walls[column][row + ahead]
        if beyond:
            free = 0.495 - (at - ((column if across else row) - 20)) * ahead
            return at + ahead * min(abs(by), max(free, 0.0))
        return at + by

    def move(action):
        nonlocal x, y
        a, b = (max(-1.0, min(1.0, command)) for command in action)
        x = slide(x, 0.2 * a, int(x + 20.5), int(y + 20.5), True)
        y = slide(y, 0.2 * b, int(x + 20.5), int(y + 20.5), False)
        return x, y

    def steps():
        for way in (1.0, -1.0):
            for _ in range(500):
                move((way, 0.5 * way))

    return steps


def fetch_steps():
    import warnings

    import gymnasium
    import gymnasium_robotics

    warnings.simplefilter("ignore")
    gymnasium.register_envs(gymnasium_robotics)
    env, rng = gymnasium.make("FetchPickAndPlace-v4"), np.random.default_rng(0)
    env.reset(seed=0)

    def step():
        _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, 4).astype(np.float32))
        if terminated or truncated:
            env.reset()

    return step


def export(model_name: str, batch: int, path: str):
    import torch

    model = torch_model(model_name).eval()
    inputs = tuple(torch.from_numpy(i) for i in samples(model_name, batch)[0])
    names = ["image", "observation"] if len(inputs) == 2 else ["observation"]
    program = torch.onnx.export(
        model, inputs, dynamo=True, optimize=False, verbose=False, input_names=names, output_names=["action"]
    )
    program.save(path, external_data=False)


def rate(step, seconds: float) -> str:
    start, steps = time.perf_counter(), 0
    while True:
        step()
        steps += 1
        took = time.perf_counter() - start
        if took >= seconds:
            return str(steps / took)


def cpu_rate(step, seconds: float) -> float:
    start, steps = time.process_time(), 0
    while True:
        step()
        steps += 1
        took = time.process_time() - start
        if took >= seconds:
            return steps / took


def latencies(act, seconds: float) -> str:
    start = before = time.perf_counter_ns()
    times = []
    while before - start < seconds * 1e9:
        act()
        after = time.perf_counter_ns()
        times.append(after - before)
        before = after
    return " ".join(str(t / 1e3) for t in np.percentile(times, [50, 99]))


def serve(peer: str, figure: str):
    what, model, *batch = figure.split("/")
    if what == "act" and peer == "torch-eager":
        work, measure = torch_act(model), latencies
    elif what == "train_step" and peer in ("torch-eager", "torch-compile"):
        work, measure = torch_step(model, int(batch[0]), peer == "torch-compile"), rate
    elif figure == "env/four_rooms" and peer == "python":
        work, measure = four_rooms(), lambda steps, seconds: str(1000 * float(rate(steps, seconds)))
    elif figure == "env/fetch_pick_place" and peer == "gymnasium":
        work, measure = fetch_steps(), lambda step, seconds: str(cpu_rate(step, seconds))
    elif figure == "env/gym":
        work, measure = gymnasium_steps(peer), lambda steps, seconds: str(100 * float(rate(steps, seconds)))
    elif what == "train_step" and peer == "jax-jit" and model == "mlp":
        work, measure = jax_step(int(batch[0])), rate
    elif what == "relabel" and peer == "sb3-her":
        import learners

        work, measure = learners.sb3_replay(int(model)), lambda sample, seconds: str(int(model) * cpu_rate(sample, seconds))
    elif what == "update":
        import learners

        work, times = learners.work(peer, model, int(batch[0]))
        measure = lambda work, seconds: str(times * cpu_rate(work, seconds))
    else:
        sys.exit(f"no peer {peer} for {figure}")
    for _ in range(3):
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        print(measure(work, float(line.removeprefix("round "))), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export", model, batch, path]:
            export(model, int(batch), path)
        case [peer, figure]:
            serve(peer, figure)
        case _:
            sys.exit(__doc__)
