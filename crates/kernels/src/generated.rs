//! What the build makes of `shaders/`: one module per kernel with its `Params`, `Variant` and linked WGSL.

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
