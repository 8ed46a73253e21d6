"""Computes the project's face model from ICT-FaceKit Light."""
