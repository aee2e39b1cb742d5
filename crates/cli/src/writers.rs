//! Clips on their way from the runtime to their files: frames are written as they come, and none is kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use kinora_media::{Error, Format, FrameRate, Head, Made, Output, Place, Writing, encode};
use serde_json::{Value, json};

use crate::{
    failure::{Exit, Failure},
    generate::shown_path,
    interrupt,
    maker::Jobs,
    progress::Renderer,
    run::{self, CancelToken, Event, Generated, Metadata, Taker},
};

/// The encoder of what this program wrote alone.
const BUILT_IN: &str = "built-in";

/// Frames of more pixels are large where they are stored as they are.
const STORED_PIXELS: usize = 256 * 256;

/// What files name as their maker.
pub(crate) const SOFTWARE: &str = concat!("kinora ", env!("CARGO_PKG_VERSION"));

/// A clip that is there.
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    /// What is known about it.
    pub(crate) json: Value,
    /// Whether it was there before.
    pub(crate) skipped: bool,
}

/// A clip that is there, or why not.
pub(crate) type Outcome = Result<Written, Failure>;

/// A clip to write.
pub(crate) struct Clip {
    pub(crate) output: Output,
    /// Where the final latents go, if they are wanted.
    pub(crate) latents: Option<Place>,
    pub(crate) metadata: Metadata,
    /// Of the finished clip, if it has an end.
    pub(crate) frames: Option<usize>,
    /// Width and height before it is enlarged.
    pub(crate) preview_size: [usize; 2],
    /// Whether others may be making the same.
    pub(crate) resume: bool,
    /// Whether somebody is asked before it is decoded.
    pub(crate) confirm: bool,
}

/// Writes the clips of a pack, one after another, and tells what came of them.
pub(crate) struct Writers<'a, J: Jobs> {
    pub(crate) jobs: &'a mut J,
    pub(crate) renderer: &'a mut Renderer<io::Stderr>,
    /// Stops what is computed.
    pub(crate) stop: &'a CancelToken,
    /// Each until its outcome is told.
    pub(crate) members: Vec<Option<J::Tag>>,
    pub(crate) clips: Vec<Clip>,
    /// The clip that has begun.
    open: Option<Writing>,
    /// Why its frames are no longer taken.
    refused: Option<Failure>,
    /// Time spent here.
    pub(crate) spent: Duration,
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

    /// A preview as a file; none is better than one that stops the clip.
    fn png(&self, pixels: Vec<u8>) -> Vec<u8> {
        let [width, height] = self.preview_size.map(|side| u32::try_from(side).unwrap_or_default());
        let mut file = Vec::new();
        let still = FrameRate::new(1, 1).and_then(|rate| kinora_media::Clip::new(width, height, rate, vec![pixels]));
        let encoded = still.and_then(|still| encode(&still, Format::Apng, &kinora_media::Metadata::default(), &mut file, &mut |_| true));
        if encoded.is_err() { Vec::new() } else { file }
    }

    /// Whether a batch that goes on finds this clip at `path`.
    fn is_made(&self, path: &Path) -> bool {
        let found = if self.resume { Made::find(path, Some(self.output.format())).ok().flatten() } else { None };
        let comment = json!(self.metadata).to_string();
        found.is_some_and(|made| made.whole && made.comment == comment)
    }

    fn begin(&self) -> Result<Writing, Failure> {
        let Metadata { prompt, .. } = &self.metadata;
        let comment = json!(self.metadata).to_string();
        let metadata = kinora_media::Metadata { description: prompt.clone(), software: SOFTWARE.to_owned(), comment };
        Ok(self.output.begin(head(&self.metadata, self.frames)?, &metadata)?)
    }

    /// Ends the file and returns what is known about it.
    fn finish(&self, writing: Writing, generated: &Generated, name: Option<&Value>, renderer: &mut Renderer<io::Stderr>) -> Outcome {
        let latents = self.latents.as_ref().map(|place| Ok::<_, Failure>((place, run::latents_file(generated)?))).transpose()?;
        let frames = writing.count();
        let mut shown = None;
        let finished = writing.finish(&mut |index| {
            // Asked again while something is waited for.
            if shown.replace(index) != Some(index) {
                renderer.show_of(name, &Event::Write { frame: index + 1, frames });
            }
            self.keeps_going()
        });
        let written = match finished {
            // Whoever else goes on with the batch was faster, and has made the same.
            Err(Error::Exists { path, kept: Some(kept) }) if self.is_made(&path) && kept.is_file() => {
                // What is left of it is a copy.
                let _ = fs::remove_file(&kept);
                let mut json = json!(self.metadata);
                crate::generate::merge(&mut json, json!({ "path": shown_path(&path) }));
                return Ok(Written { path, json, skipped: true });
            }
            finished => finished?,
        };
        let pixels = self.metadata.width * self.metadata.height;
        if !cfg!(feature = "av1") && written.format == Format::Mp4 && written.encoder == BUILT_IN && pixels > STORED_PIXELS {
            let text = "nearly uncompressed: this build has no AV1, and there is no ffmpeg; `cargo build --release -p kinora` makes one that has it";
            renderer.show_of(name, &Event::Note { text: text.into() });
        }
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
        Ok(Written { path: written.path, json, skipped: false })
    }
}

