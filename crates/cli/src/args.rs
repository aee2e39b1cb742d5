//! The command line: names, ranges and help of every argument. Nothing here runs anything.

#![expect(clippy::doc_markdown, reason = "the comments are the help text, where backticks would be shown")]

mod bench;
mod device;
mod eval;
mod given;
mod guidance;
mod many;
mod models;
mod parts;
mod storyboard;

use std::{ffi::OsString, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::{
    ArgGroup, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use kinora_media::{Format, FrameRate};
use kinora_runtime::{
    request::{Aspect, MAX_SECONDS, MAX_STEPS, SHIFTS},
    sampling::{solvers::SOLVERS, step_cache::THRESHOLDS},
};
use serde::de::DeserializeOwned;

use crate::show::ShowStyle;

pub(crate) use bench::BenchArgs;
pub(crate) use device::{DeviceArgs, Executor, WeightType};
pub(crate) use eval::EvalArgs;
pub(crate) use given::GivenArgs;
pub(crate) use guidance::GuidanceArgs;
pub(crate) use many::{ManyArgs, Shard};
pub(crate) use models::{ModelsCommand, PullArgs};
pub(crate) use parts::PartsArgs;
pub(crate) use storyboard::StoryboardArgs;

/// Turns a sentence into a video, with hand-written WebGPU kernels.
#[derive(Debug, Parser)]
#[command(name = "kinora", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 internal error, 2 usage, 3 no suitable GPU, 4 model missing or broken,
5 out of memory, 6 output or encoder, 130 interrupted.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) console: ConsoleArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a clip from a prompt; prints the path of the file
    Generate(Box<GenerateArgs>),
    /// Say what generate would take with the same flags: weights, memory by stage and what is chosen for it; runs nothing
    Plan(Box<GenerateArgs>),
    /// Make one film from a script of scenes
    Storyboard(StoryboardArgs),
    /// Run one component of a model over tensors from a file, to compare with other implementations
    Eval(EvalArgs),
    /// Write a model folder as one file that loads by upload alone, for --model, with its checksums beside it
    Convert(ConvertArgs),
    /// List models, or describe one
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Report GPU adapters, encoders and models found on this machine
    Doctor,
    /// Measure the adapter's peak of multiply-adds and each kernel's share of it
    Bench(BenchArgs),
    /// Offer clips to applications over HTTP, by the program kinora-serve; its flags are those of `kinora serve --help`
    #[command(disable_help_flag = true)]
    Serve {
        /// What it is started with
        #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// How the command talks; the same for every subcommand.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// Print one JSON object on standard output, also for errors
    #[arg(help_heading = "Progress", long, global = true)]
    pub(crate) json: bool,
    /// Progress on standard error; json writes one object per line
    #[arg(help_heading = "Progress", long, global = true, value_enum, default_value_t, value_name = "STYLE")]
    pub(crate) progress: ProgressStyle,
    /// Colours on standard error; auto also follows NO_COLOR
    #[arg(help_heading = "Progress", long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Print errors only
    #[arg(help_heading = "Progress", short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Also print the device, the model and the time of every stage
    #[arg(help_heading = "Progress", short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// A bar on a terminal, plain lines elsewhere
    #[default]
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("sentence").required(true).args(["prompt", "prompt_option", "prompt_file", "batch"]))]
#[command(group = ArgGroup::new("sides").multiple(true).args(["width", "height"]).conflicts_with("size").conflicts_with("aspect"))]
pub(crate) struct GenerateArgs {
    /// What the clip shows; `-` reads it from standard input
    #[arg(help_heading = "Prompt", value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,
    /// The prompt as a flag; of a model that is told a class, its name or number
    #[arg(help_heading = "Prompt", short = 'p', long = "prompt", visible_alias = "class", value_name = "PROMPT")]
    pub(crate) prompt_option: Option<String>,
    /// Read the prompt from a file
    #[arg(help_heading = "Prompt", long, value_name = "FILE")]
    pub(crate) prompt_file: Option<PathBuf>,
    /// What the clip must not show
    #[arg(help_heading = "Prompt", short, long, value_name = "PROMPT")]
    pub(crate) negative: Option<String>,
    /// Take the prompt as it is; otherwise a model that lists its words draws what they come nearest to, and says so
    #[arg(help_heading = "Prompt", long)]
    pub(crate) literal: bool,
    /// Let the seed choose the motion and the background that the prompt leaves open, from the model's vocabulary
    #[arg(help_heading = "Prompt", long, conflicts_with = "literal")]
    pub(crate) expand: bool,
    /// Rewrite the prompt by a program, from its standard input to its standard output; $KINORA_SEED holds the seed
    #[arg(help_heading = "Prompt", long, value_name = "PROGRAM", conflicts_with = "expand")]
    pub(crate) expand_with: Option<PathBuf>,
    /// Rewrite the prompt by a language model behind an OpenAI-compatible API, like http://localhost:11434/v1; $OPENAI_API_KEY holds
    /// the key where one is needed
    #[arg(help_heading = "Prompt", long, value_name = "URL", requires = "expand_model", conflicts_with_all = ["expand", "expand_with"])]
    pub(crate) expand_at: Option<String>,
    /// Name of that language model
    #[arg(help_heading = "Prompt", long, value_name = "NAME", requires = "expand_at")]
    pub(crate) expand_model: Option<String>,
    #[command(flatten)]
    pub(crate) many: ManyArgs,
    #[command(flatten)]
    pub(crate) given: GivenArgs,

