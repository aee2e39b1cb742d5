//! `kinora storyboard`: the scenes of a script become one film, as `MovieFactory` and Vlogger cut theirs from a script of scenes.
//!
//! A scene that continues goes on where the one before ends; all others are cuts. Scenes are made as a batch is, side by side where
//! they can be, each losslessly to a file of its own, and then joined: whoever keeps these files makes only what was changed again.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use kinora_media::{FrameRate, Head, Made, Metadata, Output, Source};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Report,
    args::{Cli, Command, ConsoleArgs, GenerateArgs, StoryboardArgs},
    batch,
    failure::{Exit, Failure},
    generate, run,
    writers::{SOFTWARE, Written},
};

/// Scripts are written by hand.
const MAX_SCRIPT_BYTES: u64 = 1 << 20;
/// What the film decides, not a scene.
const OF_THE_FILM: [&str; 6] = ["output", "format", "overwrite", "variations", "latents-out", "text-states-out"];

/// A film as it is written down.
#[derive(Debug, Deserialize)]
struct Script {
    /// What `{name}` in a prompt stands for: who and what returns in several scenes.
    #[serde(default)]
    cast: Map<String, Value>,
    /// What every prompt ends with.
    style: Option<String>,
    scene: Vec<Scene>,
    /// Flags of `kinora generate` for all scenes.
    #[serde(flatten)]
    flags: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Scene {
    prompt: String,
    /// Goes on from the end of the scene before, instead of a cut.
    #[serde(default)]
    continues: bool,
    /// Flags of its own.
    #[serde(flatten)]
    flags: Map<String, Value>,
}

impl Script {
    fn parse(text: &str) -> Result<Self, String> {
        let script: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if script.scene.is_empty() {
            return Err("no scene; expected a [[scene]] with a prompt".to_owned());
        }
        Ok(script)
    }

    /// The flags of each shot: a scene, and those that continue it.
    fn shots(&self) -> Result<Vec<Map<String, Value>>, String> {
        let mut shots: Vec<Map<String, Value>> = Vec::new();
        for (at, scene) in self.scene.iter().enumerate() {
            let named = |problem: String| format!("scene {}: {problem}", at + 1);
            let prompt = self.prompt(&scene.prompt).map_err(named)?;
            if !scene.continues {
                let mut flags = self.flags.clone();
                flags.extend(scene.flags.clone());
                flags.insert("prompt".to_owned(), prompt.into());
                if let Some(name) = flags.keys().find(|name| OF_THE_FILM.contains(&batch::kebab(name).as_str())) {
                    return Err(named(format!("`{name}` is the film's; give it to the command")));
                }
                shots.push(flags);
                continue;
            }
            let Some(shot) = shots.last_mut() else { return Err(named("it continues, and nothing is before it".to_owned())) };
            if let Some(name) = scene.flags.keys().next() {
                return Err(named(format!("`{name}` stands in a scene that continues another; write it in the one where the shot begins")));
            }
            let Value::Array(then) = shot.entry("then").or_insert_with(|| json!([])) else {
                return Err(named("the scene it continues has a `then` that is no list".to_owned()));
            };
            then.push(prompt.into());
        }
        Ok(shots)
    }

    /// A prompt with the cast in place of its names, in the film's style.
    fn prompt(&self, written: &str) -> Result<String, String> {
        let (mut text, mut rest) = (String::new(), written);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| format!("`{written}` opens a name by {{ and never closes it"))?;
            let known = || self.cast.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let Some(Value::String(who)) = self.cast.get(name) else {
                return Err(format!(
                    "`{{{name}}}` is not in the [cast], which has {}",
                    if self.cast.is_empty() { "nobody".into() } else { known() }
                ));
            };
            text.push_str(before);
            text.push_str(who);
            rest = after;
        }
        text.push_str(rest);
        Ok(match &self.style {
            Some(style) => format!("{text}, {style}"),
            None => text,
        })
    }
}

