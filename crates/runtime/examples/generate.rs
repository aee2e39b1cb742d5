//! A prompt to raw RGBA frames: `cargo run --release --example generate -- models/flipbook "a rocket flying" out.rgba`.

use std::io::Write as _;

use kinora_runtime::{AdapterSelect, CancelToken, Device, VideoPipeline, WeightFormat};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, folder, prompt, output] = args.as_slice() else { return Err("usage: generate MODEL PROMPT OUTPUT".into()) };
    pollster::block_on(async {
        let device = Device::gpu(&AdapterSelect::Auto, None).await?;
        let pipeline = VideoPipeline::load(device, folder.as_ref(), WeightFormat::F16)?;
        let begun = std::time::Instant::now();
        let on_event = &mut |event| println!("{:>6} ms {event:?}", begun.elapsed().as_millis());
        let clip = pipeline.generate(&pipeline.request(prompt), &CancelToken::default(), on_event).await?;
        println!("{:>6} ms {} frames of {} × {}", begun.elapsed().as_millis(), clip.frames.len(), clip.width, clip.height);
        std::fs::File::create(output)?.write_all(&clip.frames.concat())?;
        Ok(())
    })
}
