//! `cargo xtask demo`: the demo page, built from this checkout and served on this machine.

use crate::{
    shell::{Outcome, run, step},
    web,
};

/// Builds the package and the page, and serves it until Ctrl-C.
pub(crate) fn demo() -> Outcome {
    web::build()?;
    step("demo page", || run(&mut web::node(&["scripts/demo.mjs"])))?;
    run(&mut web::node(&["scripts/serve.mjs"]))
}
