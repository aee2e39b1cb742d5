//! Reading a `config.json`, with errors that name the file and the field.

use serde::Deserialize;

use crate::error::{Error, Result};

/// Reads a `config.json` called `file`.
pub(crate) fn parse_config<T: for<'a> Deserialize<'a>>(json: &str, file: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::InvalidConfig { file: file.into(), problem: e.to_string() })
}

/// Refuses a configuration whose field `name` does not hold what the runtime can do.
pub(crate) fn require(file: &str, name: &str, found: &impl std::fmt::Display, holds: bool, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::InvalidConfig { file: file.into(), problem: format!("{name}: expected {expected}, found {found}") })
}
