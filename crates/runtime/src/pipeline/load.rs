//! From a model folder to a pipeline: which classes its components may have, and whether they fit each other.

use std::cell::RefCell;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Mutex;

use kinora_kernels::{Device, WeightFormat};

use super::VideoPipeline;
use super::parts::{ModelParts, Overlay, STATES, TOKENIZER};
use super::refine::Refiners;
use super::states::TextStates;
use super::text;
use super::words::Words;
use crate::error::{Error, Result};
use crate::executables::Executables;
use crate::layout::Budget;
use crate::manifest::{Index, Manifest};
use crate::models::component::{Component, class_of};
use crate::models::family::{Autoencoder, Denoiser, Given, ImageEncoder, PipelineClass, SecondStage, TextEncoder};
use crate::models::layout;
use crate::nn::Weights;
use crate::sampling::denoise::Expert;
use crate::sampling::solvers::{self, SchedulerFile};
use crate::shape::Compression;
use crate::text::Tokenizer;
use crate::understanding::Understanding;
use crate::understanding::Vocabulary;
#[cfg(not(target_arch = "wasm32"))]
use crate::weights::packed::Packed;
use crate::weights::{Checkpoint, LoraReport, ModelFiles};
#[cfg(feature = "images")]
use crate::{models::family::Classes, pipeline::words::ClassNames};

/// The files of a model, wherever they are.
struct Files<'a> {
    /// How errors call a file.
    path: &'a dyn Fn(&str) -> String,
    /// A file's bytes.
    read: &'a dyn Fn(&str) -> Result<Vec<u8>>,
    /// The weights of a component.
    checkpoint: &'a dyn Fn(&str) -> Result<Checkpoint>,
    /// What replaces them.
    overlay: Overlay,
    /// What came of adaptations.
    reports: RefCell<Vec<LoraReport>>,
}

impl Files<'_> {
    /// A file's bytes.
    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        if !cfg!(feature = "families") {
            return (self.read)(name);
        }
        self.overlay.text(name).map_or_else(|| (self.read)(name), Ok)
    }

    /// The weights in `folder`, with what adaptations add to those of a denoiser.
    fn weights(&self, folder: &str) -> Result<Checkpoint> {
        if !cfg!(feature = "families") {
            return (self.checkpoint)(folder);
        }
        let weights = self.overlay.checkpoint(folder).map_or_else(|| (self.checkpoint)(folder), Ok)?;
        if self.overlay.loras.is_empty() || !folder.starts_with("transformer") {
            return Ok(weights);
        }
        let mut adapted = layout::adapt(&weights).unwrap_or(weights);
        for lora in &self.overlay.loras {
            let report = lora.apply(&mut adapted, folder == "transformer_2", &layout::inverse)?;
            self.reports.borrow_mut().push(report);
        }
        Ok(adapted)
    }

    /// A text file.
    fn text(&self, name: &str) -> Result<String> {
        let invalid = |e: std::string::FromUtf8Error| Error::InvalidConfig { file: (self.path)(name), problem: e.to_string() };
        String::from_utf8(self.bytes(name)?).map_err(invalid)
    }

    /// The component in `folder`, which must be of one of `classes`.
    fn component(&self, folder: &str, classes: &[&str], format: WeightFormat, index: &Index) -> Result<Component> {
        Ok(self.named_component(folder, classes, format, index)?.1)
    }

    /// [`component`](Self::component) with its class: files may be there for one reading.
    fn named_component(&self, folder: &str, classes: &[&str], format: WeightFormat, index: &Index) -> Result<(&'static str, Component)> {
        let (config, file) = self.config(folder)?;
        let class = class_of(&config, &file)?.name;
        if !classes.contains(&class) {
            return Err(Error::UnknownClass { class: class.into(), file, known: classes.join(", ") });
        }
        // What replaces a component need not be of its class.
        if !cfg!(feature = "families") || self.overlay.text(&format!("{folder}/config.json")).is_none() {
            index.check_class(folder, class)?;
        }
        Ok((class, Component::load(&config, &file, &self.weights(folder)?, format, index)?))
    }

    /// The component in `folder`, of whatever class.
    fn any_component(&self, folder: &str, format: WeightFormat, index: &Index) -> Result<Component> {
        let (config, file) = self.config(folder)?;
        Component::load(&config, &file, &self.weights(folder)?, format, index)
    }

    /// The text encoder with the states that are given, or those alone.
    fn texts(&self, classes: &[&str], format: WeightFormat, index: &Index) -> Result<TextStates> {
        let given = match self.overlay.text_states.clone() {
            None => match self.bytes(STATES) {
                Err(Error::NotFound { .. }) => None,
                bytes => Some(Checkpoint::from_files((self.path)(STATES), vec![((self.path)(STATES), bytes?)])?),
            },
            given => given,
        };
        let encoder = || {
            let (class, encoder) = self.named_component("text_encoder", classes, format, index)?;
            Ok(TextStates::of(text_encoder(encoder, index)?, class))
        };
        match (encoder(), given) {
            (Err(Error::NotFound { .. }), Some(given)) => TextStates::without_encoder(&given, classes),
            (Ok(encoder), Some(given)) => encoder.with(&given),
            (encoder, _) => encoder,
        }
    }

    /// How prompts are read and what becomes of them: a tokenizer and a text encoder, or names of classes and the denoiser's own states.
    fn reading(
        &self,
        class: &PipelineClass,
        manifest: &Manifest,
        denoiser: &dyn Denoiser,
        format: WeightFormat,
        index: &Index,
    ) -> Result<(TextStates, Words)> {
        #[cfg(feature = "images")]
        if let Some(Classes { count, encoder }) = denoiser.classes() {
            return Ok((TextStates::of(encoder, class.name), Words::Classes(ClassNames::of(index, count)?)));
        }
        #[cfg(not(feature = "images"))]
        let _ = denoiser;
        let texts = self.texts(class.text_encoders, format, index)?;
        let words = Words::Tokens(Box::new(Tokenizer::from_json(&self.bytes(TOKENIZER)?)?));
        let empty = words.read(&class.text, manifest.max_text_tokens, "")?.ids;
        if text::encoded_text(empty, &class.text, manifest.max_text_tokens).ids.is_empty() {
            let problem = "it makes no token of an empty prompt, so it lacks the special tokens that the text encoder knows";
            return Err(Error::InvalidConfig { file: (self.path)(TOKENIZER), problem: problem.into() });
        }
        Ok((texts, words))
    }

    /// Text of a component's `config.json`, and what errors call it.
    fn config(&self, folder: &str) -> Result<(String, String)> {
        let name = format!("{folder}/config.json");
        Ok((self.text(&name)?, (self.path)(&name)))
    }
}

