//! Progress on standard error, in four styles over one stream of events.

use std::{
    io::{IsTerminal as _, Write},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    args::{ConsoleArgs, ProgressStyle},
    failure::printable,
    run::{Event, Metadata, Unknown, Wording},
    show::ShowStyle,
};

/// Shares of the bar: what each stage roughly costs for a small model.
const TEXT: f64 = 0.05;
const STEPS: f64 = 0.65;
const DECODE: f64 = 0.25;
const WRITE: f64 = 0.05;
/// Of decoding's share, where a refined clip stands: its first stage comes after a third, the second after two.
const REFINE: [(&str, f64); 2] = [("interpolate", 0.33), ("upscale", 0.67)];
/// A terminal needs no more redraws than this.
const REDRAW: Duration = Duration::from_millis(50);
const BAR_CELLS: usize = 24;

/// Progress over the whole generation, 0..=1.
fn fraction(event: &Event) -> f64 {
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    match *event {
        Event::Start(_) | Event::Note { .. } | Event::Prompt(_) => 0.0,
        Event::Text { .. } => TEXT,
        Event::Step { step, steps, .. } => TEXT + STEPS * share(step, steps),
        Event::Decode { .. } => TEXT + STEPS,
        Event::Refine { stage, .. } => {
            let done = REFINE.iter().find(|(name, _)| *name == stage).map_or(0.0, |(_, share)| *share);
            TEXT + STEPS + DECODE * done
        }
        // Nobody knows how far a clip without an end is.
        Event::Write { frames: 0, .. } => 0.0,
        // Written while they are decoded.
        Event::Write { frame, frames } => TEXT + STEPS + (DECODE + WRITE) * share(frame, frames),
        Event::Done => 1.0,
    }
}

fn label(event: &Event) -> String {
    match event {
        Event::Start(made) => {
            let Metadata { seed, width, height, frames, fps, .. } = &**made;
            format!("{frames} frames of {width}x{height} at {fps:.4} fps, seed {seed}").replace(".0000 fps", " fps")
        }
        Event::Note { text } => printable(text),
        Event::Prompt(Wording { used, unknown, ignored }) => {
            let unknown = unknown.iter().map(|Unknown { word, nearest }| format!("; `{word}` is not known, nearest is {nearest}"));
            let ignored = if ignored.is_empty() { String::new() } else { format!("; not drawn: {}", ignored.join(", ")) };
            printable(&format!("drawn as: {used}{}{ignored}", unknown.collect::<String>()))
        }
        Event::Text { tokens, truncated: false } => format!("prompt of {tokens} tokens"),
        Event::Text { tokens, truncated: true } => format!("prompt cut to {tokens} tokens"),
        Event::Step { step, steps, .. } => format!("step {step}/{steps}"),
        Event::Decode { frames } => format!("decode {frames} frames"),
        Event::Refine { stage, by: "model", frames } => format!("{stage} to {frames} frames"),
        Event::Refine { stage, by, frames } => format!("{stage} to {frames} frames by {by}, as the model has no stage for it"),
        Event::Write { frame, frames: 0 } => format!("write {frame}"),
        Event::Write { frame, frames } => format!("write {frame}/{frames}"),
        Event::Done => "done".to_owned(),
    }
}

/// What the rest of the steps will take, if those since so many were done took `spent`.
fn left(event: &Event, spent: Duration, before: usize) -> Option<Duration> {
    match *event {
        Event::Step { step, steps, .. } if step > before => Some(spent.mul_f64(steps.saturating_sub(step) as f64 / (step - before) as f64)),
        _ => None,
    }
}

/// A time in words, if it is worth them.
pub(crate) fn in_words(time: Duration) -> Option<String> {
    match time.as_secs() {
        0..10 => None,
        seconds @ 10..100 => Some(format!("about {} s", seconds.next_multiple_of(10))),
        seconds @ 100..6000 => Some(format!("about {} min", seconds.div_ceil(60))),
        seconds => Some(format!("about {} h", seconds.div_ceil(3600))),
    }
}

fn left_label(left: Option<Duration>) -> String {
    left.and_then(in_words).map(|words| format!(", {words} more")).unwrap_or_default()
}

/// The event, which clip it is about where there is a name for that, how far it is and when it was.
fn to_json(id: Option<&Value>, event: &Event, fraction: f64, elapsed: Duration, left: Option<Duration>) -> Value {
    let mut object = json!(event);
    if let Some(id) = id {
        object["id"] = id.clone();
    }
    if let Event::Step { preview: Some(preview), .. } = event {
        object["preview"] = json!(BASE64_STANDARD.encode(preview));
    }
    if let Some(left) = left {
        object["msLeft"] = json!(left.as_millis() as u64);
    }
    object["fraction"] = json!((fraction * 1e4).round() / 1e4);
    object["ms"] = json!(elapsed.as_millis() as u64);
    object
}

