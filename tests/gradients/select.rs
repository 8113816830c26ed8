//! Gathering, padding and other selections.