impl VideoPipeline {
    /// Loads a model folder in diffusers layout. Matrices and convolutions are stored on the device as `format`.
    ///
    /// # Errors
    /// Those of missing, corrupt or unsupported files; each names the file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(device: Device, folder: &Path, format: WeightFormat) -> Result<Self> {
        Self::load_with(device, Some(folder), ModelParts::default(), format)
    }

    /// Decodes with another autoencoder of the same latents from now on, previews too: the folder of a component, or a weight file.
    ///
    /// # Errors
    /// Those of missing, corrupt or unsupported files, and [`Error::InvalidConfig`] for latents of another kind.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_decoder(&mut self, path: &Path, format: WeightFormat) -> Result<()> {
        let component = if path.is_dir() { Component::open(path, format)? } else { Component::open_file(path, None, format)? };
        let invalid = |problem| Error::InvalidConfig { file: path.display().to_string(), problem };
        let Component::Autoencoder(decoder) = component else { return Err(invalid("no autoencoder".into())) };
        let of = |vae: &dyn Autoencoder| (vae.latent_channels(), vae.compression());
        let (found, expected) = (of(decoder.as_ref()), of(self.vae.as_ref()));
        if found != expected {
            let text = |(channels, [t, h, w]): (usize, [usize; 3])| format!("latents of {channels} channels for {t}×{h}×{w} pixels");
            return Err(invalid(format!("expected {}, as the model's own autoencoder has, found {}", text(expected), text(found))));
        }
        self.decoder = Some(decoder);
        self.executables = Executables::with_budget(self.memory);
        Ok(())
    }

    /// Loads a model folder with parts of it replaced, or without a folder a model that `parts` make up.
    ///
    /// # Errors
    /// As [`load`](Self::load), and those of parts that are no components or adaptations of the model.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load_with(device: Device, folder: Option<&Path>, parts: ModelParts, format: WeightFormat) -> Result<Self> {
        if folder.is_none()
            && let Some(packed) = Packed::among(&parts.weights, format)?
        {
            return Self::assemble_packed(device, &packed, parts, format);
        }
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Error::NotFound { what: "model folder".into(), path: folder.into() });
        }
        let overlay = Overlay::new(parts, folder.is_none())?;
        let folder = folder.unwrap_or(Path::new(""));
        let read = |name: &str| crate::model_file::read(&folder.join(name));
        let path = |name: &str| folder.join(name).display().to_string();
        let checkpoint = |name: &str| Checkpoint::open(folder.join(name));
        let files = Files { path: &path, read: &read, checkpoint: &checkpoint, overlay, reports: RefCell::default() };
        Self::assemble(device, &files, format)
    }

    /// Loads a model whose files are in memory: what a program without a file system has. Without a `model_index.json` they are
    /// weight files, which together make up a model.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_files(device: Device, mut files: ModelFiles, format: WeightFormat) -> Result<Self> {
        let overlay = if cfg!(feature = "families") {
            let loras = files.take_loras();
            let whole = !files.contains("model_index.json") && files.has_weights();
            let parts = if whole { files.take_parts()? } else { ModelParts::default() };
            #[cfg(not(target_arch = "wasm32"))]
            if let Some(packed) = Packed::among(&parts.weights, format)? {
                return Self::assemble_packed(device, &packed, ModelParts { loras, ..parts }, format);
            }
            Overlay::new(ModelParts { loras, ..parts }, whole)?
        } else {
            Overlay::default()
        };
        let files = RefCell::new(files);
        let path = |name: &str| files.borrow().path(name);
        let read = |name: &str| files.borrow_mut().take(name);
        let checkpoint = |name: &str| files.borrow_mut().take_checkpoint(name);
        let files = Files { path: &path, read: &read, checkpoint: &checkpoint, overlay, reports: RefCell::default() };
        Self::assemble(device, &files, format)
    }

    /// A model in one file, with what is added to it.
    #[cfg(not(target_arch = "wasm32"))]
    fn assemble_packed(device: Device, packed: &Packed, parts: ModelParts, format: WeightFormat) -> Result<Self> {
        let overlay = Overlay::new(ModelParts { weights: Vec::new(), ..parts }, false)?;
        let (path, read, checkpoint) =
            (|name: &str| packed.path(name), |name: &str| packed.read(name), |name: &str| packed.checkpoint(name));
        let files = Files { path: &path, read: &read, checkpoint: &checkpoint, overlay, reports: RefCell::default() };
        Self::assemble(device, &files, format)
    }

    fn assemble(device: Device, files: &Files<'_>, format: WeightFormat) -> Result<Self> {
        let index = Index::parse(&files.text("model_index.json")?, &(files.path)("model_index.json"))?;
        let (class, manifest) = (index.pipeline()?, Manifest::of(&index)?);
        let scheduler = "scheduler/scheduler_config.json";
        let scheduler = SchedulerFile::from_json(&files.bytes(scheduler)?, &(files.path)(scheduler))?;
        // Whether it can be used is better known before the weights are read.
        solvers::of_file(&scheduler)?;
        let mut experts = Vec::new();
        let ranges = (class.noise_ranges)(&index)?;
        for range in &ranges {
            let denoiser = denoiser(files.component(range.folder, class.denoisers, format, &index)?, &index)?;
            experts.push(Expert { denoiser, lowest_timestep: range.lowest_timestep });
        }
        let [first, ..] = experts.as_slice() else { return Err(index.invalid("no component denoises".into())) };
        #[cfg(feature = "families")]
        let (mut manifest, mut scheduler) = (manifest, scheduler);
        #[cfg(feature = "families")]
        if let Some(causal) = first.denoiser.causal() {
            causal.adapt(&mut manifest, &mut scheduler, &class.defaults);
            if experts.len() > 1 {
                return Err(index.invalid("`kinora.causal` in one of two transformers, expected one that goes block by block".into()));
            }
        }
        let vae = autoencoder(files.component("vae", class.autoencoders, format, &index)?, &index)?;
        let (texts, words) = files.reading(class, &manifest, first.denoiser.as_ref(), format, &index)?;
        let image_encoder = match experts.iter().any(|expert| expert.denoiser.pictures().is_some()) {
            true => Some(image_encoder(files.component("image_encoder", class.image_encoders, format, &index)?, &index)?),
            false => None,
        };
        for (range, expert) in ranges.iter().zip(&experts) {
            let file = (files.path)(&format!("{}/config.json", range.folder));
            check_fit(&file, expert.denoiser.as_ref(), vae.as_ref(), texts.width(), image_encoder.as_deref())?;
            if expert.denoiser.classes().is_some() && experts.len() > 1 {
                return Err(Error::InvalidConfig { file, problem: "it is told classes, expected one such denoiser and no other".into() });
            }
            if expert.denoiser.given() != first.denoiser.given() {
                return Err(Error::InvalidConfig { file, problem: "it is given frames in another way than the denoiser before it".into() });
            }
            if expert.denoiser.packing() != first.denoiser.packing() {
                return Err(Error::InvalidConfig { file, problem: "its tokens are not those of the denoiser before it".into() });
            }
        }
        let refiners = Refiners::load(&manifest.cascade, &|folder| files.any_component(folder, format, &index), format, &index)?;
        refiners.check_latents(vae.latent_channels(), &index)?;
        let compression = Compression { latent: vae.compression(), packing: first.denoiser.packing() };
        let vocabulary = match manifest.vocabulary.as_deref().map(|name| (name, files.text(name))) {
            // Clips are made without it too, and lists of a model's files may leave it out.
            None | Some((_, Err(Error::NotFound { .. }))) => None,
            Some((name, text)) => Some(Vocabulary::parse(&text?, &(files.path)(name))?),
        };
        let understanding = vocabulary.map(|vocabulary| understanding(vocabulary, &manifest, files, texts.width())).transpose()?;
        Ok(Self {
            device: Mutex::new(device),
            executables: Executables::default(),
            class,
            manifest,
            scheduler,
            words,
            texts,
            image_encoder,
            experts,
            vae,
            refiners,
            compression,
            understanding,
            loras: files.reports.take(),
            budget: Budget::default(),
            decoder: None,
            memory: None,
        })
    }
}

