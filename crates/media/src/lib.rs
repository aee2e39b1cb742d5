//! Kinora media.
