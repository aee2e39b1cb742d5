//! Clips on their way from the runtime to their files: frames are written as they come, and none is kept.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use kinora_media::{Error, FrameRate, Head, Output, Place, Writing};
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure},
    generate::shown_path,
    interrupt,
    progress::Renderer,
    run::{self, Event, Generated, Metadata, Taker},
};

/// What files name as their maker.
const SOFTWARE: &str = concat!("kinora ", env!("CARGO_PKG_VERSION"));

/// A clip that was written, or why not.
pub(crate) type Outcome = Result<(PathBuf, Value), Failure>;

/// A clip to write.
pub(crate) struct Clip {
    pub(crate) output: Output,
    /// Where the final latents go, if they are wanted.
    pub(crate) latents: Option<Place>,
    pub(crate) metadata: Metadata,
    /// Of the finished clip, if it has an end.
    pub(crate) frames: Option<usize>,
}

/// Writes the clips of a command, one after another.
pub(crate) struct Writers {
    clips: Vec<Clip>,
    renderer: Renderer<io::Stderr>,
    /// The clip that has begun.
    open: Option<Writing>,
    /// Why its frames are no longer taken.
    refused: Option<Failure>,
    outcomes: Vec<Option<Outcome>>,
    /// Time spent here.
    spent: Duration,
}

/// What a file has to know of a clip of so many frames before the first of them.
pub(crate) fn head(clip: &Metadata, frames: Option<usize>) -> Result<Head, Failure> {
    // The runtime has refused absurd sides long before.
    let side =
        |pixels: usize| u32::try_from(pixels).map_err(|_| Failure::new(Exit::Internal, "bad-clip", format!("a side of {pixels} pixels")));
    let frame_rate = FrameRate::from_f64(clip.fps)?;
    Ok(Head { width: side(clip.width)?, height: side(clip.height)?, frame_rate, frames, is_opaque: true })
}

impl Clip {
    /// That it is stopped is how a clip without an end ends.
    fn keeps_going(&self) -> bool {
        self.frames.is_none() || !interrupt::token().is_cancelled()
    }

    fn begin(&self) -> Result<Writing, Failure> {
        let Metadata { prompt, .. } = &self.metadata;
        let comment = json!(self.metadata).to_string();
        let metadata = kinora_media::Metadata { description: prompt.clone(), software: SOFTWARE.to_owned(), comment };
        Ok(self.output.begin(head(&self.metadata, self.frames)?, &metadata)?)
    }

    /// Ends the file and returns what is known about it.
    fn finish(&self, writing: Writing, generated: &Generated, renderer: &mut Renderer<io::Stderr>) -> Outcome {
        let latents = self.latents.as_ref().map(|place| Ok::<_, Failure>((place, run::latents_file(generated)?))).transpose()?;
        let frames = writing.count();
        let mut shown = None;
        let written = writing.finish(&mut |index| {
            // Asked again while something is waited for.
            if shown.replace(index) != Some(index) {
                renderer.show(&Event::Write { frame: index + 1, frames });
            }
            self.keeps_going()
        })?;
        // The clip is there, whatever happens to the rest.
        if let Some((place, bytes)) = latents {
            place.write(&mut |out| Ok(out.write_all(&bytes)?)).map_err(|error| {
                let failure = Failure::from(error);
                Failure { message: format!("{}; the clip is written: `{}`", failure.message, written.path.display()), ..failure }
            })?;
        }
        let told = json!({
            "path": shown_path(&written.path),
            "frames": frames,
            "format": written.format.name(),
            "encoder": written.encoder,
            "sizeBytes": written.size_bytes,
        });
        let mut json = json!(self.metadata);
        crate::generate::merge(&mut json, told);
        Ok((written.path, json))
    }
}

impl Writers {
    pub(crate) fn new(clips: Vec<Clip>, renderer: Renderer<io::Stderr>) -> Self {
        let outcomes = clips.iter().map(|_| None).collect();
        Self { clips, renderer, open: None, refused: None, outcomes, spent: Duration::ZERO }
    }

    /// What became of the clips, and the time it took to write them.
    pub(crate) fn ended(self) -> (Vec<Outcome>, Duration, Renderer<io::Stderr>) {
        (self.outcomes.into_iter().flatten().collect(), self.spent, self.renderer)
    }

    fn write(&mut self, at: usize, rgba: &[u8]) -> Result<(), Failure> {
        let clip = &self.clips[at];
        let writing = match &mut self.open {
            Some(writing) => writing,
            closed => closed.insert(clip.begin()?),
        };
        let frame = writing.count() + 1;
        match writing.frame(rgba, &mut |_| clip.keeps_going()) {
            // Who looked at it has seen enough.
            Err(Error::Write(source)) if clip.frames.is_none() && source.kind() == io::ErrorKind::BrokenPipe => interrupt::token().cancel(),
            written => written?,
        }
        self.renderer.show(&Event::Write { frame, frames: clip.frames.unwrap_or_default() });
        Ok(())
    }
}

impl Taker for Writers {
    fn event(&mut self, event: &Event) {
        self.renderer.show(event);
    }

    fn frame(&mut self, at: usize, rgba: &[u8]) -> bool {
        let begun = Instant::now();
        let written = self.write(at, rgba);
        self.spent += begun.elapsed();
        let taken = written.is_ok();
        self.refused = written.err();
        taken
    }

    fn end(&mut self, at: usize, made: Result<Generated, Failure>) {
        let begun = Instant::now();
        let writing = self.open.take();
        self.outcomes[at] = Some(match (self.refused.take(), made, writing) {
            (Some(failure), _, _) | (None, Err(failure), _) => Err(failure),
            (None, Ok(generated), Some(writing)) => self.clips[at].finish(writing, &generated, &mut self.renderer),
            (None, Ok(_), None) => Err(Error::NoFrames.into()),
        });
        self.spent += begun.elapsed();
    }
}