/// Writes events to a stream; never goes backwards.
pub(crate) struct Renderer<W: Write> {
    out: W,
    style: ProgressStyle,
    begun: Instant,
    /// The furthest so far: clips of several windows are written and denoised by turns.
    reached: f64,
    /// When the steps began or went on, how many were done then, and how many are.
    stepping: (Instant, usize, usize),
    drawn: Option<Instant>,
    /// Tenths already told in plain style, per stage.
    told: (&'static str, usize),
    /// The last step: clips that are computed side by side step together.
    stepped: (usize, usize),
    on_line: bool,
    /// How previews are shown, if they are.
    pub(crate) pictures: Option<ShowStyle>,
}

impl Renderer<std::io::Stderr> {
    /// For this process's standard error.
    pub(crate) fn stderr(console: &ConsoleArgs) -> Self {
        let style = match console.progress {
            _ if console.quiet => ProgressStyle::None,
            ProgressStyle::Auto if std::io::stderr().is_terminal() => ProgressStyle::Bar,
            ProgressStyle::Auto => ProgressStyle::Plain,
            style => style,
        };
        Self::new(std::io::stderr(), style)
    }
}

impl<W: Write> Renderer<W> {
    fn new(out: W, style: ProgressStyle) -> Self {
        let stepping = (Instant::now(), 0, 0);
        Self {
            out,
            style,
            begun: Instant::now(),
            reached: 0.0,
            stepping,
            drawn: None,
            told: ("", 0),
            stepped: (0, 0),
            on_line: false,
            pictures: None,
        }
    }

    pub(crate) fn show(&mut self, event: &Event) {
        self.show_of(None, event);
    }

    /// An event of one of several clips; without a name for it, their common steps are shown once.
    pub(crate) fn show_of(&mut self, id: Option<&Value>, event: &Event) {
        let stepped = if let Event::Step { step, steps, .. } = *event { (step, steps) } else { (0, 0) };
        let again = stepped != (0, 0) && stepped == self.stepped;
        self.stepped = stepped;
        if again && (id.is_none() || self.style != ProgressStyle::Json) {
            return;
        }
        // A clip that has a name begins anew.
        self.reached = if id.is_some() { fraction(event) } else { self.reached.max(fraction(event)) };
        if id.is_some() && matches!(event, Event::Start(_)) {
            self.stepping = (Instant::now(), 0, 0);
        }
        let (since, before, done) = self.stepping;
        let left = left(event, since.elapsed(), before);
        match event {
            Event::Step { step, .. } => self.stepping.2 = *step,
            _ => self.stepping = (Instant::now(), done, done),
        }
        // Progress that cannot be written is no reason to stop.
        let _ = match self.style {
            ProgressStyle::None => Ok(()),
            ProgressStyle::Json => writeln!(self.out, "{}", to_json(id, event, self.reached, self.begun.elapsed(), left)),
            ProgressStyle::Plain => self.show_plain(event, left),
            ProgressStyle::Bar | ProgressStyle::Auto => self.show_bar(event, left),
        };
    }

    /// A preview of RGBA bytes, one frame or several, which are also there as PNGs.
    pub(crate) fn picture(&mut self, rgba: &[u8], size: [usize; 2], pngs: &[Vec<u8>]) {
        let Some(style) = self.pictures.filter(|_| self.style != ProgressStyle::None) else { return };
        self.clear();
        let sent = style.decided(&|name| std::env::var(name).ok()).picture(rgba, size, pngs, self.stepped.0);
        let _ = self.out.write_all(sent.as_bytes()).and_then(|()| self.out.flush());
    }

    /// Whether what is asked is answered by yes, or by nothing; no if there is nobody to ask.
    pub(crate) fn ask(&mut self, question: &str) -> bool {
        self.clear();
        let mut answer = String::new();
        let _ = write!(self.out, "{question} [Y/n] ").and_then(|()| self.out.flush());
        let heard = std::io::stdin().read_line(&mut answer).is_ok_and(|bytes| bytes > 0);
        heard && !answer.trim().to_lowercase().starts_with('n')
    }

    /// One line per event that is not part of a count, and at most ten lines per count.
    fn show_plain(&mut self, event: &Event, left: Option<Duration>) -> std::io::Result<()> {
        let (stage, tenth) = match *event {
            Event::Step { step, steps, .. } => ("step", 10 * step / steps.max(1)),
            // Without an end, a line each time as many are written as before.
            Event::Write { frame, frames: 0 } => ("write", frame.ilog2() as usize + 1),
            Event::Write { frame, frames } => ("write", 10 * frame / frames.max(1)),
            _ => ("", usize::MAX),
        };
        if tenth != usize::MAX {
            let first = self.told.0 != stage;
            if !first && tenth <= self.told.1 {
                return Ok(());
            }
            self.told = (stage, tenth);
        }
        writeln!(self.out, "{:6.1} s  {}{}", self.begun.elapsed().as_secs_f64(), label(event), left_label(left))
    }

