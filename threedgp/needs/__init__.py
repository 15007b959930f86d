"""What a run with some settings needs from outside: weights, pictures, room on the disk. Starts without PyTorch."""
