//! Whether there are files and other programs. A page has neither, and does not download what reads them: what holds a [`Files`]
//! cannot exist there, so nothing that takes one is compiled.

use std::path::Path;

use crate::{Error, Result};

/// That there are files.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files;

/// That there are files: never.
#[cfg(target_arch = "wasm32")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Files {}

impl Files {
    #[cfg(not(target_arch = "wasm32"))]
    const HERE: Option<Self> = Some(Self);
    #[cfg(target_arch = "wasm32")]
    const HERE: Option<Self> = None;

    /// For reading `path`.
    ///
    /// # Errors
    /// [`Error::UnknownInput`] where there are none.
    pub(crate) fn for_reading(path: &Path) -> Result<Self> {
        Self::HERE.ok_or_else(|| Error::UnknownInput { path: path.to_owned() })
    }
}
