//! Arguments of `kinora generate` to the options that the runtime resolves: every value as it was given, no default.

use kinora_runtime::Options;

use crate::args::GenerateArgs;

/// Frames of a preview that is shown: a window that moves.
const PREVIEW_FRAMES: usize = 5;

/// The options of one clip. Its prompt was read, and rewritten if another was asked to do that.
pub(crate) fn options(args: &GenerateArgs, prompt: &str, original: Option<&str>, seed: u64) -> Options {
    let whole = |value: Option<u32>| value.map(|value| value as usize);
    let flag = |set: bool| set.then_some(true);
    let (width, height) = args.size.map_or((args.width, args.height), |(width, height)| (Some(width), Some(height)));
    let (given, guidance) = (&args.given, &args.guidance);
    Options {
        prompt: Some(prompt.to_owned()),
        original_prompt: original.map(str::to_owned),
        negative: args.negative.clone(),
        // Whoever wrote the prompt by a program of theirs wants it as it is.
        expand: if args.literal || args.expand_with.is_some() { Some(false) } else { args.expand.then_some(true) },
        seed: Some(seed),
        width: whole(width),
        height: whole(height),
        aspect: args.aspect,
        frames: whole(args.frames),
        duration_seconds: args.duration,
        fps: args.fps.map(kinora_media::FrameRate::as_f64),
        window: whole(args.window),
        upscale: whole(args.upscale),
        interpolate: whole(args.interpolate),
        then: (!given.scenes.is_empty()).then(|| given.scenes.clone()),
        steps: whole(args.steps),
        sampler: args.sampler.clone(),
        sigmas: args.sigmas.as_ref().map(|sigmas| sigmas.0.clone()),
        shift: args.shift,
        guidance: guidance.guidance,
        guidance_curve: guidance.guidance_curve,
        guidance_power: guidance.guidance_power,
        guidance_interval: guidance.guidance_interval.map(|interval| interval.0),
        guidance_channels: whole(guidance.guidance_channels),
        guidance_rescale: guidance.guidance_rescale,
        extend: given.extend,
        repeat: flag(given.repeat),
        strength: given.strength,
        conditioning_scale: given.conditioning_scale,
        step_cache: args.step_cache,
        overlap: whole(given.overlap),
        background: given.background,
        // A terminal shows no pictures.
        preview_every: whole(args.preview_every).or(if args.show.is_some() { None } else { Some(0) }),
        preview_frames: args.show.is_some().then_some(PREVIEW_FRAMES),
        wording: None,
        original_then: None,
    }
}

