//! Previews as pictures in a terminal: by a protocol of its own where it has one, else of half blocks.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::ValueEnum;
use kinora_media::{Clip, Format, FrameRate, Metadata, encode};

/// How a terminal is shown a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShowStyle {
    /// What the terminal says of itself in the environment
    Auto,
    /// The protocol of kitty
    Kitty,
    /// The protocol of iTerm2
    Iterm,
    /// Sixel: foot, mlterm, xterm with `-ti vt340`
    Sixel,
    /// Half blocks in 24-bit colours, which any other shows
    Blocks,
}

/// kitty takes at most so many characters at once.
const KITTY_CHUNK: usize = 4096;
/// Milliseconds from one frame of a preview to the next.
const KITTY_GAP: usize = 250;
/// Of a picture of half blocks.
const MOST_COLUMNS: usize = 80;
/// Steps of each colour of a sixel.
const LEVELS: usize = 6;

impl ShowStyle {
    /// Itself, or what fits the terminal of these variables.
    pub(crate) fn decided(self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        if self != Self::Auto {
            return self;
        }
        let is = |name: &str, parts: &[&str]| variable(name).is_some_and(|value| parts.iter().any(|part| value.contains(part)));
        if variable("KITTY_WINDOW_ID").is_some() || is("TERM", &["kitty", "ghostty"]) || variable("KONSOLE_VERSION").is_some() {
            Self::Kitty
        } else if is("TERM_PROGRAM", &["iTerm", "WezTerm"]) || is("LC_TERMINAL", &["iTerm"]) {
            Self::Iterm
        } else if is("TERM", &["sixel", "foot", "mlterm"]) {
            Self::Sixel
        } else {
            Self::Blocks
        }
    }

    /// What the terminal is sent for frames of RGBA bytes, which are also there as PNGs; ends a line. Several move in kitty, under this
    /// number, and stand beside each other elsewhere.
    pub(crate) fn picture(self, rgba: &[u8], [width, height]: [usize; 2], pngs: &[Vec<u8>], number: usize) -> String {
        let count = rgba.len() / (4 * width * height).max(1);
        if count == 0 || width == 0 || height == 0 {
            return String::new();
        }
        let (strip, wide) = (beside(rgba, width, height), width * count);
        let mut sent = match self {
            Self::Kitty => kitty(pngs, number),
            Self::Iterm => {
                let png = if count == 1 { pngs.first().cloned().unwrap_or_default() } else { png(&strip, wide, height) };
                format!("\x1b]1337;File=inline=1;size={}:{}\x07", png.len(), BASE64_STANDARD.encode(png))
            }
            Self::Sixel => sixel(&strip, wide, height),
            Self::Blocks | Self::Auto => return blocks(&strip, wide, height),
        };
        sent.push('\n');
        sent
    }
}

/// Frames one beside the other.
fn beside(rgba: &[u8], width: usize, height: usize) -> Vec<u8> {
    let frames: Vec<&[u8]> = rgba.chunks_exact(4 * width * height).collect();
    let row = |y: usize| frames.iter().flat_map(move |frame| &frame[4 * width * y..][..4 * width]);
    (0..height).flat_map(row).copied().collect()
}

/// Pixels as a PNG; none is better than one that stops the clip.
fn png(rgba: &[u8], width: usize, height: usize) -> Vec<u8> {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or_default();
    let mut file = Vec::new();
    let still = FrameRate::new(1, 1).and_then(|rate| Clip::new(side(width), side(height), rate, vec![rgba.to_vec()]));
    let encoded = still.and_then(|still| encode(&still, Format::Apng, &Metadata::default(), &mut file, &mut |_| true));
    if encoded.is_err() { Vec::new() } else { file }
}

/// PNGs that are shown where the cursor is, one after another under this number.
fn kitty(pngs: &[Vec<u8>], number: usize) -> String {
    let mut sent = String::new();
    for (frame, png) in pngs.iter().enumerate() {
        let first = match (frame, pngs.len()) {
            (0, 1) => "a=T,f=100,q=2,".to_owned(),
            (0, _) => format!("a=T,i={},f=100,q=2,", number + 1),
            _ => format!("a=f,i={},z={KITTY_GAP},f=100,q=2,", number + 1),
        };
        let text = BASE64_STANDARD.encode(png);
        let chunks: Vec<&[u8]> = text.as_bytes().chunks(KITTY_CHUNK).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            // Further chunks of a frame name its action again.
            let keys = match at {
                0 => first.as_str(),
                _ if frame > 0 => "a=f,",
                _ => "",
            };
            let more = u8::from(at + 1 < chunks.len());
            sent += &format!("\x1b_G{keys}m={more};{}\x1b\\", String::from_utf8_lossy(chunk));
        }
    }
    if pngs.len() > 1 {
        // The first frame lasts as long as the others, and all repeat without an end.
        sent += &format!("\x1b_Ga=a,i={id},r=1,z={KITTY_GAP},q=2\x1b\\\x1b_Ga=a,i={id},s=3,v=1,q=2\x1b\\", id = number + 1);
    }
    sent
}

/// Two pixels in each cell, the upper one as the block's colour, the lower one as the ground's.
fn blocks(rgba: &[u8], width: usize, height: usize) -> String {
    let columns = width.min(MOST_COLUMNS);
    let rows = (height * columns / width).max(1).next_multiple_of(2);
    // The nearest pixel does: it is a preview.
    let pixel = |x: usize, y: usize| {
        let at = 4 * ((y * height / rows).min(height - 1) * width + x * width / columns);
        [rgba[at], rgba[at + 1], rgba[at + 2]]
    };
    let mut sent = String::new();
    for y in (0..rows).step_by(2) {
        for x in 0..columns {
            let ([r, g, b], [lr, lg, lb]) = (pixel(x, y), pixel(x, y + 1));
            sent += &format!("\x1b[38;2;{r};{g};{b};48;2;{lr};{lg};{lb}m▀");
        }
        sent += "\x1b[0m\n";
    }
    sent
}

