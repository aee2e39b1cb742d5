//! Arguments for what is given besides text: images, clips, masks.

use std::{ffi::OsStr, path::PathBuf};

use clap::{
    ArgGroup, Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use kinora_runtime::{conditioning::Direction, request::Colour};

/// Images and clips are read as png, apng, jpeg, webp, gif, y4m, name-%04d.png or a folder of png, and through ffmpeg if
/// it is installed.
#[derive(Debug, Clone, Default, Args)]
#[command(group = ArgGroup::new("stills").multiple(true).args(["image", "last_image", "keyframe"]).conflicts_with("video"))]
#[command(group = ArgGroup::new("clip_task").args(["extend", "connect", "repeat"]).requires("video"))]
pub(crate) struct GivenArgs {
    /// Image that the clip starts with. Images and clips are scaled to cover the frame, and their middle is kept
    #[arg(help_heading = "Prompt", short, long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// Image that the clip ends with
    #[arg(help_heading = "Prompt", long, value_name = "FILE")]
    pub(crate) last_image: Option<PathBuf>,
    /// Image at frame N of the clip, from 0; may be repeated
    #[arg(help_heading = "Prompt", long, value_name = "N=FILE", value_parser = keyframe())]
    pub(crate) keyframe: Vec<(usize, PathBuf)>,
    /// Clip to change as the prompt says, or to extend, connect or loop; sampled at the model's frame rate
    #[arg(help_heading = "Prompt", long, value_name = "FILE")]
    pub(crate) video: Option<PathBuf>,
    /// Make what comes after the clip, or what came before it
    #[arg(help_heading = "Prompt", long, value_name = "DIRECTION", value_parser = super::named::<Direction>(&Direction::NAMES))]
    pub(crate) extend: Option<Direction>,
    /// Make what lies between the clip and this one
    #[arg(help_heading = "Prompt", long, value_name = "FILE")]
    pub(crate) connect: Option<PathBuf>,
    /// Make what leads from the end of the clip to its start, so that it repeats without a cut
    #[arg(help_heading = "Prompt", long = "loop")]
    pub(crate) repeat: bool,
    /// What happens next: another prompt that goes on where the one before ends; may be repeated
    #[arg(help_heading = "Prompt", long = "then", value_name = "PROMPT")]
    pub(crate) scenes: Vec<String>,
    /// Frames that new frames have in common with what they follow or lead to, rounded up to whole latent frames [default: 5]
    #[arg(help_heading = "Prompt", long, value_name = "FRAMES", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) overlap: Option<u32>,
    /// How much of what is given stays: 1 all of it, 0 nothing [default: 1; 0.4 where a clip is
    /// changed; 0 inside a mask]
    #[arg(help_heading = "Prompt", long, value_name = "SHARE", value_parser = |text: &str| super::parse_within(text, 0f32..=1.0))]
    pub(crate) strength: Option<f32>,
    /// Image or clip that is white where the clip may change; it grows to the model's tokens
    #[arg(help_heading = "Prompt", long, value_name = "FILE", requires = "video", conflicts_with = "clip_task")]
    pub(crate) mask: Option<PathBuf>,
    /// Image of what is to appear in the clip, for a model that looks at such (VACE); all of it is taken; may be repeated
    #[arg(help_heading = "Prompt", long, value_name = "FILE")]
    pub(crate) reference: Vec<PathBuf>,
    /// How strongly the branch that is given images and clips steers (VACE): 1 in full [default: the model's]
    #[arg(help_heading = "Prompt", long, value_name = "SCALE", value_parser = |text: &str| super::parse_within(text, 0f32..=10.0))]
    pub(crate) conditioning_scale: Option<f32>,
    /// Colour behind transparent images, as RRGGBB [default: ffffff]
    #[arg(help_heading = "Prompt", long, value_name = "COLOUR")]
    pub(crate) background: Option<Colour>,
}

fn keyframe() -> impl TypedValueParser<Value = (usize, PathBuf)> {
    OsStringValueParser::new().try_map(|text| parse_keyframe(&text))
}

fn parse_keyframe(text: &OsStr) -> Result<(usize, PathBuf), String> {
    let wrong = || format!("`{}` is not a keyframe; expected N=FILE, like 8=cat.png", text.display());
    let equals = text.as_encoded_bytes().iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
    let frame = str::from_utf8(&text.as_encoded_bytes()[..equals]).ok().and_then(|frame| frame.parse().ok());
    let file = behind(text, equals).filter(|file| !file.as_os_str().is_empty());
    Ok((frame.ok_or_else(wrong)?, file.ok_or_else(wrong)?))
}

/// What stands behind a byte of a name.
#[cfg(unix)]
fn behind(text: &OsStr, at: usize) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    Some(PathBuf::from(OsStr::from_bytes(&text.as_bytes()[at + 1..])))
}

/// What stands behind a byte of a name, which must be Unicode here.
#[cfg(not(unix))]
fn behind(text: &OsStr, at: usize) -> Option<PathBuf> {
    text.to_str().map(|text| PathBuf::from(&text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command, GenerateArgs};
    use super::{Colour, Direction};
    use clap::Parser as _;

    fn generate(line: &str) -> Result<GenerateArgs, clap::Error> {
        let words = ["kinora", "generate", "a"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Generate(args) => Ok(*args),
            other => panic!("not generate: {other:?}"),
        }
    }

    #[test]
    fn images_clips_and_colours_are_read() -> Result<(), clap::Error> {
        let given = generate("-i a.png --last-image b.png --keyframe 8=c=d.png --keyframe 12=e.png --background #0080ff")?.given;
        assert_eq!(given.keyframe, [(8, "c=d.png".into()), (12, "e.png".into())], "the name may hold an equals sign");
        assert_eq!(given.background, Some(Colour([0, 128, 255])));
        let given = generate("--video v.gif --extend backward --overlap 9 --strength 0.5")?.given;
        assert_eq!((given.extend, given.overlap, given.strength), (Some(Direction::Backward), Some(9), Some(0.5)));
        Ok(())
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "--image a.png --video v.gif",
            "--extend forward",
            "--loop",
            "--connect b.gif",
            "--mask m.png",
            "--video v.gif --extend forward --loop",
            "--video v.gif --connect b.gif --extend backward",
            "--video v.gif --loop --mask m.png",
            "--video v.gif --strength 1.5",
            "--video v.gif --extend sideways",
            "--keyframe a.png",
            "--keyframe x=a.png",
            "--keyframe 8=",
            "--image a.png --background red",
            "--size 96x64 --aspect 16:9",
            "--aspect 2:1",
        ] {
            assert!(generate(line).is_err(), "`{line}` was accepted");
        }
    }
}