    fn show_bar(&mut self, event: &Event, left: Option<Duration>) -> std::io::Result<()> {
        let lasting = matches!(event, Event::Start(_) | Event::Note { .. } | Event::Prompt(_) | Event::Text { truncated: true, .. });
        if lasting {
            self.clear();
            return writeln!(self.out, "{}", label(event));
        }
        if *event == Event::Done {
            self.clear();
            return Ok(());
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        self.on_line = true;
        let filled = (self.reached * BAR_CELLS as f64).round() as usize;
        let bar = "━".repeat(filled) + &"┈".repeat(BAR_CELLS.saturating_sub(filled));
        let percent = self.reached * 100.0;
        let seconds = self.begun.elapsed().as_secs_f64();
        write!(self.out, "\r{bar} {percent:3.0} %  {:<14} {seconds:.1} s{}\x1b[K", label(event), left_label(left))?;
        self.out.flush()
    }

    /// Removes a half-drawn bar, so that whatever comes next starts on an empty line.
    pub(crate) fn clear(&mut self) {
        if self.on_line {
            self.on_line = false;
            let _ = write!(self.out, "\r\x1b[K").and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let start = Metadata {
            prompt: "a fox".into(),
            original_prompt: None,
            used: None,
            unknown: Vec::new(),
            ignored: Vec::new(),
            given: serde_json::Map::new(),
            negative: String::new(),
            seed: 7,
            model: "none".into(),
            width: 64,
            height: 32,
            frames: 17,
            upscale: None,
            upscaled_by: None,
            interpolate: None,
            interpolated_by: None,
            window: None,
            windows: None,
            fps: 12.0,
            steps: 40,
            sampler: None,
            sigmas: None,
            shift: None,
            guidance: 1.0,
            guidance_curve: None,
            guidance_power: None,
            guidance_interval: None,
            guidance_channels: None,
            conditioning_scale: None,
            step_cache: None,
            guidance_rescale: None,
            kinora: "0",
        };
        let mut events = vec![Event::Start(Box::new(start)), Event::Note { text: "enlarged".into() }];
        events.push(Event::Text { tokens: 9, truncated: false });
        events.extend((1..=40).map(|step| Event::Step { step, steps: 40, reused: false, preview: None }));
        events.push(Event::Decode { frames: 17 });
        events.push(Event::Refine { stage: "interpolate", by: "model", frames: 33 });
        events.push(Event::Refine { stage: "upscale", by: "catmull-rom", frames: 33 });
        events.extend((1..=17).map(|frame| Event::Write { frame, frames: 17 }));
        events.push(Event::Done);
        events
    }

    fn rendered(style: ProgressStyle) -> String {
        let mut renderer = Renderer::new(Vec::new(), style);
        events().iter().for_each(|event| renderer.show(event));
        String::from_utf8_lossy(&renderer.out).into_owned()
    }

    #[test]
    fn fractions_never_go_back_and_end_at_one() {
        let lines = rendered(ProgressStyle::Json);
        let fraction = |line: &str| serde_json::from_str::<Value>(line).ok().and_then(|event| event["fraction"].as_f64());
        let fractions: Vec<_> = lines.lines().map(fraction).collect();
        assert!(fractions.is_sorted(), "{fractions:?}");
        assert_eq!(fractions.last(), Some(&Some(1.0)));
    }

    #[test]
    fn json_style_is_one_object_per_line_for_every_event() {
        let lines = rendered(ProgressStyle::Json);
        let objects: Result<Vec<Value>, _> = lines.lines().map(serde_json::from_str).collect();
        let objects = objects.expect("every line is JSON");
        assert_eq!(objects.len(), events().len());
        assert_eq!(objects[3]["type"], "step");
        assert_eq!(objects[0]["seed"], 7);
    }

    #[test]
    fn plain_style_is_short_and_has_no_control_codes() {
        let lines = rendered(ProgressStyle::Plain);
        assert!(!lines.contains(['\r', '\x1b']), "{lines}");
        assert!((10..=40).contains(&lines.lines().count()), "{lines}");
        for expected in [
            "64x32 at 12 fps, seed 7",
            "enlarged",
            "step 40/40",
            "decode 17 frames",
            "interpolate to 33 frames\n",
            "by catmull-rom, as",
            "done",
        ] {
            assert!(lines.contains(expected), "`{expected}` is missing in\n{lines}");
        }
    }

    #[test]
    fn what_is_left_is_told_where_it_is_long() {
        let step = |step| Event::Step { step, steps: 10, reused: false, preview: None };
        let told = |done, seconds| left_label(left(&step(done), Duration::from_secs(seconds), 0));
        assert_eq!(told(2, 60), ", about 4 min more");
        assert_eq!(told(5, 14), ", about 20 s more");
        assert_eq!(told(1, 3600), ", about 9 h more");
        assert_eq!((told(9, 18), told(10, 9999)), (String::new(), String::new()), "two seconds, and none");
        assert_eq!(left(&step(8), Duration::from_secs(30), 6), Some(Duration::from_secs(30)), "two since it went on, and two more");
        assert_eq!(left(&Event::Done, Duration::from_secs(9), 0), None, "no step");
    }

    #[test]
    fn the_bar_leaves_an_empty_line() {
        let text = rendered(ProgressStyle::Bar);
        assert!(text.contains("━"), "{text}");
        assert!(text.ends_with("\r\x1b[K"), "{text:?}");
        assert_eq!(rendered(ProgressStyle::None), "");
    }
}
