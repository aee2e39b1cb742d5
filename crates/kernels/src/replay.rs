//! A plan on the GPU: buffers, bind groups and uniforms are made once, then every run only submits dispatches.

use std::collections::HashMap;
use std::sync::Arc;

use crate::allocation::Buffer;
use crate::buffers::Memory;
use crate::error::{Error, Result};
use crate::footprint::{lowered, segments};
use crate::gpu::{Gpu, Pipeline};
use crate::kernel::Kernel;
use crate::lower::{Binding, Dispatch};
use crate::memory::{GroupPlan, MemoryPlan};
use crate::pacing::{Cursor, Part, Work};
use crate::pack::WINDOW_BYTES;
use crate::plan::{Cadence, Graph, Operand, Source, ValueId};
use crate::ring::Ring;
use crate::segments::window_of;
use crate::weight::Weight;

struct Command {
    pipeline: Arc<Pipeline>,
    bindings: wgpu::BindGroup,
    /// Number of its parameter block.
    slot: u32,
    /// The block, for all items.
    params: Vec<u8>,
    kernel: &'static Kernel,
    work: Work,
    step: usize,
}

impl Command {
    /// The parameters of some of its items.
    fn part(&self, part: Part) -> Vec<u8> {
        let mut params = self.params.clone();
        self.kernel.set_items(&mut params, part.first, part.end);
        params.resize(UNIFORM_SLOT, 0);
        params
    }
}

/// What commands read besides values while they are made.
struct Held {
    weights: HashMap<u64, Buffer>,
    /// Equal lists are uploaded once.
    lists: HashMap<Vec<u32>, Buffer>,
    fills: Vec<Buffer>,
}

/// A plan with its buffers and commands on a GPU.
pub(crate) struct Replay {
    gpu: Arc<Gpu>,
    buffers: Vec<Memory>,
    slot: Vec<Option<usize>>,
    /// The parameter blocks of all commands, and two for parts of some.
    uniforms: Buffer,
    /// What else the commands read, which must last as long as they do.
    shared: Vec<Buffer>,
    prelude: Vec<Command>,
    step: Vec<Command>,
    /// Where the weights are that are not resident.
    ring: Option<Ring>,
    /// Floating-point operations of a submission, if not as the device turns out to be.
    work_limit: Option<f64>,
}

impl Replay {
    /// Several plans that run one after another, with the states of equal names in common.
    pub(crate) fn group(gpu: &Arc<Gpu>, graphs: &[Graph], work_limit: Option<f64>, weight_bytes: Option<u64>) -> Result<Vec<Self>> {
        let plans: Vec<MemoryPlan> = graphs.iter().map(MemoryPlan::new).collect();
        let group = GroupPlan::new(graphs, &plans);
        let buffers = group.buffers.iter().map(|bytes| allocate(gpu, *bytes)).collect::<Result<Vec<Memory>>>()?;
        let own = |slots: &Vec<usize>| slots.iter().map(|&slot| buffers[slot].clone()).collect();
        let parts = graphs.iter().zip(plans).zip(&group.slots);
        parts.map(|((graph, plan), slots)| Self::new(gpu.clone(), graph, (plan.slot, own(slots)), work_limit, weight_bytes)).collect()
    }

