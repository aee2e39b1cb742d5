import { launch, open, serve } from './test/harness.mjs';
import fs from 'node:fs';
const s = await serve(); const b = await launch(); const page = await open(b, s.origin);
const kernels = JSON.parse(fs.readFileSync('/tmp/p/kernels.json'));
const r = await page.evaluate(async (kernels) => {
  let dev; const rd=GPUAdapter.prototype.requestDevice; GPUAdapter.prototype.requestDevice=async function(...a){return dev=await rd.apply(this,a)};
  const t0=performance.now(); const log=[]; const L=(x)=>log.push(`${Math.round(performance.now()-t0)} ${x}`);
  let up=0, upn=0; const wb=GPUQueue.prototype.writeBuffer; GPUQueue.prototype.writeBuffer=function(b,o,d,x,n){up+=(n??d.byteLength);upn++;return wb.apply(this,arguments)};
  let cb=0,cp=0; const c1=GPUDevice.prototype.createComputePipeline; GPUDevice.prototype.createComputePipeline=function(d){cp++;return c1.call(this,d)};
  const {loadModel}=await import('kinora');
  const m=await loadModel({worker:false});
  L('loaded');
  const desc=k=>({label:k.label,layout:dev.createPipelineLayout({bindGroupLayouts:[dev.createBindGroupLayout({entries:k.entries})]}),compute:{module:dev.createShaderModule({code:k.code}),entryPoint:'main'}});
  globalThis.hold=await Promise.all(kernels.map(k=>dev.createComputePipelineAsync(desc(k))));
  L('compiled');
  const sub=GPUQueue.prototype.submit; let subs=0; GPUQueue.prototype.submit=function(x){subs++; return sub.call(this,x)};
  for (let k=0;k<2;k++){
    const g=m.generate('a rocket flying on a blue background',{seed:7,preview:false, onEvent:e=>L(`${e.type}${e.step??''} pipelines ${cp} uploaded ${(up/1e6).toFixed(1)}MB in ${upn} submits ${subs}`)});
    await g; L('done');
  }
  return {log};
},kernels);
console.log(r.log.join('\n'));
await b.close(); await s.close();