    /// Frame size in pixels [default: the model's]
    #[arg(help_heading = SIZE, long, value_name = "WxH", value_parser = parse_size)]
    pub(crate) size: Option<(u32, u32)>,
    /// Shape of the frame, at the model's usual number of pixels
    #[arg(help_heading = SIZE, long, value_name = "W:H", value_parser = named::<Aspect>(&Aspect::NAMES), conflicts_with = "size")]
    pub(crate) aspect: Option<Aspect>,
    /// Frame width in pixels
    #[arg(help_heading = SIZE, short = 'W', long, value_name = "PX", value_parser = side())]
    pub(crate) width: Option<u32>,
    /// Frame height in pixels
    #[arg(help_heading = SIZE, short = 'H', long, value_name = "PX", value_parser = side())]
    pub(crate) height: Option<u32>,
    /// Number of frames; 0 goes on window after window until Ctrl-C, which ends the file [default: the model's]
    #[arg(help_heading = SIZE, long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) frames: Option<u32>,
    /// Length instead of --frames, which goes before it; the nearest that the model can make
    #[arg(help_heading = SIZE, long, alias = "duration-seconds", value_name = "SECONDS", value_parser = |text: &str| parse_within(text, 0.0..=MAX_SECONDS))]
    pub(crate) duration: Option<f64>,
    /// Frames per second of the file [default: the model's]
    #[arg(help_heading = SIZE, long, value_name = "RATE", value_parser = parse_fps)]
    pub(crate) fps: Option<FrameRate>,
    /// Make a long clip from windows of so many frames, each going on where the last one ended; --frames is then the whole
    #[arg(help_heading = SIZE, long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) window: Option<u32>,
    /// Enlarge the finished clip, by the model's own stage or else by Catmull-Rom; sizes above are those before
    #[arg(help_heading = SIZE, long, value_name = "FACTOR", value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) upscale: Option<u32>,
    /// Make frames between those of the clip, by the model's own stage or else of pixels that match; --frames counts those before
    #[arg(help_heading = SIZE, long, value_name = "FACTOR", value_parser = clap::value_parser!(u32).range(1..=2))]
    pub(crate) interpolate: Option<u32>,