    /// A plan whose values have the `buffers` at their `slot`. Weights get `weight_bytes`, or as much as they need.
    fn new(
        gpu: Arc<Gpu>,
        graph: &Graph,
        (slot, buffers): (Vec<Option<usize>>, Vec<Memory>),
        work_limit: Option<f64>,
        weight_bytes: Option<u64>,
    ) -> Result<Self> {
        let lowered = lowered(graph, gpu.preset());
        gpu.compile_all(lowered.iter().map(|(_, dispatch)| dispatch.kernel));
        let segments = segments(graph, &lowered, weight_bytes)?;
        let uniforms = upload_params(&gpu, &lowered);
        let mut replay =
            Self { gpu, buffers, slot, uniforms, shared: Vec::new(), prelude: Vec::new(), step: Vec::new(), ring: None, work_limit };
        for (id, value) in graph.values.iter().enumerate() {
            if let Source::Constant(bits) = &value.source {
                replay.write(id, bits);
            }
        }
        let is_resident = |weight: &&Weight| segments.as_ref().is_none_or(|segments| !segments.streamed.contains(&weight.id()));
        let weights = lowered.iter().flat_map(|(_, dispatch)| dispatch.weights()).filter(is_resident);
        let mut held = Held {
            weights: replay.gpu.weights(weights, weight_bytes.map_or(WINDOW_BYTES, window_of))?,
            lists: HashMap::new(),
            fills: Vec::new(),
        };
        replay.ring = segments.map(|segments| Ring::new(&replay.gpu, segments)).transpose()?;
        for (slot, (step, dispatch)) in (0..).zip(lowered) {
            let cadence = graph.cadence(&graph.steps[step]);
            let at = (cadence, replay.commands(cadence).len());
            let command = replay.command(step, dispatch, slot, at, &mut held)?;
            match cadence {
                Cadence::Once => replay.prelude.push(command),
                Cadence::EveryStep => replay.step.push(command),
            }
        }
        replay.gpu.check()?;
        replay.shared = held.weights.into_values().chain(held.lists.into_values()).chain(held.fills).collect();
        Ok(replay)
    }

