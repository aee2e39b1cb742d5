//! Developer tasks of the Kinora workspace.
fn main() {}