    /// Same seed, same clip [default: random]
    #[arg(help_heading = "Sampling", short, long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Make N clips, with seeds counting up; -o clip.gif becomes clip-SEED.gif
    #[arg(help_heading = "Sampling", long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) variations: u32,
    /// Denoising steps: fewer is faster [default: the model's]
    #[arg(help_heading = "Sampling", long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_STEPS as i64))]
    pub(crate) steps: Option<u32>,
    /// What leads from one noise level to the next [default: the model's]
    #[arg(help_heading = "Sampling", long, value_name = "NAME", value_parser = samplers())]
    pub(crate) sampler: Option<String>,
    /// Noise levels to start each step from, falling from 1, instead of --steps, like 1,0.9,0.5
    #[arg(help_heading = "Sampling", long, value_name = "LEVELS", value_parser = parse_sigmas, conflicts_with = "steps")]
    pub(crate) sigmas: Option<Sigmas>,
    /// Shift of the noise schedule towards high noise [default: the model's]
    #[arg(help_heading = "Sampling", long, value_name = "FACTOR", value_parser = |text: &str| parse_within(text, SHIFTS))]
    pub(crate) shift: Option<f64>,
    /// Make steps in which the model would change its prediction by less than this share from the step before, from 8 steps
    /// on: faster, and a little different. 0.05 if no share is given [default: compute all]
    #[arg(help_heading = "Sampling", long, value_name = "SHARE", num_args = 0..=1, require_equals = true,
        default_missing_value = "0.05", value_parser = |text: &str| parse_within(text, THRESHOLDS))]
    pub(crate) step_cache: Option<f32>,
    #[command(flatten)]
    pub(crate) guidance: GuidanceArgs,
    /// Start from these latents instead of noise: safetensors, `latents` [1, C, F, H, W]
    #[arg(help_heading = "Sampling", long, value_name = "FILE")]
    pub(crate) latents_in: Option<PathBuf>,

    /// File to write: .mp4, .gif, .apng, .y4m, .png of one frame, name-%04d.png, folder/, or - [default: named after the prompt]
    #[arg(help_heading = "Output", short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Format, where the file name does not tell it: mp4, gif, apng, png or y4m
    #[arg(help_heading = "Output", long, value_parser = parse_format)]
    pub(crate) format: Option<Format>,
    /// Replace an existing file
    #[arg(help_heading = "Output", short = 'y', long)]
    pub(crate) overwrite: bool,
    /// Also write the final latents
    #[arg(help_heading = "Output", long, value_name = "FILE")]
    pub(crate) latents_out: Option<PathBuf>,
    /// Also write what the text encoder made of all prompts, for --text-states
    #[arg(help_heading = "Output", long, value_name = "FILE")]
    pub(crate) text_states_out: Option<PathBuf>,
    /// With --progress json, add the first frame as it is now to every Nth step, as a PNG in base64; clips that are computed side by
    /// side have none
    #[arg(help_heading = "Output", long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) preview_every: Option<u32>,
    /// Show five frames in the terminal as they become clearer; a style, where the terminal's own is not the right one
    #[arg(help_heading = "Output", long, value_enum, value_name = "STYLE", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub(crate) show: Option<ShowStyle>,
    /// Ask before the clip is decoded, which may take longer than what led there
    #[arg(help_heading = "Output", long, conflicts_with_all = ["batch", "json", "quiet"])]
    pub(crate) confirm: bool,

    /// Model folder, the name of a model in $KINORA_MODELS, or weight files as they are: one, or a folder of them
    #[arg(help_heading = MODEL, short, long, value_name = "DIR|NAME|FILE", default_value = crate::models::BUILT_IN)]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) parts: PartsArgs,
    /// Storage of weights on the device
    #[arg(help_heading = MODEL, long, value_enum, default_value_t = WeightType::F16)]
    pub(crate) dtype: WeightType,
    /// Memory that the device may give, like 4GB or 900MB: weights leave it after their stage or are streamed where that is needed, and
    /// what does not fit is refused with a setting that does
    #[arg(help_heading = MODEL, long, value_name = "SIZE", value_parser = parse_memory, conflicts_with = "executor")]
    pub(crate) memory: Option<u64>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

const SIZE: &str = "Size and length";
const MODEL: &str = "Model and device";

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Model folder or name
    #[arg(value_name = "DIR|NAME")]
    pub(crate) model: String,
    /// File to write
    #[arg(value_name = "FILE.safetensors")]
    pub(crate) output: PathBuf,
    /// Storage of weights on the device, which is then the only one that the file is for
    #[arg(long, value_enum, default_value_t = WeightType::F16)]
    pub(crate) dtype: WeightType,
    /// Replace an existing file
    #[arg(short = 'y', long)]
    pub(crate) overwrite: bool,
}

fn side() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=16_384)
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("`{text}` is not a size; expected WIDTHxHEIGHT in pixels, like 128x128");
    let (width, height) = text.split_once(['x', 'X', '×']).ok_or_else(wrong)?;
    let side = |text: &str| text.parse().ok().filter(|side| (1..=16_384).contains(side)).ok_or_else(wrong);
    Ok((side(width)?, side(height)?))
}

