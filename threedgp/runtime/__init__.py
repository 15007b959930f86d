"""What everything stands on: files written whole, processes, progress, devices, errors."""
