//! Parsers of Kinora under damaged and hostile files: what is accepted is what it says it is, nothing panics, and nothing takes
//! memory or time out of proportion to the file.

pub mod kinds;
#[path = "../../crates/kernels/tests/support/random.rs"]
pub mod random;
pub mod targets;