impl<'a, J: Jobs> Writers<'a, J> {
    pub(crate) fn new(jobs: &'a mut J, renderer: &'a mut Renderer<io::Stderr>, stop: &'a CancelToken) -> Self {
        Self { jobs, renderer, stop, members: Vec::new(), clips: Vec::new(), open: None, refused: None, spent: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, tag: J::Tag, clip: Clip) {
        self.members.push(Some(tag));
        self.clips.push(clip);
    }

    fn show(&mut self, at: usize, event: &Event) {
        let name = self.members[at].as_ref().and_then(|tag| self.jobs.name(tag));
        self.renderer.show_of(name, event);
    }

    fn write(&mut self, at: usize, rgba: &[u8]) -> Result<(), Failure> {
        let clip = &self.clips[at];
        let writing = match &mut self.open {
            Some(writing) => writing,
            // One that was taken back gets no file.
            None if !self.members[at].as_ref().is_some_and(|tag| self.jobs.keep(tag)) => return Err(Failure::cancelled()),
            closed => closed.insert(clip.begin()?),
        };
        let frame = writing.count() + 1;
        match writing.frame(rgba, &mut |_| clip.keeps_going()) {
            // Who looked at it has seen enough.
            Err(Error::Write(source)) if clip.frames.is_none() && source.kind() == io::ErrorKind::BrokenPipe => self.stop.cancel(),
            written => written?,
        }
        let frames = clip.frames.unwrap_or_default();
        self.show(at, &Event::Write { frame, frames });
        Ok(())
    }
}

impl<J: Jobs> Taker for Writers<'_, J> {
    fn event(&mut self, at: usize, mut event: Event) {
        if let Event::Step { preview: Some(pixels), .. } = &mut event {
            let (clip, rgba) = (&self.clips[at], std::mem::take(pixels));
            let frames = rgba.chunks_exact(clip.preview_size.iter().product::<usize>().max(1) * 4);
            let pngs: Vec<Vec<u8>> = frames.map(|frame| clip.png(frame.to_vec())).collect();
            self.renderer.picture(&rgba, clip.preview_size, &pngs);
            *pixels = pngs.into_iter().next().unwrap_or_default();
        }
        // What comes after this is the decoder's work.
        if matches!(event, Event::Decode { .. }) && self.clips[at].confirm && !self.renderer.ask("decode this clip?") {
            self.stop.cancel();
        }
        self.show(at, &event);
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
        let name = self.members[at].as_ref().and_then(|tag| self.jobs.name(tag));
        let outcome = match (self.refused.take(), made, writing) {
            (Some(failure), _, _) | (None, Err(failure), _) => Err(failure),
            (None, Ok(generated), Some(writing)) => self.clips[at].finish(writing, &generated, name, self.renderer),
            (None, Ok(_), None) => Err(Error::NoFrames.into()),
        };
        if let Some(tag) = self.members[at].take() {
            self.jobs.tell(tag, outcome);
        }
        self.spent += begun.elapsed();
    }
}