/// Scenes where they are kept, or for as long as the film is made.
struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    fn open(kept: Option<&Path>) -> Result<Self, Failure> {
        let own = || env::temp_dir().join(format!("kinora-storyboard-{}", std::process::id()));
        let folder = Self { path: kept.map_or_else(own, Path::to_owned), is_kept: kept.is_some() };
        fs::create_dir_all(&folder.path).map_err(|error| {
            Failure::new(Exit::Output, "output-failed", format!("cannot make the folder `{}`: {error}", folder.path.display()))
        })?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

pub(crate) fn storyboard(args: &StoryboardArgs, console: &ConsoleArgs) -> Result<Report, Failure> {
    let bad = |problem: String| {
        Failure::new(Exit::Usage, "bad-storyboard", format!("`{}`: {problem}", args.script.display()))
            .hint("a script is TOML: flags for all scenes, [cast], style, and a [[scene]] with a prompt for each")
    };
    let text = kinora_media::open_input(&args.script).and_then(|file| batch::read_text(file, MAX_SCRIPT_BYTES));
    let script = text.map_err(|error| error.to_string()).and_then(|text| Script::parse(&text)).map_err(bad)?;
    let shots = script.shots().map_err(bad)?;
    let film = Output::open(&args.output, args.format, args.overwrite)?;
    let folder = Folder::open(args.scenes.as_deref())?;
    let own: Vec<OsString> = ["kinora", "generate"].into_iter().map(OsString::from).chain(args.words.iter().cloned()).collect();
    let mut jobs: Vec<GenerateArgs> = Vec::new();
    for (at, mut flags) in shots.into_iter().enumerate() {
        // Lossless, and it says what it was made from.
        flags.insert("output".to_owned(), folder.path.join(format!("shot-{:03}.apng", at + 1)).to_string_lossy().into());
        let mut job = batch::job_of(&own, &flags, true).map_err(|problem| bad(format!("shot {}: {problem}", at + 1)))?;
        // One that another script or another version of this one left there.
        job.overwrite = job.output.as_deref().map(|path| Made::find(path, None)).transpose()?.flatten().is_some();
        jobs.push(job);
    }
    let shared = shared(&own)?;
    let made = generate::make_all(&shared, jobs, console, &|clips| alike(clips).map_err(bad))?;
    let clips = made.clips.into_iter().collect::<Result<Vec<Written>, Failure>>()?;
    joined(&film, &args.script, &clips)
}

/// What all shots have in common: model and device.
fn shared(own: &[OsString]) -> Result<GenerateArgs, Failure> {
    let words = own.iter().cloned().chain(["--prompt=film".into()]);
    let usage = |error: clap::Error| Failure::new(Exit::Usage, "usage", error.to_string().trim_end().trim_start_matches("error: "));
    match Cli::try_parse_from(words).map_err(usage)?.command {
        Command::Generate(args) => Ok(*args),
        other => Err(Failure::new(Exit::Internal, "internal", format!("not a generation: {other:?}"))),
    }
}

/// Whether shots can stand behind each other.
fn alike(clips: &[run::Metadata]) -> Result<(), String> {
    let head = |clip: &run::Metadata| (clip.width, clip.height, clip.fps);
    match clips.windows(2).position(|pair| head(&pair[0]) != head(&pair[1])) {
        None => Ok(()),
        Some(at) => {
            let [a, b] =
                [&clips[at], &clips[at + 1]].map(|clip| format!("{}×{} at {} frames per second", clip.width, clip.height, clip.fps));
            Err(format!("shot {} has {a}, shot {} {b}; all of a film must be alike", at + 1, at + 2))
        }
    }
}

/// The shots one after another in one file.
fn joined(film: &Output, script: &Path, clips: &[Written]) -> Result<Report, Failure> {
    let number = |clip: &Written, name: &str| clip.json[name].as_f64().unwrap_or_default();
    let first = &clips[0];
    let [width, height] = ["width", "height"].map(|name| number(first, name) as u32);
    let frames: usize = clips.iter().map(|clip| number(clip, "frames") as usize).sum();
    let head = Head { width, height, frame_rate: FrameRate::from_f64(number(first, "fps"))?, frames: Some(frames), is_opaque: true };
    let scenes: Vec<&Value> = clips.iter().map(|clip| &clip.json).collect();
    let prompts: Vec<&str> = clips.iter().filter_map(|clip| clip.json["prompt"].as_str()).collect();
    let comment = json!({ "storyboard": generate::shown_path(script), "shots": scenes });
    let metadata = Metadata { description: prompts.join(" / "), software: SOFTWARE.to_owned(), comment: comment.to_string() };
    let mut writing = film.begin(head, &metadata)?;
    let going = &mut |_| !crate::interrupt::token().is_cancelled();
    for clip in clips {
        for frame in Source::open(&clip.path)?.whole()? {
            writing.frame(&frame, going)?;
        }
    }
    let written = writing.finish(going)?;
    let json = json!({
        "path": generate::shown_path(&written.path),
        "frames": frames,
        "format": written.format.name(),
        "encoder": written.encoder,
        "sizeBytes": written.size_bytes,
        "shots": scenes,
    });
    Ok(Report::new(written.path.into_os_string(), json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shots(text: &str) -> Result<Vec<Map<String, Value>>, String> {
        Script::parse(text)?.shots()
    }

    #[test]
    fn scenes_share_cast_style_and_flags() -> Result<(), String> {
        let found = shots(
            r#"
            style = "at night"
            aspect = "9:16"
            seed = 7
            cast = { hero = "a red fox", home = "a cave" }
            [[scene]]
            prompt = "{hero} leaves {home}"
            [[scene]]
            prompt = "it looks back at {home}"
            continues = true
            [[scene]]
            prompt = "a wolf"
            seed = 8
            "#,
        )?;
        let expected = [
            json!({"aspect": "9:16", "seed": 7, "prompt": "a red fox leaves a cave, at night", "then": ["it looks back at a cave, at night"]}),
            json!({"aspect": "9:16", "seed": 8, "prompt": "a wolf, at night"}),
        ];
        assert_eq!(found.into_iter().map(Value::Object).collect::<Vec<_>>(), expected);
        Ok(())
    }

    #[test]
    fn what_is_wrong_with_a_script_is_said() {
        for (text, part) in [
            ("", "scene"),
            ("scene = []", "no scene"),
            ("[[scene]]\nseed = 1", "prompt"),
            ("[[scene]]\nprompt = \"{fox}\"", "`{fox}` is not in the [cast], which has nobody"),
            ("cast = { cat = \"a cat\" }\n[[scene]]\nprompt = \"{fox}\"", "which has cat"),
            ("[[scene]]\nprompt = \"{fox\"", "never closes"),
            ("[[scene]]\nprompt = \"a\"\ncontinues = true", "scene 1: it continues"),
            ("[[scene]]\nprompt = \"a\"\n[[scene]]\nprompt = \"b\"\ncontinues = true\nsteps = 2", "scene 2: `steps` stands"),
            ("[[scene]]\nprompt = \"a\"\noutput = \"b.gif\"", "the film's"),
            ("[[scene]]\nprompt = \"a\"\nlatentsOut = \"b\"", "the film's"),
        ] {
            let problem = shots(text).expect_err(text);
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
