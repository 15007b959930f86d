"""Classifier and Inception features of pictures, behind one interface."""
