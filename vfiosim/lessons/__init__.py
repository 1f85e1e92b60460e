"""What the notebooks need: prepared benches, questions and tasks."""
