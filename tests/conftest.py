"""One thread a test process: the suite runs in several, and tiny networks gain nothing from more."""

import torch

torch.set_num_threads(1)
