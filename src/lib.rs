//! **regoal**: robots that learn from every attempt, failures included, with no Python on the robot.
//!
//! A training step is an ONNX file, an episode is an MCAP file, a policy is an ONNX file, and the
//! robot is a loop of eight calls. Modules stand in levels; a module uses only lower ones (the test
//! `tests/layering.rs` reads every `use crate::`).
//!
//! | level | modules |
//! |---|---|
//! | 0 | [`clock`], [`joints`], [`os`], [`rng`], [`storage`], [`svg`]: time, joint vectors, the system calls, randomness and files, all passed in as values; pictures as text |
//! | 1 | [`onnx`]: graphs, verification, differentiation, training steps · [`config`] · [`episode`]: what is logged · [`wheel`]: files out of pinned wheels |
//! | 2 | [`hal`]: port, wire, bus, servos, arm, emulator · [`kinematics`] · [`engine`]: tract and ONNX Runtime · [`goal`]: when a goal is reached, hindsight relabelling |
//! | 3 | [`policy`]: spec, bundle, signature, store · [`env`](mod@env): goal-reaching environments and experts |
//! | 4 | [`learn`]: behaviour cloning, fine-tuning, evaluation · [`control`]: the loop, the gate, the modes |
//! | 5 | [`teleop`]: the devices that a person steers with, the recording of demonstrations |
//! | 6 | [`daemon`]: the API of a running robot and its client |
//! | 7 | [`cmd`]: one verb, one file |
//! | 8 | [`cli`]: arguments and dispatch |

pub mod clock;
pub mod joints;
pub mod os;
pub mod rng;
pub mod storage;
pub mod svg;

pub mod config;
pub mod episode;
pub mod onnx;
pub mod wheel;

pub mod engine;
pub mod goal;
pub mod hal;
pub mod kinematics;

pub mod env;
pub mod policy;

pub mod control;
pub mod learn;

pub mod teleop;

pub mod daemon;

pub mod cmd;

pub mod cli;
