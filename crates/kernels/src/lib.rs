//! Kinora kernels.