/// Refuses a denoiser, whose configuration is called `file`, that works on other latents or other text than there are.
fn check_fit(
    file: &str,
    denoiser: &dyn Denoiser,
    vae: &dyn Autoencoder,
    text_width: usize,
    images: Option<&dyn ImageEncoder>,
) -> Result<()> {
    let [latents, captions] = denoiser.channel_fields();
    let joined: usize = denoiser.packing().iter().product();
    let mut pairs = vec![
        (latents, denoiser.latent_channels(), vae.latent_channels(), "channels of vae"),
        (captions, denoiser.text_channels(), text_width, "channels of text_encoder"),
    ];
    let ([step, rows, columns], made) = (vae.compression(), vae.latent_channels());
    let beside = match denoiser.given() {
        Given::Tokens => None,
        Given::Channels(channels) => Some((channels, step + made)),
        Given::Control(channels) => Some((channels, 2 * made + rows * columns)),
    };
    pairs.extend(beside.map(|(found, expected)| ("channels of what it is given", found, expected, "frames, pixels and channels of vae")));
    if let Some((pictures, encoder)) = denoiser.pictures().zip(images) {
        pairs.push(("channels of pictures", pictures.channels, encoder.width(), "channels of image_encoder"));
    }
    for (field, found, expected, of) in pairs {
        if found != expected {
            let packed = if field == latents && joined > 1 { format!(" in each of {joined} latents of a token") } else { String::new() };
            let problem = format!("{field}: expected the {expected} {of}, found {found}{packed}");
            return Err(Error::InvalidConfig { file: file.into(), problem });
        }
    }
    Ok(())
}

