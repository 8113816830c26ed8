//! Behaviour cloning, fine-tuning and evaluation.