    /// A command with its parameters in block `slot`, the one with number `at` of its cadence.
    fn command(&self, step: usize, dispatch: Dispatch, slot: u32, at: (Cadence, usize), held: &mut Held) -> Result<Command> {
        let Dispatch { kernel, params, bindings, items, flops } = dispatch;
        let pipeline = self.gpu.pipeline(kernel);
        let size = std::num::NonZeroU64::new(params.len() as u64);
        let block = wgpu::BufferBinding { buffer: &self.uniforms, offset: 0, size };
        let storage = bindings.into_iter().map(|b| self.binding(kernel.name, b, at, held)).collect::<Result<Vec<_>>>()?;
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(block) }];
        entries.extend(storage.iter().enumerate().map(|(i, m)| wgpu::BindGroupEntry { binding: i as u32 + 1, resource: m.resource() }));
        let bindings = self.gpu.bind_group(kernel.name, &pipeline.layout, &entries);
        Ok(Command { pipeline, bindings, slot, params, kernel, work: Work { items, flops }, step })
    }

    fn binding(&self, label: &str, binding: Binding, (cadence, number): (Cadence, usize), held: &mut Held) -> Result<Memory> {
        match binding {
            Binding::Value(id) => self.memory(id).cloned(),
            Binding::Weight(weight) => {
                let missing = || Error::Device { detail: format!("weight `{}` has no buffer", weight.name()) };
                let resident = held.weights.get(&weight.id()).cloned().map(Memory::whole);
                resident.or_else(|| self.ring.as_ref()?.memory(cadence, number, &weight)).ok_or_else(missing)
            }
            Binding::Fill { value, len } => {
                let buffer = self.gpu.fill(value, len)?;
                held.fills.push(buffer.clone());
                Ok(Memory::whole(buffer))
            }
            Binding::Data(words) => {
                if let Some(buffer) = held.lists.get(&words) {
                    return Ok(Memory::whole(buffer.clone()));
                }
                let buffer = self.gpu.upload(label, bytemuck::cast_slice(&words))?;
                held.lists.insert(words, buffer.clone());
                Ok(Memory::whole(buffer))
            }
        }
    }

    fn memory(&self, id: ValueId) -> Result<&Memory> {
        let slot = self.slot.get(id).copied().flatten();
        let missing = || Error::Device { detail: format!("value %{id} of the plan has no buffer") };
        slot.and_then(|s| self.buffers.get(s)).ok_or_else(missing)
    }

    /// Writes the stored form of a value; values no step reads have no buffer and are ignored.
    pub(crate) fn write(&self, id: ValueId, stored: &[u32]) {
        if let Ok(memory) = self.memory(id) {
            self.gpu.write(&memory.buffer, memory.offset, bytemuck::cast_slice(stored));
        }
    }

    pub(crate) async fn read(&self, operand: Operand, bytes: u64) -> Result<Vec<u32>> {
        let memory = self.memory(operand.value)?;
        let bytes = self.gpu.download(&memory.buffer, memory.offset, bytes).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    /// Fails if a kernel wrote outside the memory it was given. Only a guarded device has guard words to check.
    pub(crate) async fn check_guards(&self) -> Result<()> {
        for (i, memory) in self.buffers.iter().enumerate() {
            if memory.offset == 0 {
                continue;
            }
            for start in [0, memory.offset + memory.bytes] {
                let words: Vec<u32> = bytemuck::pod_collect_to_vec(&self.gpu.download(&memory.buffer, start, GUARD_BYTES).await?);
                if words.iter().any(|w| *w != POISON) {
                    return Err(Error::Device { detail: format!("a kernel wrote outside buffer {i} ({} bytes)", memory.bytes) });
                }
            }
        }
        Ok(())
    }

    /// Submits the commands of one cadence, in as many submissions as the adapter's speed asks for; `go_on` is asked before
    /// each. Returns when the last is submitted.
    pub(crate) async fn run(&mut self, cadence: Cadence, go_on: &dyn Fn() -> bool) -> Result<()> {
        let count = self.ring.as_ref().map_or(1, |ring| ring.segments().of(cadence).len());
        for segment in 0..count {
            let all = 0..self.commands(cadence).len();
            let range = self.ring.as_ref().map_or(all, |ring| ring.segments().of(cadence)[segment].range.clone());
            let work: Vec<Work> = self.commands(cadence)[range.clone()].iter().map(|command| command.work).collect();
            let mut cursor = Cursor::default();
            self.load(cadence, segment).await?;
            while !cursor.at_end(&work) {
                self.gpu.room().await?;
                if !go_on() {
                    return Err(Error::Cancelled);
                }
                let limit = self.work_limit.unwrap_or_else(|| self.gpu.pace());
                let Some((parts, flops)) = cursor.submission(&work, limit) else { break };
                self.gpu.depart(self.encode(&self.commands(cadence)[range.clone()], &parts), flops);
                // While this runs.
                self.load(cadence, segment + 1).await?;
            }
        }
        self.gpu.check()
    }

    /// Has the weights of a segment on their way, if there are any.
    async fn load(&mut self, cadence: Cadence, segment: usize) -> Result<()> {
        match &mut self.ring {
            Some(ring) => ring.load(&self.gpu, cadence, segment).await,
            None => Ok(()),
        }
    }

    /// The commands that run parts of `commands`, of which two at most are no whole ones.
    fn encode(&self, commands: &[Command], parts: &[Part]) -> wgpu::CommandBuffer {
        let spare = (self.prelude.len() + self.step.len()) as u32;
        let mut blocks = Vec::new();
        let dispatches = parts.iter().map(|&part| {
            let command = &commands[part.index];
            let items = part.end - part.first;
            if items == command.work.items {
                return (command, command.slot, items);
            }
            blocks.push(command.part(part));
            (command, spare + blocks.len() as u32 - 1, items)
        });
        let commands = self.encode_dispatches(dispatches);
        if !blocks.is_empty() {
            // Takes effect before the commands that are submitted next and after those submitted before.
            self.gpu.write(&self.uniforms, u64::from(spare) * UNIFORM_SLOT as u64, &blocks.concat());
        }
        commands
    }

    /// Dispatches of commands with the parameters in a block and a number of items.
    fn encode_dispatches<'a>(&self, dispatches: impl IntoIterator<Item = (&'a Command, u32, u32)>) -> wgpu::CommandBuffer {
        let mut encoder = self.gpu.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (command, slot, items) in dispatches {
            let [x, y] = fold(items);
            pass.set_pipeline(&command.pipeline.pipeline);
            pass.set_bind_group(0, &command.bindings, &[slot * UNIFORM_SLOT as u32]);
            pass.dispatch_workgroups(x, y, 1);
        }
        drop(pass);
        encoder.finish()
    }

    fn commands(&self, cadence: Cadence) -> &[Command] {
        match cadence {
            Cadence::Once => &self.prelude,
            Cadence::EveryStep => &self.step,
        }
    }

    /// Submits whole commands at once.
    fn submit<'a>(&self, commands: impl IntoIterator<Item = &'a Command>) {
        let whole = commands.into_iter().map(|command| (command, command.slot, command.work.items));
        self.gpu.submit(Some(self.encode_dispatches(whole)));
    }

    /// Runs the dispatches of one step of the plan and waits: to look at its result before its buffer is reused.
    pub(crate) async fn run_single(&mut self, cadence: Cadence, step: usize) -> Result<()> {
        let commands = self.commands(cadence);
        let first = commands.iter().position(|c| c.step == step).unwrap_or(commands.len());
        let count = commands[first..].iter().take_while(|c| c.step == step).count();
        for number in first..first + count {
            if let Some(segment) = self.ring.as_ref().map(|ring| ring.segments().containing(cadence, number)) {
                self.load(cadence, segment).await?;
            }
            self.submit(&self.commands(cadence)[number..=number]);
        }
        self.gpu.idle().await
    }

    /// Submits the commands of the steps of one cadence that `wanted` picks, all at once, `times` times and waits: for
    /// measurements, with whatever weights are there. Returns how many there are and their floating-point operations.
    pub(crate) async fn run_picked(&self, cadence: Cadence, wanted: &dyn Fn(usize) -> bool, times: usize) -> Result<(usize, f64)> {
        let picked: Vec<&Command> = self.commands(cadence).iter().filter(|c| wanted(c.step)).collect();
        for _ in 0..times {
            self.submit(picked.iter().copied());
        }
        self.gpu.idle().await?;
        Ok((picked.len(), picked.iter().map(|c| c.work.flops).sum()))
    }

    /// Number of dispatches per cadence.
    pub(crate) fn dispatches(&self, cadence: Cadence) -> usize {
        self.commands(cadence).len()
    }

    /// Waits for everything submitted.
    pub(crate) async fn idle(&self) -> Result<()> {
        self.gpu.idle().await
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replay({} + {} dispatches, {} buffers)", self.prelude.len(), self.step.len(), self.buffers.len())
    }
}

