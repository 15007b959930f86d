"""The renderer in C++ for CPUs, compiled on first use; without it, PyTorch's operators are used."""
