//! Forward and inverse kinematics.
