"""Training steps a second in PyTorch: the peers of steps.rs, same network, data and optimiser.

One line a figure: peer, batch, steps/s, separated by tabs. Arguments: the device (cuda or cpu), then
the batches.
"""
import statistics
import sys
import time

import torch

WIDTHS = [19, 256, 256, 256, 7]
ROWS = 65_536
ROUNDS, ROUND = 9, 0.3


def network(device):
    layers = []
    for inputs, outputs in zip(WIDTHS, WIDTHS[1:]):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1]).to(device)


def trainer(device, batch, data, compiled):
    net = network(device)
    adam = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    observation, target, weight = data

    def loss_of(rows):
        each = ((net(observation[rows]) - target[rows]) ** 2).mean(1) * weight[rows]
        return each.sum() / weight[rows].sum()

    loss_of = torch.compile(loss_of, mode="reduce-overhead") if compiled else loss_of

    def step():
        rows = torch.randint(ROWS, (batch,), device=device)
        loss = loss_of(rows)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return loss

    return step


def rate(step, device):
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    begin, steps = time.perf_counter(), 0
    while (took := time.perf_counter() - begin) < ROUND:
        # As in steps.rs, the loss is looked at after each step.
        step().item()
        steps += 1
    return steps / took


def main():
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    batches = [int(n) for n in sys.argv[2:]] or [32, 256, 1024, 4096]
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    shapes = [(ROWS, WIDTHS[0]), (ROWS, WIDTHS[-1])]
    data = [torch.randn(shape, device=device) for shape in shapes] + [torch.ones(ROWS, device=device)]
    for batch in batches:
        for name, compiled in [("torch-eager", False), ("torch-compile", True)]:
            step = trainer(device, batch, data, compiled)
            for _ in range(20):
                step()
            rates = [rate(step, device) for _ in range(ROUNDS)]
            print(f"{name} {device}\t{batch}\t{statistics.median(rates):.1f}", flush=True)


if __name__ == "__main__":
    main()
