"""Defenses: data obscuration, model improvement, gradient protection, and protocols that hide single updates."""
