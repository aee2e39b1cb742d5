//! Where generations hand over their frames and ends.

use std::pin::Pin;

use super::Generated;
use crate::error::{Error, Result};

/// What comes of several generations, one after another.
#[derive(Debug)]
pub enum Made {
    /// The latents `[1, C, F, H, W]` that are decoded next, with their extents, once all passes are done: who refuses them saves the
    /// decoder's work. Clips that are decoded while they are made have none.
    Latents(Vec<f32>, [usize; 5]),
    /// RGBA bytes of the next frame, row-major.
    Frame(Vec<u8>),
    /// After the last frame, what there is besides: `frames` are none.
    End(Result<Generated>),
}

/// Takes what comes of each generation, by its place. One type for all callers, so that what generates is compiled once: a
/// page downloads it.
pub(super) trait Sink {
    fn take<'a>(&'a mut self, at: usize, made: Made) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
}

impl<S: AsyncFnMut(usize, Made) -> Result<()>> Sink for S {
    fn take<'a>(&'a mut self, at: usize, made: Made) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        Box::pin(self(at, made))
    }
}

impl dyn Sink + '_ {
    /// Hands over the end of a generation; a stop ends all.
    pub(super) async fn end(&mut self, at: usize, made: Result<Generated>) -> Result<()> {
        if let Err(Error::Cancelled) = made { Err(Error::Cancelled) } else { self.take(at, Made::End(made)).await }
    }
}