/// Guard bytes before and after a buffer of a guarded device; a multiple of every required offset alignment.
const GUARD_BYTES: u64 = 256;

/// Contents of guarded memory before anything is written: a NaN that a kernel which reads too much spreads.
const POISON: u32 = 0x7fc0_dead;

fn allocate(gpu: &Gpu, bytes: u64) -> Result<Memory> {
    let bytes = bytes.max(16);
    if !gpu.guarded() {
        return Ok(Memory { buffer: gpu.storage("activations", bytes)?, offset: 0, bytes });
    }
    let words = vec![POISON; ((bytes + 2 * GUARD_BYTES) / 4) as usize];
    Ok(Memory { buffer: gpu.upload("guarded activations", bytemuck::cast_slice(&words))?, offset: GUARD_BYTES, bytes })
}

/// All parameter blocks in one uniform buffer, and room for two more.
fn upload_params(gpu: &Gpu, lowered: &[(usize, Dispatch)]) -> Buffer {
    let mut bytes = vec![0; params_bytes(lowered.len()) as usize];
    for (slot, (_, dispatch)) in bytes.chunks_exact_mut(UNIFORM_SLOT).zip(lowered) {
        slot[..dispatch.params.len()].copy_from_slice(&dispatch.params);
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = gpu.create("params", bytes.len() as u64, usage);
    gpu.write(&buffer, 0, &bytes);
    buffer
}

/// Bytes of the parameter blocks of so many dispatches, and of two more.
pub(crate) fn params_bytes(dispatches: usize) -> u64 {
    ((dispatches + 2) * UNIFORM_SLOT) as u64
}

/// Bytes between two parameter blocks: WebGPU's largest required alignment of uniform offsets.
const UNIFORM_SLOT: usize = 256;

/// A grid of at least `items` workgroups with at most 65 535 in a dimension.
pub(crate) fn fold(items: u32) -> [u32; 2] {
    let rows = items.div_ceil(65_535).max(1);
    [items.div_ceil(rows).max(1), rows]
}
