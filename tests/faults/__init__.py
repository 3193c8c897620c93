"""Faults injected into three trainers on the same small job: this project's, transformers.Trainer and Lightning.

    python -m tests.faults OUTCOMES.json [--trials 20] [--only ours --only hf_trainer] [--row nan]
"""