/// Bands of six rows, in each of which every colour has its turn (DEC STD 070).
fn sixel(rgba: &[u8], width: usize, height: usize) -> String {
    let level = |byte: u8| usize::from(byte) * LEVELS / 256;
    let colour = |x: usize, y: usize| {
        let at = 4 * (y * width + x);
        (level(rgba[at]) * LEVELS + level(rgba[at + 1])) * LEVELS + level(rgba[at + 2])
    };
    let mut sent = format!("\x1bPq\"1;1;{width};{height}");
    let percent = |level: usize| level * 100 / (LEVELS - 1);
    for index in 0..LEVELS.pow(3) {
        let [r, g, b] = [index / LEVELS / LEVELS, index / LEVELS % LEVELS, index % LEVELS].map(percent);
        sent += &format!("#{index};2;{r};{g};{b}");
    }
    for band in (0..height).step_by(6) {
        let rows = band..height.min(band + 6);
        let mut used: Vec<usize> = rows.clone().flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| colour(x, y)).collect();
        used.sort_unstable();
        used.dedup();
        for index in used {
            sent += &format!("#{index}");
            for x in 0..width {
                let bits = rows.clone().filter(|y| colour(x, *y) == index).map(|y| 1u8 << (y - band)).sum::<u8>();
                sent.push(char::from(63 + bits));
            }
            sent.push('$');
        }
        sent.push('-');
    }
    sent + "\x1b\\"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of three pixels.
    const RGBA: [u8; 24] = [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255, 0, 0, 0, 255, 255, 255, 255, 255, 255, 0, 0, 255];

    #[test]
    fn terminals_are_known_by_their_variables() {
        let decided = |variables: &[(&str, &str)]| {
            ShowStyle::Auto.decided(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(decided(&[("TERM", "xterm-kitty")]), ShowStyle::Kitty);
        assert_eq!(decided(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")]), ShowStyle::Iterm);
        assert_eq!(decided(&[("TERM", "foot")]), ShowStyle::Sixel);
        assert_eq!(decided(&[("TERM", "xterm-256color")]), ShowStyle::Blocks);
        assert_eq!(ShowStyle::Sixel.decided(&|_| None), ShowStyle::Sixel, "what is said goes first");
    }

    #[test]
    fn half_blocks_hold_two_rows() {
        let expected = "\x1b[38;2;255;0;0;48;2;0;0;0m▀\x1b[38;2;0;255;0;48;2;255;255;255m▀\x1b[38;2;0;0;255;48;2;255;0;0m▀\x1b[0m\n";
        assert_eq!(ShowStyle::Blocks.picture(&RGBA, [3, 2], &[], 0), expected);
        let wide = ShowStyle::Blocks.picture(&vec![9; 4 * 320 * 160], [320, 160], &[], 0);
        assert_eq!((wide.lines().count(), wide.matches('▀').count()), (20, 20 * 80), "80 columns at most");
    }

    #[test]
    fn long_pictures_are_sent_in_parts() {
        let sent = ShowStyle::Kitty.picture(&RGBA, [3, 2], &[vec![7; 4000]], 0);
        assert!(sent.starts_with("\x1b_Ga=T,f=100,q=2,m=1;") && sent.ends_with("\x1b\\\n"), "{sent:?}");
        assert_eq!((sent.matches("m=1").count(), sent.matches("m=0").count()), (1, 1), "5,336 characters in two parts");
        let sent = ShowStyle::Iterm.picture(&RGBA, [3, 2], &[b"PNG".to_vec()], 0);
        assert_eq!(sent, "\x1b]1337;File=inline=1;size=3:UE5H\x07\n");
    }

    #[test]
    fn several_frames_move_or_stand_beside_each_other() {
        let both = [RGBA, RGBA].concat();
        let sent = ShowStyle::Kitty.picture(&both, [3, 2], &[vec![7; 8], vec![8; 4000]], 4);
        assert!(sent.starts_with("\x1b_Ga=T,i=5,f=100,q=2,m=0;") && sent.ends_with("\x1b_Ga=a,i=5,s=3,v=1,q=2\x1b\\\n"), "{sent:?}");
        assert_eq!((sent.matches("a=f,i=5,z=250,f=100,q=2,m=1;").count(), sent.matches("\x1b_Ga=f,m=0;").count()), (1, 1), "{sent:?}");
        let lines = ShowStyle::Blocks.picture(&both, [3, 2], &[], 0);
        assert_eq!((lines.lines().count(), lines.matches('▀').count()), (1, 6), "six columns");
        let sent = ShowStyle::Iterm.picture(&both, [3, 2], &[], 0);
        assert!(sent.starts_with("\x1b]1337;File=inline=1;size=") && sent.len() > 80, "{sent:?}");
    }

    #[test]
    fn sixels_have_a_turn_for_each_colour() {
        let sent = ShowStyle::Sixel.picture(&RGBA, [3, 2], &[], 0);
        assert!(sent.starts_with("\x1bPq\"1;1;3;2#0;2;0;0;0") && sent.ends_with("$-\x1b\\\n"), "{sent:?}");
        // Red: the first pixel of the first row, the last of the second.
        assert!(sent.contains("#180@?A$"), "{sent:?}");
        assert_eq!(ShowStyle::Sixel.picture(&RGBA, [3, 3], &[], 0), "", "fewer pixels than there should be");
    }
}
