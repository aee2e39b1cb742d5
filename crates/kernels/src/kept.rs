//! Quantised weights that stay on the device as they are in their files; panels are made of them in the slot of a segment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::allocation::Buffer;
use crate::buffers::Memory;
use crate::error::Result;
use crate::gpu::{Gpu, Pipeline};
use crate::pack::{WINDOW_BYTES, bind};
use crate::plan::Cadence;
use crate::raw::{ALIGNMENT, Layout};
use crate::segments::Segments;
use crate::weight::{PANEL, Weight};

/// What makes the panels of a weight.
struct Job {
    pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    /// Where its parameters are.
    offset: u32,
    items: u32,
}

/// The kept weights of a plan.
pub(crate) struct Kept {
    /// What the jobs read, which must last as long as they do.
    buffers: Vec<Buffer>,
    /// Of each segment that reads some.
    jobs: HashMap<(Cadence, usize), Vec<Job>>,
}

impl Kept {
    /// Uploads the weights that `segments` keep, for panels in `slots`.
    pub(crate) fn new(gpu: &Gpu, segments: &Segments, slots: &[Buffer; 2]) -> Result<Self> {
        let uses = segments.kept_uses();
        let mut kept = Self { buffers: Vec::new(), jobs: HashMap::new() };
        if uses.is_empty() {
            return Ok(kept);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.create("kept", uses.len() as u64 * ALIGNMENT, usage);
        let (mut blocks, mut known) = (vec![0; uses.len() * ALIGNMENT as usize], HashMap::new());
        for ((number, block), (cadence, segment, weight, at)) in (0..).zip(blocks.chunks_exact_mut(ALIGNMENT as usize)).zip(uses) {
            let (layout, rows) = (Layout::of(weight), weight.shape().dims()[0]);
            let rows_in_file = match known.entry(weight.id()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(upload(gpu, weight, &layout)?),
            };
            let (kernel, job) = layout.job(weight, 0..rows);
            block[..size_of_val(&job)].copy_from_slice(bytemuck::bytes_of(&job));
            let pipeline = gpu.pipeline(kernel);
            let panels = Memory { buffer: slots[segment % 2].clone(), offset: at, bytes: weight.stored_bytes() };
            let bindings = bind(gpu, &pipeline, &params, (rows_in_file, 0, layout.extents(rows)), &panels);
            let job = Job { pipeline, bindings, offset: number * ALIGNMENT as u32, items: job.end };
            kept.jobs.entry((cadence, segment)).or_default().push(job);
        }
        gpu.write(&params, 0, &blocks);
        kept.buffers.extend(known.into_values().chain([params]));
        Ok(kept)
    }

    /// Submits what makes the panels of a segment.
    pub(crate) fn unpack(&self, gpu: &Gpu, cadence: Cadence, segment: usize) {
        let Some(jobs) = self.jobs.get(&(cadence, segment)) else { return };
        let mut encoder = gpu.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for job in jobs {
            let [x, y] = crate::replay::fold(job.items);
            pass.set_pipeline(&job.pipeline.pipeline);
            pass.set_bind_group(0, &job.bindings, &[job.offset]);
            pass.dispatch_workgroups(x, y, 1);
        }
        drop(pass);
        gpu.submit(Some(encoder.finish()));
    }
}

/// A buffer with the rows of a weight as they are in its file.
fn upload(gpu: &Gpu, weight: &Weight, layout: &Layout) -> Result<Buffer> {
    weight.check()?;
    let rows = weight.shape().dims()[0];
    let [scales_from, bytes] = layout.extents(rows);
    let buffer = gpu.storage(weight.name(), bytes)?;
    let mut at = [0, scales_from];
    // Whole panels, so that all but the last end with a whole word.
    let chunk = (layout.fitting(WINDOW_BYTES) * PANEL).max(PANEL);
    for first in (0..rows).step_by(chunk) {
        let mut parts = [Vec::new(), Vec::new()];
        weight.raw_rows(first..rows.min(first + chunk), |values, scales| {
            parts[0].extend_from_slice(values);
            parts[1].extend_from_slice(scales);
        })?;
        for (part, at) in parts.iter_mut().zip(&mut at) {
            part.resize(part.len().next_multiple_of(4), 0);
            gpu.write(&buffer, *at, part);
            *at += part.len() as u64;
            gpu.stage(part.len() as u64)?;
        }
    }
    Ok(buffer)
}
