//! `model_index.json`: the components of a model folder and, in its `kinora` object, what the pipeline needs beyond them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::json::{object, problem};
use crate::models::FAMILIES;
use crate::models::family::PipelineClass;
use crate::sampling::guidance::{Curve, Guidance};

/// A `model_index.json` as it is written; empty for a component that is run by itself.
#[derive(Clone, Debug, Default)]
pub struct Index {
    file: String,
    values: Map<String, Value>,
}

impl Index {
    /// Reads the text of a `model_index.json` called `file`.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn parse(json: &str, file: &str) -> Result<Self> {
        let values = object(json).map_err(|e| Error::InvalidConfig { file: file.into(), problem: e.to_string() })?;
        Ok(Self { file: file.into(), values })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What stands under `key`, which is what diffusers calls a registered parameter of the pipeline; `null` is absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether the pipeline has this component: `[library, class]`, which are both `null` where it has none.
    pub fn has_component(&self, folder: &str) -> bool {
        self.get(folder).and_then(Value::as_array).is_some_and(|entry| entry.iter().any(|part| !part.is_null()))
    }

    /// Fails if it says that the component in `folder` is of another class than its own configuration, which says `class`. Classes
    /// that are not known here may be other names of one that is.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn check_class(&self, folder: &str, class: &str) -> Result<()> {
        let Some(entry) = self.get(folder) else { return Ok(()) };
        let own = entry.as_array().filter(|entry| entry.len() == 2).and_then(|entry| entry[1].as_str());
        let is_known = |own: &str| FAMILIES.iter().flat_map(|family| family.components).any(|class| class.name == own);
        // A model with a projection is one without it, which is not used.
        match own {
            Some(own) if own.starts_with(class) || class.starts_with(own) || !is_known(own) => Ok(()),
            _ => Err(self.invalid(format!("`{folder}` is {entry}, but its configuration is of class {class}"))),
        }
    }

    /// The keys of the `kinora` object that `T` knows; others are left to those who read them.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for a value of another type.
    pub fn kinora<T: DeserializeOwned + Default>(&self) -> Result<T> {
        let Some(kinora) = self.get("kinora") else { return Ok(T::default()) };
        object(&kinora.to_string()).map_err(|e| self.invalid(format!("`kinora`: {}", problem(&e))))
    }

    /// An error in this file.
    pub fn invalid(&self, problem: String) -> Error {
        Error::InvalidConfig { file: self.file.clone(), problem }
    }

    /// The class of the pipeline.
    ///
    /// # Errors
    /// [`Error::UnknownClass`].
    pub fn pipeline(&self) -> Result<&'static PipelineClass> {
        let classes = || FAMILIES.iter().flat_map(|family| family.pipelines);
        let name = self.get("_class_name").and_then(Value::as_str).unwrap_or("none");
        classes().find(|class| class.name == name).ok_or_else(|| Error::UnknownClass {
            class: name.into(),
            file: self.file.clone(),
            known: classes().map(|class| class.name).collect::<Vec<_>>().join(", "),
        })
    }
}

