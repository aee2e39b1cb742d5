//! Clips that only an installed ffmpeg knows: it seeks, samples, crops and scales, so that nothing larger than what is needed
//! comes through the pipe.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error, Need, Part, Result, Taken, avif,
    child::{self, Ended, Limits, Talk},
    ffmpeg::{WORK, file_argument},
    files::{Partial, file_error},
    fit::Shape,
    sample::Kept,
};

/// Pixels of a frame that ffmpeg decodes: 8K, as it needs some tens of frames at once.
const MAX_PX: &str = "40000000";
/// Threads that decode: each holds frames of its own.
const THREADS: &str = "4";
/// What ffmpeg says about a file without being asked for anything.
const ASK: Limits = Limits { output_bytes: 1 << 20, ..WORK };

/// The formats that ffmpeg may take a file for: clips and pictures that hold what they show. Playlists and lists of files are left
/// out, as one that was sent by somebody would have other files of this machine read.
const FORMATS: &str = "apng,asf,av1,avi,avs2,avs3,dirac,dnxhd,dv,fits,flic,flv,gif,gxf,h261,h263,h264,hevc,ico,iff,image2,ivf,\
    m4v,matroska,mjpeg,mjpeg_2000,mov,mpeg,mpegts,mpegvideo,mxf,nut,nuv,obu,ogg,rm,swf,vc1,webm,wtv,yuv4mpegpipe,\
    bmp_pipe,cri_pipe,dds_pipe,dpx_pipe,exr_pipe,gem_pipe,gif_pipe,hdr_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_anim,jpegxl_pipe,\
    pam_pipe,pbm_pipe,pcx_pipe,pfm_pipe,pgm_pipe,pgmyuv_pipe,pgx_pipe,phm_pipe,photocd_pipe,pictor_pipe,png_pipe,ppm_pipe,psd_pipe,\
    qdraw_pipe,qoi_pipe,sgi_pipe,sunrast_pipe,svg_pipe,tiff_pipe,vbn_pipe,webp_pipe,xbm_pipe,xpm_pipe,xwd_pipe";

/// A file that ffmpeg knows.
#[derive(Debug, Clone)]
pub(crate) struct Demuxed {
    program: PathBuf,
    path: PathBuf,
    /// As far as ffmpeg says it.
    pub(crate) shape: Option<Shape>,
    has_alpha: bool,
    /// The file with its alpha channel as the picture, where ffmpeg does not find it by itself.
    alpha: Option<Vec<u8>>,
    /// The decoder to ask for where ffmpeg's own drops the alpha channel.
    decoder: Option<&'static str>,
    duration_s: Option<f64>,
}

impl Demuxed {
    /// Asks ffmpeg what the file is.
    pub(crate) fn open(program: PathBuf, path: &Path) -> Result<Self> {
        let mut command = Command::new(&program);
        command.args(["-hide_banner", "-nostdin", "-format_whitelist", FORMATS, "-i"]).arg(file_argument(path));
        let ended = child::run(&mut command, ASK, &mut Nothing).map_err(|problem| unreadable(path, &program, &problem))?;
        // It ends with an error, as nothing is asked for: what it says decides.
        let said = &ended.messages;
        let Some(stream) = said.lines().find_map(|line| line.split_once("Video: ").map(|(_, stream)| stream)) else {
            let about = format!("{}:", file_argument(path).to_string_lossy());
            let message = ended.last_message();
            let message = match said.lines().find_map(|line| line.split_once("Format not on whitelist")) {
                Some((context, _)) => {
                    let format = context.trim_start_matches('[').split(' ').next().unwrap_or_default();
                    format!("ffmpeg takes it for `{format}`, a kind of file that is not opened, as such may name others")
                }
                None => format!("ffmpeg says: {}", message.strip_prefix(&about).unwrap_or(message).trim()),
            };
            return Err(Error::Decode { path: path.to_owned(), message });
        };
        let marked =
            said.lines().any(|line| line.split_once(':').is_some_and(|(key, value)| key.trim() == "alpha_mode" && value.trim() == "1"));
        let decoder = match stream.split([' ', ',']).next() {
            Some("vp9") if marked => Some("libvpx-vp9"),
            Some("vp8") if marked => Some("libvpx"),
            _ => None,
        };
        let turned = said.lines().any(|line| line.contains("rotation of") && (line.contains("90.00") || line.contains("270.00")));
        let alpha = if has_alpha(stream) { None } else { alpha_of(path) };
        Ok(Self {
            path: path.to_owned(),
            shape: shape(stream, turned),
            has_alpha: decoder.is_some() || alpha.is_some() || has_alpha(stream),
            alpha,
            decoder,
            duration_s: duration(said),
            program,
        })
    }

