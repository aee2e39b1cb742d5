//! What the tests of the command share.

#[path = "../../../kernels/tests/support/folder.rs"]
mod folder;

pub(crate) use folder::Folder;
