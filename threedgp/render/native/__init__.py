"""C++ compiled on first use, for processors; everything that uses it works without, too."""