    /// What is needed of it.
    pub(crate) fn take(&self, need: &Need) -> Result<Taken> {
        let mut kept = Kept::new(need);
        let ended = self.run(need, true, &mut kept)?;
        if kept.len() == 0 {
            // A picture shows for less than one interval, and once all the same.
            let ended = if ended.is_success() { self.run(need, false, &mut kept)? } else { ended };
            if kept.len() == 0 {
                let message = format!("ffmpeg says: {}", ended.last_message());
                return Err(Error::Decode { path: self.path.clone(), message });
            }
        }
        Ok(kept.taken())
    }

    /// Frames as they are, counted up to `most`.
    pub(crate) fn count(&self, need: &Need, most: usize) -> Result<usize> {
        let need = Need { width: 16, height: 16, part: Part::First(most), ..*need };
        let mut kept = Kept::new(&need);
        self.run(&need, false, &mut kept)?;
        Ok(kept.len())
    }

    fn run(&self, need: &Need, sampled: bool, kept: &mut Kept) -> Result<Ended> {
        let mut command = Command::new(&self.program);
        command.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-max_pixels", MAX_PX, "-threads", THREADS]);
        if let Some(decoder) = self.decoder {
            command.args(["-c:v", decoder]);
        }
        let skipped = self.skipped(need, kept.most()).filter(|_| sampled);
        if let Some(seconds) = skipped {
            command.args(["-ss", &format!("{seconds:.3}")]);
            // What was passed over counts as cut.
            kept.cut();
        }
        command.args(["-format_whitelist", FORMATS, "-i"]).arg(file_argument(&self.path));
        let alpha = self.alpha.as_ref().map(|alpha| {
            let file = Partial::create(&env::temp_dir().join("alpha.avif"))?;
            file.file().write_all(alpha).map_err(|source| file_error("write", file.path(), source))?;
            Ok::<_, Error>(file)
        });
        let alpha = alpha.transpose()?;
        if let Some(alpha) = &alpha {
            command.arg("-i").arg(file_argument(alpha.path()));
        }
        command.args(self.output(need, sampled));
        let channels = if self.has_alpha { 4 } else { 3 };
        let frame_bytes = need.width as usize * need.height as usize * channels;
        let mut frames = Frames { frame_bytes, has_alpha: self.has_alpha, background: need.background, rest: Vec::new(), kept };
        child::run(&mut command, WORK, &mut frames).map_err(|problem| unreadable(&self.path, &self.program, &problem))
    }

    /// Seconds before the part that is needed, if the file says how long it is.
    fn skipped(&self, need: &Need, most: usize) -> Option<f64> {
        /// Clocks of containers and streams differ a little.
        const MARGIN_S: f64 = 2.0;
        let Part::Last(_) = need.part else { return None };
        Some(self.duration_s? - most as f64 / need.rate.as_f64() - MARGIN_S).filter(|skipped| *skipped > 0.0)
    }

    /// The filters, from the file to raw frames of the size that is needed.
    fn output(&self, need: &Need, sampled: bool) -> Vec<OsString> {
        let Need { width, height, rate, .. } = need;
        let mut filters = Vec::new();
        if sampled {
            // A frame shows where it is on screen in the middle of an interval; the microsecond decides the ties.
            filters.push(format!("settb=AVTB,setpts=PTS-STARTPTS-1,fps=fps={rate}:round=near"));
        }
        // The middle that covers the shape, in pixels as wide as they are shown.
        filters.push(format!(
            "crop=w='min(iw,max(1,round(ih*{width}/({height}*sar))))':h='min(ih,max(1,round(iw*sar*{height}/{width})))':exact=1"
        ));
        let format = if self.has_alpha {
            // What is transparent must not colour what is beside it.
            filters.push("format=gbrap,premultiply=inplace=1".to_owned());
            "rgba"
        } else {
            "rgb24"
        };
        filters.push(format!("scale=w={width}:h={height}:flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format={format}"));
        let source = if self.alpha.is_some() { "[1:v:0]format=gray[alpha];[0:v:0][alpha]alphamerge," } else { "[0:v:0]" };
        let filters = format!("{source}{}[frames]", filters.join(","));
        let words = ["-filter_complex", &filters, "-map", "[frames]", "-f", "rawvideo", "-pix_fmt", format, "pipe:1"];
        words.into_iter().map(OsString::from).collect()
    }
}

/// The alpha channel of a still image whose container keeps it apart.
fn alpha_of(path: &Path) -> Option<Vec<u8>> {
    /// More than any AVIF of a size that is read.
    const MOST_BYTES: u64 = 64 << 20;
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    (&file).take(16).read_to_end(&mut bytes).ok()?;
    if !avif::is_image_file(&bytes) || file.metadata().ok()?.len() > MOST_BYTES {
        return None;
    }
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    avif::alpha_as_picture(&bytes)
}

