"""Monocular depth: estimators behind one interface, and how their maps are encoded."""
