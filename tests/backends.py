"""What numerical tests run over: both backends, and the devices that this machine has."""

import numpy as np
import pytest
import torch

BACKENDS = {"numpy": np.asarray, "torch": lambda x: torch.as_tensor(np.asarray(x))}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]