/// The words of a model, with the states of its phrases if they are among its files.
fn understanding(vocabulary: Vocabulary, manifest: &Manifest, files: &Files<'_>, width: usize) -> Result<Understanding> {
    let states = match manifest.vocabulary_states.as_deref().map(|name| (name, files.bytes(name))) {
        None | Some((_, Err(Error::NotFound { .. }))) => None,
        Some((name, bytes)) => Some(Checkpoint::from_files((files.path)(name), vec![((files.path)(name), bytes?)])?),
    };
    let weights = states.as_ref().map(|states| Weights::new(states, WeightFormat::F32));
    Understanding::load(vocabulary, weights.as_ref(), width)
}

/// A registry that lists a class under the wrong kind is a mistake in a family, but no reason to panic.
fn wrong_kind(index: &Index, kind: &str) -> Error {
    index.invalid(format!("the pipeline lists a class as {kind} that is none"))
}

fn denoiser(component: Component, index: &Index) -> Result<Box<dyn Denoiser>> {
    if let Component::Denoiser(model) = component { Ok(model) } else { Err(wrong_kind(index, "a denoiser")) }
}

fn autoencoder(component: Component, index: &Index) -> Result<Box<dyn Autoencoder>> {
    if let Component::Autoencoder(model) = component { Ok(model) } else { Err(wrong_kind(index, "an autoencoder")) }
}

pub(super) fn second_stage(component: Component, index: &Index) -> Result<Box<dyn SecondStage>> {
    if let Component::SecondStage(model) = component { Ok(model) } else { Err(wrong_kind(index, "a second stage")) }
}

fn image_encoder(component: Component, index: &Index) -> Result<Box<dyn ImageEncoder>> {
    if let Component::ImageEncoder(model) = component { Ok(model) } else { Err(wrong_kind(index, "an image encoder")) }
}

fn text_encoder(component: Component, index: &Index) -> Result<Box<dyn TextEncoder>> {
    if let Component::TextEncoder(model) = component { Ok(model) } else { Err(wrong_kind(index, "a text encoder")) }
}
