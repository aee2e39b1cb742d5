//! Kinora shader-build.