struct Nothing;

impl Talk for Nothing {}

/// Raw frames as they come.
struct Frames<'a> {
    frame_bytes: usize,
    has_alpha: bool,
    background: [u8; 3],
    rest: Vec<u8>,
    kept: &'a mut Kept,
}

impl Talk for Frames<'_> {
    fn output(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let whole = self.rest.len() / self.frame_bytes * self.frame_bytes;
        let rest = self.rest.split_off(whole);
        let frames = std::mem::replace(&mut self.rest, rest);
        frames.chunks_exact(self.frame_bytes).all(|frame| self.kept.push(opaque(frame, self.has_alpha, self.background), 1))
    }
}

/// RGB, or RGBA whose colours are multiplied by their alpha, over an opaque colour.
fn opaque(frame: &[u8], has_alpha: bool, background: [u8; 3]) -> Vec<u8> {
    if !has_alpha {
        return frame.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    }
    let over = |value: u8, behind: u8, alpha: u8| {
        // Scaling may overshoot.
        (u32::from(value) + (u32::from(behind) * (255 - u32::from(alpha)) + 127) / 255).min(255) as u8
    };
    let pixel = |p: &[u8]| [over(p[0], background[0], p[3]), over(p[1], background[1], p[3]), over(p[2], background[2], p[3]), 255];
    frame.chunks_exact(4).flat_map(pixel).collect()
}

fn unreadable(path: &Path, program: &Path, problem: &child::Problem) -> Error {
    Error::Decode { path: path.to_owned(), message: format!("`{}`: {problem}", program.display()) }
}

/// The size in a line like `h264 (High), yuv420p(tv), 1920x1080 [SAR 1:1 DAR 16:9], 30 fps`.
fn shape(stream: &str, turned: bool) -> Option<Shape> {
    let mut words = stream.split([' ', ',', '[', ']']);
    let (width, height) = words.find_map(|word| {
        let (width, height) = word.split_once('x')?;
        Some((width.parse().ok()?, height.parse().ok()?)).filter(|(width, height): &(u32, u32)| *width > 0 && *height > 0)
    })?;
    let aspect = words.skip_while(|word| *word != "SAR").nth(1).and_then(|ratio| ratio.split_once(':'));
    let aspect = aspect.and_then(|(x, y)| Some(x.parse::<f64>().ok()? / y.parse::<f64>().ok()?)).filter(|a| a.is_finite() && *a > 0.0);
    let pixel_aspect = aspect.unwrap_or(1.0);
    Some(match turned {
        true => Shape { width: height, height: width, pixel_aspect: pixel_aspect.recip() },
        false => Shape { width, height, pixel_aspect },
    })
}

/// Whether the pixel format has a channel for it, by its name.
fn has_alpha(stream: &str) -> bool {
    let formats = ["yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8"];
    stream.split(", ").skip(1).any(|word| formats.iter().any(|format| word.starts_with(format)))
}

/// Seconds in `  Duration: 00:01:40.00, start: …`.
fn duration(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("Duration: ")?;
    let mut parts = rest.split(',').next()?.splitn(3, ':').map(|part| part.trim().parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_says_is_understood() {
        let line = "h264 (High) (avc1 / 0x31637661), yuv420p(tv, bt709), 1920x1080 [SAR 4:3 DAR 64:27], 600 kb/s, 30 fps";
        assert_eq!(shape(line, false), Some(Shape { width: 1920, height: 1080, pixel_aspect: 4.0 / 3.0 }));
        assert_eq!(shape(line, true), Some(Shape { width: 1080, height: 1920, pixel_aspect: 0.75 }));
        assert_eq!(shape("tiff, rgba, 16x9, 25 tbr", false), Some(Shape::square(16, 9)));
        assert_eq!(shape("vp9, yuv420p, 8x8, SAR 0:1 DAR 0:1", false), Some(Shape::square(8, 8)), "unknown aspect");
        assert_eq!(shape("none", false), None);
        assert!(has_alpha("prores (4444), yuva444p12le(bt709), 128x128") && has_alpha("tiff, rgba, 16x9") && !has_alpha(line));
        assert_eq!(duration("  Duration: 00:01:40.50, start: 0.0, bitrate: 5 kb/s"), Some(100.5));
        assert_eq!(duration("  Duration: N/A, bitrate: N/A"), None);
    }

    #[test]
    fn multiplied_colours_stand_over_the_background() {
        assert_eq!(opaque(&[0, 0, 51, 51], true, [255, 0, 0]), [204, 0, 51, 255], "a fifth of blue over red");
        assert_eq!(opaque(&[1, 2, 3, 4, 5, 6], false, [0; 3]), [1, 2, 3, 255, 4, 5, 6, 255]);
    }
}
