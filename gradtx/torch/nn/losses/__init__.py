"""PyTorch's loss objects: the functions of `gradtx.torch.nn.functional` with their options."""
