"""Answers that are spans of a passage: questions, official scores, answers from logits, the task.

Standard library alone at import.
"""
