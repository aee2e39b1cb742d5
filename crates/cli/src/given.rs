//! Images and clips from files to what the runtime is given.

use std::path::{Path, PathBuf};

use kinora_media::{FrameRate, Need, Part, Source};
use kinora_runtime::{
    conditioning::{self, ImagePlace, SourceClip},
    request::Fit,
};

use crate::{args::GivenArgs, failure::Failure, generate::shown_path};

/// What was opened, before the size of the clip is known.
pub(crate) struct Given(conditioning::Given<Opened>);

/// An image or a clip.
pub(crate) struct Opened {
    path: PathBuf,
    source: Source,
    /// Whether to say that only a part of it counts.
    tells_cut: bool,
}

impl Opened {
    fn clip(path: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), source: Source::open(path)?, tells_cut: true })
    }

    fn still(path: &Path) -> Result<Self, Failure> {
        let opened = Self { tells_cut: false, ..Self::clip(path)? };
        opened.source.check_image().map_err(|error| error.in_file(path))?;
        Ok(opened)
    }

    /// As the description of a clip calls it.
    pub(crate) fn name(&self) -> String {
        shown_path(&self.path)
    }

    /// How many frames there are at `rate`, counted up to `most`.
    pub(crate) fn frames(&self, rate: FrameRate, most: usize) -> Result<usize, Failure> {
        Ok(self.source.frames_at(rate, most)?)
    }

    /// Its frames at `rate` in the size of the result. `note` hears of what may surprise.
    pub(crate) fn fitted(&self, fit: &Fit, rate: FrameRate, note: &mut dyn FnMut(String)) -> Result<SourceClip, Failure> {
        let [width, height] = [fit.width, fit.height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        if let Some(text) = self.source.enlargement_note(&self.name(), width, height) {
            note(text);
        }
        let part = if fit.from_end { Part::Last(fit.frames) } else { Part::First(fit.frames) };
        let need = Need { width, height, rate, part, background: fit.background, whole: fit.whole };
        let taken = self.source.take(&need)?;
        if let Some(text) = taken.cut_note(&self.name(), &need).filter(|_| self.tells_cut) {
            note(text);
        }
        Ok(taken.frames)
    }
}

impl Given {
    /// Opens every file, so that a wrong one is found before the model is loaded; pixels are read once their size is known.
    pub(crate) fn open(args: &GivenArgs) -> Result<Self, Failure> {
        let first = args.image.iter().map(|path| (ImagePlace::First, path));
        let last = args.last_image.iter().map(|path| (ImagePlace::Last, path));
        let keys = args.keyframe.iter().map(|(frame, path)| (ImagePlace::Frame(*frame), path));
        let images = first.chain(last).chain(keys).map(|(place, path)| Ok((place, Opened::still(path)?)));
        let open = |path: &Option<PathBuf>| path.as_deref().map(Opened::clip).transpose();
        Ok(Self(conditioning::Given {
            images: images.collect::<Result<_, Failure>>()?,
            video: open(&args.video)?,
            connect: open(&args.connect)?,
            mask: open(&args.mask)?.map(|mask| Opened { tells_cut: false, ..mask }),
            references: args.reference.iter().map(|path| Opened::still(path)).collect::<Result<_, _>>()?,
        }))
    }

    /// The images and clips.
    pub(crate) fn sources(&self) -> conditioning::Given<&Opened> {
        self.0.as_ref()
    }
}
