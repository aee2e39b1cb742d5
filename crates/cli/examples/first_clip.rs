//! A prompt to a file from a program of one's own: the example of the README.

use kinora_media::{Clip, FrameRate, Metadata, Output};
use kinora_runtime::{AdapterSelect, CancelToken, Device, VideoPipeline, WeightFormat};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = pollster::block_on(Device::gpu(&AdapterSelect::Auto, None))?;
    let pipeline = VideoPipeline::load(device, "models/flipbook".as_ref(), WeightFormat::F16)?;
    let request = pipeline.request("a rocket flying on a blue background");
    let on_event = &mut |event| println!("{event:?}");
    let video = pollster::block_on(pipeline.generate(&request, &CancelToken::default(), on_event))?;

    let clip = Clip::new(video.width as u32, video.height as u32, FrameRate::from_f64(video.fps.into())?, video.frames)?;
    Output::open("rocket.gif".as_ref(), None, false)?.write(&clip, &Metadata::default(), &mut |_| true)?;
    Ok(())
}
