//! Weights from where they lie to panels on the device, a window at a time: the host moves bytes as they are in the file, a
//! kernel makes panels of them. No packed weight is ever in host memory.

use std::collections::VecDeque;
use std::ops::Range;

use crate::allocation::Buffer;
use crate::buffers::Memory;
use crate::error::Result;
use crate::flight::Signal;
use crate::generated::pack::Params;
use crate::gpu::{Gpu, Pipeline};
use crate::kernel::Kernel;
use crate::place;
use crate::raw::{ALIGNMENT, Layout};
use crate::weight::{PANEL, Weight};

/// Bytes of a window, if no panel is larger and memory allows.
pub(crate) const WINDOW_BYTES: u64 = place::WINDOW_BYTES as u64;

/// Windows that may wait to be packed, each with its copy in staging memory.
const MOST_WAITING: usize = 2;

/// Pieces of weights in a window.
const MOST_PIECES: usize = 64;

/// Bytes of the parameters of the pieces in a window.
pub(crate) const PARAMS_BYTES: u64 = MOST_PIECES as u64 * ALIGNMENT;

/// Weights that are to be packed, and where.
pub(crate) struct Pending {
    list: Vec<(Weight, Memory)>,
    /// The first that is not packed, and its first panel that is not.
    at: usize,
    panel: usize,
}

impl Pending {
    pub(crate) fn new(list: Vec<(Weight, Memory)>) -> Self {
        Self { list, at: 0, panel: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.list.len()
    }

    /// Uploads what needs no packing, where there is nothing else.
    pub(crate) fn upload(self, gpu: &Gpu) -> Result<()> {
        self.list.iter().try_for_each(|(weight, memory)| upload(gpu, weight, memory).map(drop))
    }
}

/// Some panels of a weight in the window.
struct Piece<'a> {
    weight: &'a Weight,
    memory: &'a Memory,
    layout: Layout,
    rows: Range<usize>,
    /// Where it begins in the window.
    offset: u64,
}

/// Packs weights through a window of the device's memory.
pub(crate) struct Packer {
    window: Buffer,
    params: Buffer,
    waiting: VecDeque<(wgpu::SubmissionIndex, Signal)>,
}

impl Packer {
    /// One for these weights, with a window of at most `most` bytes unless a panel is larger; `None` if nothing of them needs
    /// packing.
    pub(crate) fn new<'a>(gpu: &Gpu, weights: impl IntoIterator<Item = &'a Weight>, most: u64) -> Result<Option<Self>> {
        let bytes = window_bytes(weights, most);
        if bytes == 0 {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.create("pack", PARAMS_BYTES, usage);
        Ok(Some(Self { window: gpu.storage("window", bytes)?, params, waiting: VecDeque::new() }))
    }

    /// Submits the next window of what is pending, or all that needs none.
    pub(crate) fn step(&mut self, gpu: &Gpu, pending: &mut Pending) -> Result<()> {
        let pieces = pieces(gpu, pending, self.window.size())?;
        let Some(size) = pieces.last().and_then(|last| std::num::NonZeroU64::new(last.offset + last.layout.extents(last.rows.len())[1]))
        else {
            return Ok(());
        };
        let mut view = gpu.write_with(&self.window, size)?;
        pieces.iter().try_for_each(|piece| piece.write(&mut view))?;
        drop(view);
        let jobs: Vec<(&'static Kernel, Params)> = pieces.iter().map(Piece::job).collect();
        let mut blocks = vec![0; jobs.len() * ALIGNMENT as usize];
        for (block, (_, params)) in blocks.chunks_exact_mut(ALIGNMENT as usize).zip(&jobs) {
            block[..size_of::<Params>()].copy_from_slice(bytemuck::bytes_of(params));
        }
        gpu.write(&self.params, 0, &blocks);
        let mut encoder = gpu.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (number, (piece, (kernel, params))) in (0..).zip(pieces.iter().zip(jobs)) {
            let pipeline = gpu.pipeline(kernel);
            let rows = (&self.window, piece.offset, piece.layout.extents(piece.rows.len()));
            let bindings = bind(gpu, &pipeline, &self.params, rows, piece.memory);
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &bindings, &[number * ALIGNMENT as u32]);
            let [x, y] = crate::replay::fold(params.end);
            pass.dispatch_workgroups(x, y, 1);
        }
        drop(pass);
        let index = gpu.submit(Some(encoder.finish()));
        let done = Signal::default();
        let notify = done.clone();
        gpu.queue.on_submitted_work_done(move || notify.set());
        self.waiting.push_back((index, done));
        Ok(())
    }

    /// Packs everything, with as many windows on their way as staging memory may hold; in browsers the queue has its own bound.
    pub(crate) fn finish(mut self, gpu: &Gpu, pending: &mut Pending) -> Result<()> {
        while !pending.is_empty() {
            if let Some((index, _)) = self.earliest() {
                gpu.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })?;
            }
            self.step(gpu, pending)?;
        }
        Ok(())
    }

    /// Waits until the staging memory of one more window is free.
    pub(crate) async fn room(&mut self, gpu: &Gpu) -> Result<()> {
        while let Some((index, done)) = self.earliest() {
            gpu.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })?;
            done.wait().await;
        }
        gpu.check()
    }

    /// The one to wait for, if there are as many as may be.
    fn earliest(&mut self) -> Option<(wgpu::SubmissionIndex, Signal)> {
        if self.waiting.len() < MOST_WAITING { None } else { self.waiting.pop_front() }
    }
}

