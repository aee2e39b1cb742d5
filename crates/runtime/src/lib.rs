//! Kinora runtime.