fn parse_memory(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount of memory; expected a number with MB, MiB, GB or GiB, like 4GB");
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("GB", 1_000_000_000), ("MB", 1_000_000)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).ok_or_else(wrong)?;
    let number: f64 = number.trim().parse().ok().filter(|number| *number > 0.0 && *number < 1e6).ok_or_else(wrong)?;
    Ok((number * *unit as f64) as u64)
}

fn parse_fps(text: &str) -> Result<FrameRate, String> {
    let fps = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    FrameRate::from_f64(fps).map_err(|error| error.to_string())
}

fn parse_within<T: FromStr + PartialOrd + Display>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    let wrong = || format!("`{text}` is not a number in {}..={}", range.start(), range.end());
    text.parse().ok().filter(|value| range.contains(value)).ok_or_else(wrong)
}

/// The values of an option of the runtime that are names.
fn named<T: DeserializeOwned + Clone + Send + Sync + 'static>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value(name.into()))
}

/// A list of noise levels.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sigmas(pub(crate) Vec<f32>);

fn parse_sigmas(text: &str) -> Result<Sigmas, String> {
    let levels = text.split(',').map(|level| parse_within(level.trim(), 0f32..=1.0)).collect::<Result<Vec<_>, _>>();
    levels.map(Sigmas).map_err(|problem| format!("{problem}; expected noise levels like 1,0.9,0.5"))
}

/// The solvers by name; whether one suits the model is known when that is loaded.
fn samplers() -> PossibleValuesParser {
    let mut names: Vec<&'static str> = SOLVERS.iter().map(|solver| solver.name).collect();
    names.sort_unstable();
    names.dedup();
    PossibleValuesParser::new(names)
}

fn parse_format(text: &str) -> Result<Format, String> {
    Format::from_name(text).map_err(|_| format!("`{text}` is none of mp4, gif, apng, png, y4m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generate(line: &str) -> Result<GenerateArgs, clap::Error> {
        let words = ["kinora", "generate"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Generate(args) => Ok(*args),
            other => panic!("not generate: {other:?}"),
        }
    }

    #[test]
    fn clap_accepts_the_definition() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_prompt_comes_from_exactly_one_place() {
        assert_eq!(generate("rocket").ok().and_then(|args| args.prompt).as_deref(), Some("rocket"));
        assert_eq!(generate("-p rocket").ok().and_then(|args| args.prompt_option).as_deref(), Some("rocket"));
        assert_eq!(generate("-").ok().and_then(|args| args.prompt).as_deref(), Some("-"));
        for line in ["", "a -p b", "a --prompt-file f", "-p a --prompt-file f", "a b"] {
            assert!(generate(line).is_err(), "`{line}` was accepted");
        }
    }

    #[test]
    fn values_outside_their_range_are_refused() -> Result<(), clap::Error> {
        let args = generate("a --size 96x64 --frames 9 --fps 23.976 --steps 4 --guidance 1 --shift 2.5 -s 18446744073709551615")?;
        assert_eq!((args.size, args.frames, args.steps, args.seed), (Some((96, 64)), Some(9), Some(4), Some(u64::MAX)));
        assert_eq!(args.fps.map(|fps| fps.to_string()).as_deref(), Some("24000/1001"));
        for line in [
            "--size 0x64",
            "--size 64",
            "--size 64x",
            "--size 99999x1",
            "--size 64x64x64",
            "-W 0",
            "-H -1",
            "--frames 100001",
            "--frames 1e3",
            "--fps 0",
            "--fps nan",
            "--steps 0",
            "--steps 1001",
            "--guidance inf",
            "--guidance -1",
            "--shift 0",
            "--duration -1",
            "--duration nan",
            "--aspect 2:1",
            "-s -1",
            "-s 18446744073709551616",
            "--format webm",
            "--size 8x8 -W 8",
            "--device 0 --executor cpu",
            "--sampler x",
            "--sigmas 1,2",
            "--sigmas 1,0.5 --steps 2",
        ] {
            assert!(generate(&format!("a {line}")).is_err(), "`{line}` was accepted");
        }
        Ok(())
    }
}
