import { launch, open, serve } from './test/harness.mjs';
import fs from 'node:fs';
const s = await serve(); const b = await launch(); const page = await open(b, s.origin);
let kernels;
if (fs.existsSync('/tmp/p/kernels.json')) kernels = JSON.parse(fs.readFileSync('/tmp/p/kernels.json'));
else {
kernels = await page.evaluate(async () => {
  const ks=[]; const mods=new Map(), bgls=new Map(), pls=new Map();
  const P=GPUDevice.prototype;
  const a=P.createShaderModule; P.createShaderModule=function(d){const m=a.call(this,d);mods.set(m,d.code);return m};
  const c=P.createBindGroupLayout; P.createBindGroupLayout=function(d){const m=c.call(this,d);bgls.set(m,d.entries.map(e=>({binding:e.binding,visibility:e.visibility,buffer:{type:e.buffer.type,hasDynamicOffset:e.buffer.hasDynamicOffset, minBindingSize:e.buffer.minBindingSize}})));return m};
  const e=P.createPipelineLayout; P.createPipelineLayout=function(d){const m=e.call(this,d);pls.set(m,bgls.get([...d.bindGroupLayouts][0]));return m};
  const orig=P.createComputePipeline;
  P.createComputePipeline=function(d){ks.push({label:d.label,code:mods.get(d.compute.module),entries:pls.get(d.layout)});return orig.call(this,d)};
  const {loadModel}=await import('kinora');
  const m=await loadModel({worker:false});
  await m.generate('a rocket flying on a blue background',{seed:7,steps:1,preview:false});
  return ks;
});
fs.writeFileSync('/tmp/p/kernels.json', JSON.stringify(kernels));
}
await b.close();
for (const mode of ['sync','async']) {
const b = await launch(); const page = await open(b, s.origin);
console.log(mode, await page.evaluate(async ([kernels,mode]) => {
  const ad=await navigator.gpu.requestAdapter(); const dev=await ad.requestDevice({requiredLimits:{maxStorageBufferBindingSize:ad.limits.maxStorageBufferBindingSize}});
  const desc=k=>({label:k.label,layout:dev.createPipelineLayout({bindGroupLayouts:[dev.createBindGroupLayout({entries:k.entries})]}),compute:{module:dev.createShaderModule({code:k.code}),entryPoint:'main'}});
  const t0=performance.now(); const times=[]; let hold=[];
  if (mode==='async') { hold=await Promise.all(kernels.map(async k=>{const p=await dev.createComputePipelineAsync(desc(k)); times.push(Math.round(performance.now()-t0)+' '+k.label); return p})); }
  const t1=performance.now();
  dev.pushErrorScope('validation');
  for (const k of kernels) { hold.push(dev.createComputePipeline(desc(k))); if(mode==='sync'){ dev.pushErrorScope('validation'); await dev.popErrorScope(); times.push(Math.round(performance.now()-t0)+' '+k.label);} }
  await dev.popErrorScope();
  return {async:Math.round(t1-t0), sync:Math.round(performance.now()-t1), times};
}, [kernels,mode]));
await b.close();
}
await s.close();