/// Whether a name that a model gives, with `/` between folders, stays below its folder, on every system.
pub fn is_inside(name: &str) -> bool {
    !name.contains(['\\', ':']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Frames per second that no clip has.
const MOST_FPS: f32 = 1000.0;

/// What the pipeline needs beyond its components: the defaults of its class, as far as the `kinora` object of
/// `model_index.json` does not replace them.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Name shown to people.
    pub name: String,
    /// Denoising steps when a request names none.
    pub default_steps: usize,
    /// Guidance when a request names none; 1 means one branch.
    pub default_guidance: f32,
    /// Latent channels that are guided when a request names no number; all if absent.
    pub default_guidance_channels: Option<usize>,
    /// Power of the cosine by which guidance comes in when a request names no curve; throughout if absent.
    pub default_guidance_power: Option<f32>,
    /// Width in pixels when a request names none.
    pub default_width: usize,
    /// Height in pixels when a request names none.
    pub default_height: usize,
    /// Frames when a request names none.
    pub default_frames: usize,
    /// Frames per second the model was trained on.
    pub fps: f32,
    /// Longer prompts are cut to this many tokens.
    pub max_text_tokens: usize,
    /// File with the words the model knows, if it lists them.
    pub vocabulary: Option<String>,
    /// File with the pooled states of the phrases among them, for words it does not list.
    pub vocabulary_states: Option<String>,
    /// Folders of the stages that refine finished clips.
    pub cascade: Vec<String>,
}

/// The keys of the `kinora` object that every family has.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Overrides {
    name: String,
    default_steps: Option<usize>,
    default_guidance: Option<f32>,
    default_guidance_channels: Option<usize>,
    default_guidance_power: Option<f32>,
    default_width: Option<usize>,
    default_height: Option<usize>,
    default_frames: Option<usize>,
    fps: Option<f32>,
    max_text_tokens: Option<usize>,
    vocabulary: Option<String>,
    vocabulary_states: Option<String>,
    cascade: Vec<String>,
    /// What is left for the family.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Manifest {
    /// Guidance of this scale, as the model does it where a request says no more.
    pub fn guidance(&self, scale: f32) -> Guidance {
        let curve = self.default_guidance_power.map_or(Curve::Constant, |power| Curve::PowerCosine { power });
        Guidance { channels: self.default_guidance_channels, curve, ..Guidance::from(scale) }
    }

    /// What `index` says, with the defaults of its pipeline's class.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::UnknownClass`].
    pub fn of(index: &Index) -> Result<Self> {
        let class = index.pipeline()?;
        let (defaults, own) = (&class.defaults, index.kinora::<Overrides>()?);
        // What else is in the folder is for those who cannot look.
        if let Some(key) = own.rest.keys().find(|key| *key != "files" && !class.extensions.contains(&key.as_str())) {
            let expected = if class.extensions.is_empty() { "none of its own".into() } else { class.extensions.join(", ") };
            return Err(index.invalid(format!("`kinora.{key}` is no key of a {}, which has {expected}", class.name)));
        }
        let manifest = Self {
            name: own.name,
            default_steps: own.default_steps.unwrap_or(defaults.steps),
            default_guidance: own.default_guidance.unwrap_or(defaults.guidance),
            default_guidance_channels: own.default_guidance_channels,
            default_guidance_power: own.default_guidance_power,
            default_width: own.default_width.unwrap_or(defaults.width),
            default_height: own.default_height.unwrap_or(defaults.height),
            default_frames: own.default_frames.unwrap_or(defaults.frames),
            fps: own.fps.unwrap_or(defaults.fps),
            max_text_tokens: own.max_text_tokens.unwrap_or(class.text.max_tokens),
            vocabulary: own.vocabulary,
            vocabulary_states: own.vocabulary_states,
            cascade: own.cascade,
        };
        let counts =
            [manifest.default_steps, manifest.default_width, manifest.default_height, manifest.default_frames, manifest.max_text_tokens];
        if counts.contains(&0) || manifest.fps.is_nan() || manifest.fps <= 0.0 {
            return Err(index.invalid("`kinora`: counts and fps must be above 0".into()));
        }
        let named = manifest.vocabulary.iter().chain(&manifest.vocabulary_states).chain(&manifest.cascade);
        if let Some(name) = named.into_iter().find(|name| !is_inside(name)) {
            return Err(index.invalid(format!("`kinora`: expected names of files inside the folder, found `{name}`")));
        }
        if manifest.fps > MOST_FPS {
            return Err(index.invalid(format!("`kinora.fps`: expected at most {MOST_FPS}, found {}", manifest.fps)));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(json: &str) -> Result<Manifest> {
        Manifest::of(&Index::parse(json, "model_index.json")?)
    }

    #[test]
    fn a_plain_ltx_index_gets_the_defaults_of_diffusers() {
        let found = manifest(r#"{"_class_name": "LTXPipeline"}"#).expect("valid");
        assert_eq!((found.default_width, found.default_height, found.default_frames), (704, 512, 161), "no `kinora` object");
        assert_eq!((found.default_steps, found.default_guidance, found.fps, found.max_text_tokens), (50, 3.0, 25.0, 128));
    }

    #[test]
    fn the_kinora_object_replaces_what_it_names() {
        let json = r#"{"_class_name": "LTXPipeline", "kinora": {"name": "tiny", "default_steps": 2, "files": {"vae/config.json": 7}}}"#;
        let found = manifest(json).expect("valid");
        assert_eq!((found.name.as_str(), found.default_steps, found.default_width), ("tiny", 2, 704));
    }

    #[test]
    fn impossible_values_are_refused() {
        let zero = manifest(r#"{"_class_name": "LTXPipeline", "kinora": {"default_steps": 0}}"#).expect_err("zero steps");
        assert_eq!(zero.code(), "invalid-config", "{zero}");
        let fast = manifest(r#"{"_class_name": "LTXPipeline", "kinora": {"fps": 65535}}"#).expect_err("no clip").to_string();
        assert!(fast.contains("`kinora.fps`: expected at most 1000, found 65535"), "{fast}");
        let key = manifest(r#"{"_class_name": "LTXPipeline", "kinora": {"default_step": 8}}"#).expect_err("misspelt").to_string();
        assert!(key.contains("model_index.json: `kinora.default_step` is no key of a LTXPipeline, which has token_packing"), "{key}");
        for name in ["/etc/passwd", "../x", "a/../../x", "C:x", "..\\\\x", ""] {
            let json = format!(r#"{{"_class_name": "LTXPipeline", "kinora": {{"vocabulary": "{name}"}}}}"#);
            assert!(manifest(&json).expect_err(name).to_string().contains("inside the folder"), "{name}");
            let json = format!(r#"{{"_class_name": "LTXPipeline", "kinora": {{"cascade": ["{name}"]}}}}"#);
            assert!(manifest(&json).is_err(), "{name}");
        }
        let class = manifest(r#"{"_class_name": "StableAudioPipeline"}"#).expect_err("another family");
        assert_eq!(class.code(), "unknown-class", "{class}");
        assert!(class.to_string().contains("LTXPipeline, LTXImageToVideoPipeline"), "{class}");
    }

    #[test]
    fn components_are_of_the_class_that_their_configuration_names() {
        let json = r#"{"vae": ["diffusers", "AutoencoderKLLTXVideo"], "image_encoder": ["transformers", "CLIPVisionModel"],
            "scheduler": [1, 2], "transformer": ["diffusers", "AnotherName"]}"#;
        let index = Index::parse(json, "model_index.json").expect("valid");
        for (folder, class, fits) in [
            ("vae", "AutoencoderKLLTXVideo", true),
            ("vae", "AutoencoderKLWan", false),
            ("image_encoder", "CLIPVisionModelWithProjection", true),
            ("scheduler", "AutoencoderKLWan", false),
            ("transformer", "LTXVideoTransformer3DModel", true),
            ("text_encoder", "BertModel", true),
        ] {
            assert_eq!(index.check_class(folder, class).is_ok(), fits, "{folder}: {class}");
        }
    }

    #[test]
    fn components_that_are_null_are_absent() {
        let json = r#"{"transformer": ["diffusers", "T"], "transformer_2": [null, null], "boundary_ratio": null}"#;
        let index = Index::parse(json, "model_index.json").expect("valid");
        assert!(index.has_component("transformer") && !index.has_component("transformer_2") && !index.has_component("vae"));
        assert!(index.get("boundary_ratio").is_none(), "null");
    }
}