#[cfg(test)]
#[path = "../../runtime/tests/support/resolution.rs"]
mod resolution;

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::BTreeSet,
        env,
        ffi::OsString,
        fmt::Write as _,
        fs,
        path::{Path, PathBuf},
    };

    use kinora_runtime::{
        Device, VideoPipeline, WeightFormat,
        conditioning::{Direction, Given, ImagePlace},
        request::{Aspect, Colour, CurveName, Draft},
    };
    use proptest::{
        option,
        prelude::*,
        sample::select,
        strategy::ValueTree as _,
        test_runner::{Config, TestRunner},
    };

    use super::{
        resolution::{given_as_json, resolved},
        *,
    };
    use crate::batch;

    /// Mostly what the tiny model of the tests can make, so that most requests get through.
    fn size() -> impl Strategy<Value = Options> {
        let side = || option::of(select(vec![32, 64, 96, 40]));
        let sides = (side(), side()).prop_map(|(width, height)| Options { width, height, ..Options::default() });
        let aspect = select(Aspect::NAMES.to_vec()).prop_map(|name| {
            let aspect: Option<Aspect> = serde_json::from_value(name.into()).ok();
            Options { aspect, ..Options::default() }
        });
        prop_oneof![3 => sides, 1 => aspect]
    }

    fn length() -> impl Strategy<Value = Options> {
        let frames = option::of(select(vec![1_usize, 5, 9, 13, 17, 6]));
        let seconds = option::of(0.0..3.0_f64);
        let window = option::weighted(0.2, select(vec![5_usize, 9, 7]));
        let fps = option::of(select(vec![1.0, 8.0, 12.5, 24.0, 60.0]));
        let factor = || option::weighted(0.3, 1..3_usize);
        (frames, seconds, window, fps, factor(), factor()).prop_map(|(frames, duration_seconds, window, fps, upscale, interpolate)| {
            Options { frames, duration_seconds, window, fps, upscale, interpolate, ..Options::default() }
        })
    }

    fn sampling() -> impl Strategy<Value = Options> {
        let curve = || select(CurveName::NAMES.to_vec()).prop_map(|name| serde_json::from_value::<CurveName>(name.into()).ok());
        let sampler = option::weighted(0.3, select(vec!["euler", "unipc", "dpm++", "lcm"]).prop_map(str::to_owned));
        let sigmas = option::weighted(0.2, select(vec![vec![1.0_f32, 0.7, 0.25], vec![0.9], vec![0.5, 0.6]]));
        let interval = option::of((0.0..1.0_f32, 0.0..1.0_f32).prop_map(|(a, b)| [a.min(b), a.max(b)]));
        let guidance =
            (option::of(0.0..9.0_f32), curve(), option::of(0.5..8.0_f32), interval, option::of(0..9_usize), option::of(0.0..1.0_f32));
        (any::<u64>(), option::of(1..60_usize), option::of(0.1..9.0_f64), guidance, sampler, sigmas).prop_map(
            |(seed, steps, shift, (guidance, curve, power, guidance_interval, guidance_channels, guidance_rescale), sampler, sigmas)| {
                Options {
                    seed: Some(seed),
                    steps: steps.filter(|_| sigmas.is_none()),
                    sampler,
                    sigmas,
                    shift,
                    guidance,
                    guidance_curve: curve,
                    guidance_power: power.filter(|_| curve == Some(CurveName::PowerCosine)),
                    guidance_interval,
                    guidance_channels,
                    guidance_rescale,
                    ..Options::default()
                }
            },
        )
    }

    /// Sources by their lengths.
    fn given() -> impl Strategy<Value = (Given<usize>, Options)> {
        let images = select(vec![vec![], vec![(ImagePlace::First, 1)], vec![(ImagePlace::Frame(4), 1), (ImagePlace::Last, 1)]]);
        let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
        let alone = images.prop_map(|images| (Given { images, ..Given::default() }, Options::default()));
        let extended =
            (9..30_usize, direction).prop_map(|(frames, way)| (Some(frames), Options { extend: Some(way), ..Options::default() }));
        let looped = (9..30_usize).prop_map(|frames| (Some(frames), Options { repeat: Some(true), ..Options::default() }));
        let edited = (1..30_usize).prop_map(|frames| (Some(frames), Options::default()));
        let video = prop_oneof![extended, looped, edited].prop_map(|(video, options)| (Given { video, ..Given::default() }, options));
        (prop_oneof![2 => alone, 1 => video], option::of(0.0..1.0_f32), option::of(1..6_usize))
            .prop_map(|((given, task), strength, overlap)| (given, Options { strength, overlap, ..task }))
    }

    fn options_and_given() -> impl Strategy<Value = (Options, Given<usize>)> {
        let texts = ("[a-z é\"\\\\-]{0,12}", option::of("[a-z]{1,8}"), option::weighted(0.2, prop::collection::vec("[a-z]{1,8}", 1..3)));
        let colour = option::of(any::<[u8; 3]>().prop_map(Colour));
        (texts, size(), length(), sampling(), given(), colour).prop_map(
            |((prompt, negative, then), size, length, sampling, (given, task), background)| {
                let options = Options {
                    prompt: Some(prompt),
                    negative,
                    then,
                    width: size.width,
                    height: size.height,
                    aspect: size.aspect,
                    frames: length.frames,
                    duration_seconds: length.duration_seconds,
                    window: length.window,
                    fps: length.fps,
                    upscale: length.upscale,
                    interpolate: length.interpolate,
                    extend: task.extend,
                    repeat: task.repeat,
                    strength: task.strength,
                    overlap: task.overlap,
                    background,
                    preview_every: Some(0),
                    ..sampling
                };
                (options, given)
            },
        )
    }

    /// The options as a page sends them, as a batch line.
    fn line(options: &Options, given: &Given<usize>) -> String {
        let mut line = serde_json::to_value(options).expect("a plain object");
        let flags = line.as_object_mut().expect("an object");
        // No flag of the command, which shows no pictures.
        flags.remove("previewEvery");
        flags.remove("previewFrames");
        if given.video.is_some() {
            flags.insert("video".into(), "clip.gif".into());
        }
        line.to_string()
    }

    #[test]
    fn the_command_and_the_package_make_the_same_of_equal_options() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let pipeline = VideoPipeline::load(Device::cpu(), &model, WeightFormat::F32).expect("the model of the tests");
        let own: Vec<OsString> = ["kinora", "generate"].map(OsString::from).to_vec();
        let drafted = |options: Options, given: &Given<usize>| -> Result<(Draft<usize>, String), String> {
            let mut notes = String::new();
            let length = |frames: &usize, most: usize| Ok::<_, kinora_runtime::Error>(most.min(*frames));
            let draft = options.resolve(given.clone(), &length, &pipeline, &mut |note| notes += &note);
            draft.map(|draft| (draft, notes)).map_err(|error| error.to_string())
        };
        let made = RefCell::new([0, 0]);
        let mut runner = TestRunner::new(Config { cases: 512, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&options_and_given(), |(options, given)| {
            let json = serde_json::to_string(&options).expect("a plain object");
            let package: Options = serde_json::from_str(&json).expect("what was written");
            let args = batch::job(&own, &line(&options, &given), false).map_err(TestCaseError::fail)?;
            let prompt = args.prompt_option.clone().unwrap_or_default();
            let command = super::options(&args, &prompt, None, args.seed.unwrap_or_default());
            prop_assert_eq!(&command, &package);
            let (command, package) = (drafted(command, &given), drafted(package, &given));
            made.borrow_mut()[usize::from(package.is_ok())] += 1;
            prop_assert_eq!(command, package);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
        let [refused, accepted] = made.into_inner();
        assert!(refused > 50 && accepted > 100, "{refused} refused, {accepted} accepted: both must be tried");
    }

    /// Cases `{ options, given }`, each with what it comes to after a tab; `web/test/bodies.test.mjs` resolves them in a browser.
    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/requests.tsv")
    }

    #[test]
    fn requests_are_those_that_browsers_are_compared_with() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tiny-model");
        let pipeline = VideoPipeline::load(Device::cpu(), &folder, WeightFormat::F32).expect("the model of the tests");
        if env::var_os("KINORA_UPDATE_SNAPSHOTS").is_some() {
            let mut runner = TestRunner::deterministic();
            let mut lines = String::new();
            for _ in 0..192 {
                let (options, given) = options_and_given().new_tree(&mut runner).expect("no filters").current();
                let mut options = serde_json::to_value(options).expect("a plain object");
                options.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
                let case = serde_json::json!({ "options": options, "given": given_as_json(&given) }).to_string();
                writeln!(lines, "{case}\t{}", resolved(&case, &pipeline).expect("a case")).expect("a text");
            }
            fs::write(fixture(), lines).expect("the folder of the tests is writable");
        }
        let lines = fs::read_to_string(fixture()).expect("the committed file");
        let (mut named, mut refused, mut planned) = (BTreeSet::new(), 0, 0);
        for line in lines.lines() {
            let (case, expected) = line.split_once('\t').expect("a case and its outcome");
            let found = resolved(case, &pipeline).unwrap_or_else(|problem| panic!("{case}: {problem}"));
            assert!(found == expected, "{case}\nbecomes\n{found}\nreview, and accept with KINORA_UPDATE_SNAPSHOTS=1");
            refused += usize::from(found.contains("\"code\""));
            planned += usize::from(found.contains("\"plan\":{"));
            let case: serde_json::Value = serde_json::from_str(case).expect("JSON");
            named.extend(case["options"].as_object().expect("an object").keys().cloned());
        }
        let count = lines.lines().count();
        assert!(count >= 128 && refused > 20 && planned > 20, "{count} cases, {refused} refused, {planned} with a plan");
        // Of a model with a second branch, by the model's words, by somebody else, of what is only shown, and of many steps.
        let unsaid: Vec<String> = Options::names().into_iter().filter(|name| !named.contains(name)).collect();
        assert_eq!(unsaid, ["conditioningScale", "expand", "originalPrompt", "previewFrames", "stepCache"], "no case has these options");
    }
}
