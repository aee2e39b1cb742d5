import { launch, open, serve } from './test/harness.mjs';
const s = await serve(); const b = await launch(); const page = await open(b, s.origin);
const r = await page.evaluate(async () => {
  const t0 = performance.now(); const log=[]; const L=(x)=>log.push(`${Math.round(performance.now()-t0)} ${x}`);
  let n=0; const orig=GPUDevice.prototype.createComputePipeline; let names=new Set();
  GPUDevice.prototype.createComputePipeline=function(d){n++;names.add(d.label);return orig.call(this,d)};
  const {loadModel}=await import('kinora');
  const m=await loadModel({worker:false, onProgress:p=>p.phase!='download'&&L(p.phase+' '+p.message)});
  L('loaded');
  for (let k=0;k<2;k++){
    const g=m.generate('a rocket flying on a blue background',{seed:7,preview:{everySteps:2}, onEvent:e=>L(e.type+(e.step??'')+' pipelines '+n)});
    await g; L('done');
  }
  return {log, names:[...names]};
});
console.log(r.log.join('\n')); console.log(r.names.length, r.names.join(' '));
await b.close(); await s.close();
