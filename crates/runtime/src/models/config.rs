//! Reading a `config.json`, with errors that name the file and the field.

use kinora_kernels::HEAD_SIZES;
use serde::Deserialize;

use crate::error::{Error, Result};

/// Reads a `config.json` called `file`.
pub(crate) fn parse_config<T: for<'a> Deserialize<'a>>(json: &str, file: &str) -> Result<T> {
    crate::json::object(json).map_err(|e| Error::InvalidConfig { file: file.into(), problem: e.to_string() })
}

/// Refuses heads of a size that attention cannot have; `name` is the field that decides it.
pub(crate) fn require_head_size(file: &str, name: &str, size: usize) -> Result<()> {
    let expected = format!("heads of {} to {} channels", HEAD_SIZES.start(), HEAD_SIZES.end());
    require(file, name, &size, HEAD_SIZES.contains(&size), &expected)
}

/// Fewest channels of a head where no tensor tells how many heads there are, fewer than any model has: a number that is wrong would
/// only have to divide the width.
const LEAST_UNTOLD: usize = 8;

/// Refuses a number of heads that nothing but `num_attention_heads` tells.
pub(crate) fn require_heads(file: &str, width: usize, heads: usize) -> Result<()> {
    require(file, "num_attention_heads", &heads, width > 0 && width.is_multiple_of(heads), &format!("a divisor of {width}"))?;
    let (size, most) = (width / heads, *HEAD_SIZES.end());
    let expected = format!("heads of {LEAST_UNTOLD} to {most} channels");
    require(file, "hidden_size / num_attention_heads", &size, (LEAST_UNTOLD..=most).contains(&size), &expected)
}

/// Refuses a configuration whose field `name` does not hold what the runtime can do.
pub(crate) fn require(file: &str, name: &str, found: &impl std::fmt::Display, holds: bool, expected: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::InvalidConfig { file: file.into(), problem: format!("{name}: expected {expected}, found {found}") })
}
