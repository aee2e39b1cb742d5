//! The counting checked: a kernel whose text counts how often each of its blocks runs is run on every adapter and by
//! [`Machine`], lane by lane.

use super::*;
use crate::adapter::{AdapterSelect, adapters};
use crate::gpu::Gpu;

/// Raises a counter of its own at the beginning of each block of each function.
fn instrument(wgsl: &str) -> (String, u32) {
    let (mut text, mut counters, mut inside) = (String::new(), 0, false);
    for line in wgsl.lines() {
        inside = line.starts_with("fn ") || (inside && line != "}");
        text.push_str(line);
        text.push('\n');
        if inside && line.ends_with('{') {
            text.push_str(&format!("atomicAdd(&executed[{counters}u], 1u);\n"));
            counters += 1;
        }
    }
    text.push_str("@group(1) @binding(0) var<storage, read_write> executed: array<atomic<u32>>;\n");
    (text, counters)
}

/// How often each block runs, all lanes together, as the machine runs them.
fn foretold(wgsl: &str, dispatch: &Dispatch, counters: u32) -> Vec<u32> {
    let program = Program::parse(wgsl);
    let buffers = buffers(dispatch);
    let mut sums = vec![0; counters as usize];
    for group in 0..dispatch.items {
        for lane in 0..dispatch.kernel.workgroup[0] {
            let machine = Machine::run(&program, &buffers, Lane { lane, group: [group, 0, 0], groups: [dispatch.items, 1, 1] });
            sums.iter_mut().zip(machine.raised).for_each(|(sum, raised)| *sum += raised);
        }
    }
    sums
}

/// The same on an adapter.
fn measured(gpu: &Gpu, wgsl: &str, dispatch: &Dispatch, counters: u32) -> Vec<u32> {
    let source = wgpu::ShaderSource::Wgsl(wgsl.into());
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    // What holds no integers is larger than it has to be.
    let contents: Vec<Vec<u32>> = (1..dispatch.kernel.bindings.len() as u32)
        .map(|binding| buffers(dispatch).remove(&binding).unwrap_or_else(|| vec![0; 1 << 18]))
        .collect();
    let storage: Vec<_> = contents.iter().map(|words| gpu.upload("contents", bytemuck::cast_slice(words)).expect("fits")).collect();
    let uniform = gpu.create("params", dispatch.params.len() as u64, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
    gpu.write(&uniform, 0, &dispatch.params);
    let executed = gpu.upload("executed", &vec![0; 4 * counters as usize]).expect("fits");
    let group = |index: u32, buffers: &[&wgpu::Buffer]| {
        let entries: Vec<_> =
            (0..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }).collect();
        let layout = pipeline.get_bind_group_layout(index);
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries })
    };
    let bound: Vec<&wgpu::Buffer> = std::iter::once(&*uniform).chain(storage.iter().map(|buffer| &**buffer)).collect();
    let groups = [group(0, &bound), group(1, &[&*executed])];
    let mut encoder = gpu.encoder();
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    (0..).zip(&groups).for_each(|(index, group)| pass.set_bind_group(index, group, &[]));
    pass.dispatch_workgroups(dispatch.items, 1, 1);
    drop(pass);
    gpu.submit(Some(encoder.finish()));
    let bytes = pollster::block_on(gpu.download(&executed, 0, u64::from(counters) * 4)).expect("readable");
    gpu.check().expect("no failure");
    bytemuck::pod_collect_to_vec(&bytes)
}

#[test]
fn what_is_counted_is_what_runs() {
    let graphs = [product(70, 36, 72, WeightFormat::F16), attention(70, 2, 72), convolution([2, 5, 9], [12, 20], WeightFormat::F32)];
    for graph in &graphs {
        let dispatch = dispatch(graph);
        assert_eq!(dispatch.kernel.bindings[0], Use::Uniform);
        let (text, counters) = instrument(&dispatch.kernel.source());
        let foretold = foretold(&text, &dispatch, counters);
        assert!(foretold.iter().filter(|count| **count > 0).count() > 8, "{foretold:?}");
        for index in 0..pollster::block_on(adapters()).len() {
            let gpu = pollster::block_on(Gpu::open(&AdapterSelect::Index(index), None)).expect("an adapter that is listed opens");
            let measured = measured(&gpu, &text, &dispatch, counters);
            assert_eq!(foretold, measured, "{} on {}", dispatch.kernel.name, gpu.info().name);
        }
    }
}
