"""Scores that heads and users' own metric functions call: one file per kind, none of which needs another."""
