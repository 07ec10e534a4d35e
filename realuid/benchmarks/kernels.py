"""Where the time of a step goes: the kernels (on the CPU: the operations) that take most of it, by torch's profiler.

Prints a line of JSON for the device, one for each kernel, and one for the rest.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch.autograd import DeviceType

from realuid.benchmarks.step import WAYS, about, assembled_way
from realuid.training.world import device_named


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gin", default="gin/fm_cifar10.gin", metavar="FILE", help="recipe (%(default)s)")
    parser.add_argument("--bind", action="append", default=[], metavar='"NAME.ARG = VALUE"', help="one binding")
    parser.add_argument("--batch", type=int, default=16, help="generated samples (%(default)s)")
    parser.add_argument("--way", choices=WAYS, default="all", help="of `benchmark step` (%(default)s)")
    parser.add_argument("--most", type=int, default=12, help="kernels that are listed (%(default)s)")
    parser.add_argument("--device", default="auto", help="%(default)s")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = device_named(arguments.device)
    made, _ = assembled_way(arguments.way, arguments, device)
    for index in range(2):
        made.step(index)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        torch.cuda.synchronize(device)
    with torch.profiler.profile(activities=activities) as profile:
        made.step(2)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    print(json.dumps(about(device) | {"way": arguments.way, "batch": arguments.batch}), flush=True)
    for line in lines(profile, device, arguments.most):
        print(json.dumps(line), flush=True)
    return 0


def lines(profile: torch.profiler.profile, device: torch.device, most: int) -> list[dict[str, Any]]:
    """The kernels that take most time, by their own time, and the others together."""
    cuda = device.type == "cuda"
    events = [event for event in profile.key_averages() if (event.device_type == DeviceType.CUDA) == cuda]
    spent = {event.key: event.self_device_time_total if cuda else event.self_cpu_time_total for event in events}
    calls, total = {event.key: event.count for event in events}, sum(spent.values())
    order = sorted(spent, key=spent.__getitem__, reverse=True)
    rows = [(name, spent[name], calls[name]) for name in order[:most]]
    rest = order[most:]
    rows += [("the rest", sum(spent[name] for name in rest), sum(calls[name] for name in rest))] * bool(rest)
    return [
        {"kernel": name[:100], "ms": round(time / 1000, 3), "share": round(time / max(total, 1e-9), 4), "calls": count}
        for name, time, count in rows
    ]