/// What the kernel that packs reads and writes: parameters at a dynamic offset, rows that begin at an offset of a buffer with the ends of
/// their values and scales, and the panels.
pub(crate) fn bind(
    gpu: &Gpu,
    pipeline: &Pipeline,
    params: &Buffer,
    (buffer, offset, [scales, end]): (&Buffer, u64, [u64; 2]),
    panels: &Memory,
) -> wgpu::BindGroup {
    let params = wgpu::BufferBinding { buffer: params, offset: 0, size: std::num::NonZeroU64::new(size_of::<Params>() as u64) };
    let part = |from: u64, to: u64| Memory { buffer: buffer.clone(), offset: offset + from, bytes: to - from };
    let parts = [(0, scales), (scales, end)].map(|(from, to)| part(from, to));
    let mut memories: Vec<&Memory> = parts.iter().filter(|part| part.bytes > 0).collect();
    memories.push(panels);
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
    entries.extend((1..).zip(memories).map(|(binding, memory)| wgpu::BindGroupEntry { binding, resource: memory.resource() }));
    gpu.bind_group("pack", &pipeline.layout, &entries)
}

/// Bytes of the window through which these weights are packed, if it may have `most` unless a panel is larger.
pub(crate) fn window_bytes<'a>(weights: impl IntoIterator<Item = &'a Weight>, most: u64) -> u64 {
    let (mut all, mut panel) = (0, 0);
    for weight in weights.into_iter().filter(|weight| weight.shape().rank() > 1 && weight.panels().is_none()) {
        let (layout, rows) = (Layout::of(weight), weight.shape().dims()[0]);
        all += layout.extents(rows)[1];
        panel = panel.max(layout.extents(rows.min(PANEL))[1] + 2 * ALIGNMENT);
    }
    all.min(panel.max(most))
}

/// Takes as much of what is pending as a window of `capacity` bytes holds; what is uploaded as it is does not count.
fn pieces<'a>(gpu: &Gpu, pending: &'a mut Pending, capacity: u64) -> Result<Vec<Piece<'a>>> {
    let Pending { list, at, panel } = pending;
    let (mut out, mut filled) = (Vec::new(), 0);
    while let Some((weight, memory)) = list.get(*at) {
        if upload(gpu, weight, memory)? {
            *at += 1;
            continue;
        }
        let (layout, rows) = (Layout::of(weight), weight.shape().dims()[0]);
        let first = *panel * PANEL;
        let left = rows - first;
        let count = if filled + layout.extents(left)[1] <= capacity { left } else { layout.fitting(capacity - filled) * PANEL };
        if count == 0 || out.len() == MOST_PIECES {
            break;
        }
        let count = count.min(left);
        let offset = filled;
        filled += layout.extents(count)[1];
        out.push(Piece { weight, memory, layout, rows: first..first + count, offset });
        *panel += count.div_ceil(PANEL);
        if count == left {
            (*at, *panel) = (*at + 1, 0);
        }
    }
    Ok(out)
}

/// Uploads a vector, or panels that lie in files as the device stores them; whether it was one of these.
fn upload(gpu: &Gpu, weight: &Weight, memory: &Memory) -> Result<bool> {
    if weight.shape().rank() == 1 {
        gpu.write(&memory.buffer, memory.offset, &weight.vector_bytes());
        return Ok(true);
    }
    let Some(panels) = weight.panels() else { return Ok(false) };
    let mut to = memory.offset;
    for part in panels {
        for start in part.range.clone().step_by(place::WINDOW_BYTES) {
            let bytes = part.file.read(start..part.range.end.min(start + WINDOW_BYTES)).map_err(|error| weight.unreadable(&error))?;
            gpu.write(&memory.buffer, to, &bytes);
            gpu.stage(bytes.len() as u64)?;
            to += bytes.len() as u64;
        }
    }
    Ok(true)
}

impl Piece<'_> {
    /// Puts its rows where they belong in the window.
    fn write(&self, window: &mut wgpu::QueueWriteBufferView) -> Result<()> {
        let mut put = |at: &mut usize, bytes: &[u8]| {
            window.slice(*at..*at + bytes.len()).copy_from_slice(bytes);
            *at += bytes.len();
        };
        let mut at = self.offset as usize;
        if self.layout.disk.is_none() {
            put(&mut at, bytemuck::cast_slice(&self.weight.row_values(self.rows.clone())?));
            return Ok(());
        }
        let mut scales_at = at + self.layout.extents(self.rows.len())[0] as usize;
        self.weight.raw_rows(self.rows.clone(), |values, scales| {
            put(&mut at, values);
            put(&mut scales_at, scales);
        })
    }

    fn job(&self) -> (&'static Kernel, Params) {
        self.layout.job(self.weight, self.rows.clone())
    }
}

#[cfg(test)]
mod tests;
