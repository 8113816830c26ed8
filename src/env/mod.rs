//! Goal-reaching environments and their scripted experts.
