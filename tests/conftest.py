"""For all tests: one thread, so that figures repeat and processes side by side do not wait for each other."""

import torch

torch.set_num_threads(1)
