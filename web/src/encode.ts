/** Clips to files: MP4 and WebM by the browser's encoders; GIF, APNG and, without such encoders, MP4 by our own in WASM. */

import { anObject, oneOf } from './check.js';
import { Client } from './client.js';
import { KinoraError } from './errors.js';
import { containers } from './load-containers.js';
import { VERSION } from './options.js';
import type { EncodeCall } from './protocol.js';
import type { EncoderSetup, Video } from './video.js';

/** Formats of {@link Video.toBlob}; `auto` is MP4, or WebM where the browser compresses only that. */
export type VideoType = 'auto' | 'video/mp4' | 'video/webm' | 'image/gif' | 'image/apng';

/** How to write a clip as a file. */
export interface EncodeOptions {
  type?: VideoType;
  /** Of MP4 and WebM. Default: high. */
  quality?: 'low' | 'medium' | 'high';
  signal?: AbortSignal;
}

/** What a container may hold, best supported by players first. */
const CODECS = { 'video/mp4': ['avc', 'vp9', 'av1'], 'video/webm': ['vp9', 'av1', 'vp8'] } as const;
/** A clip a few frames long is judged by eye, frame by frame: bits are cheaper than blocks. */
const BITS_PER_PIXEL = { low: 0.3, medium: 0.8, high: 2.5 };
const LEAST_BITRATE = 200_000;

/** Writes `video` as a file. */
export async function encodeVideo(video: Video, setup: EncoderSetup, options: EncodeOptions | VideoType = {}): Promise<Blob> {
  const { type = 'auto', quality = 'high', signal } = typeof options === 'string' ? { type: options } : anObject('options', options);
  oneOf('quality', quality, Object.keys(BITS_PER_PIXEL));
  signal?.throwIfAborted();
  switch (type) {
    case 'image/gif':
      return encodeOurselves(video, setup, 'gif', signal);
    case 'image/apng':
      return encodeOurselves(video, setup, 'apng', signal);
    case 'auto':
    case 'video/mp4':
    case 'video/webm': {
      for (const container of type === 'auto' ? (['video/mp4', 'video/webm'] as const) : [type]) {
        const codec = await usableCodec(video, container, quality);
        if (codec) return encodeContainer(video, container, codec, quality, signal);
      }
      // Ours plays everywhere; it stores what moves without compression.
      if (type !== 'video/webm') return encodeOurselves(video, setup, 'mp4', signal);
      const message = `this browser encodes none of ${CODECS[type].join(', ')}, which ${type} can hold`;
      throw new KinoraError('no-encoder', message, { hint: 'ask for video/mp4, which always works' });
    }
    default:
      throw new KinoraError('invalid-request', `invalid type: found ${String(type)}, expected auto, video/mp4, video/webm, image/gif or image/apng`);
  }
}

type Container = keyof typeof CODECS;
type Codec = (typeof CODECS)[Container][number];

/** The first codec that encodes a frame of this clip here. Browsers promise codecs that then fail, so one is tried. */
async function usableCodec(video: Video, container: Container, quality: 'low' | 'medium' | 'high'): Promise<Codec | undefined> {
  if (typeof VideoEncoder === 'undefined') return undefined;
  // If that fails, it says nothing about codecs.
  await containers();
  for (const codec of CODECS[container]) {
    if (await encodesOneFrame(video, container, codec, quality)) return codec;
  }
  return undefined;
}

async function encodesOneFrame(video: Video, container: Container, codec: Codec, quality: 'low' | 'medium' | 'high'): Promise<boolean> {
  try {
    return (await encodeContainer(video, container, codec, quality, undefined, 1)).size > 0;
  } catch {
    // That it fails is the answer.
    return false;
  }
}

async function encodeContainer(
  video: Video,
  container: Container,
  codec: Codec,
  quality: 'low' | 'medium' | 'high',
  signal?: AbortSignal,
  numFrames = video.frameCount,
): Promise<Blob> {
  const { BufferTarget, Mp4OutputFormat, Output, VideoSample, VideoSampleSource, WebMOutputFormat } = await containers();
  const target = new BufferTarget();
  const format = container === 'video/mp4' ? new Mp4OutputFormat({ fastStart: 'in-memory' }) : new WebMOutputFormat();
  const output = new Output({ format, target });
  const bitrate = Math.max(LEAST_BITRATE, Math.round(video.width * video.height * video.fps * BITS_PER_PIXEL[quality]));
  const source = new VideoSampleSource({ codec, bitrate, keyFrameInterval: 2 });
  output.addVideoTrack(source, { frameRate: video.fps });
  output.setMetadataTags({ title: video.metadata.prompt, comment: JSON.stringify(video.metadata) });
  try {
    await output.start();
    for (let index = 0; index < numFrames; index++) {
      signal?.throwIfAborted();
      const sample = new VideoSample(video.rgba(index), {
        format: 'RGBA',
        codedWidth: video.width,
        codedHeight: video.height,
        timestamp: index / video.fps,
        duration: 1 / video.fps,
      });
      await source.add(sample).finally(() => sample.close());
    }
    await output.finalize();
  } catch (cause) {
    await output.cancel().catch(() => undefined);
    if (signal?.aborted) throw signal.reason;
    throw new KinoraError('encode', `${container} cannot be written: ${String(cause)}`, { cause, hint: 'ask for image/gif' });
  }
  if (!target.buffer) throw new KinoraError('encode', `${container} came out empty`);
  return new Blob([target.buffer], { type: container });
}

const MEDIA_TYPES = { gif: 'image/gif', apng: 'image/apng', mp4: 'video/mp4' };

/** In a worker of its own, so that it needs no model and can be stopped. */
async function encodeOurselves(video: Video, setup: EncoderSetup, format: EncodeCall['format'], signal?: AbortSignal): Promise<Blob> {
  const client = await Client.start(setup.worker);
  const finished = new KinoraError('disposed', 'the clip was encoded');
  try {
    const { width, height, fps, metadata } = video;
    const frames = Array.from({ length: video.frameCount }, (_, index) => new Uint8Array(video.rgba(index)));
    const call = {
      wasm: setup.wasm,
      ...{ format, width, height, fps, frames },
      description: metadata.prompt,
      software: `kinora ${VERSION}`,
      comment: JSON.stringify(metadata),
    };
    const transfer = frames.map((frame) => frame.buffer);
    const file = client.call('encode', call, { signal, transfer });
    // The encoder runs in one piece; ending the worker is what stops it.
    const stop = () => client.close(finished);
    signal?.addEventListener('abort', stop, { once: true });
    const bytes = await file.finally(() => signal?.removeEventListener('abort', stop));
    return new Blob([bytes as Uint8Array<ArrayBuffer>], { type: MEDIA_TYPES[format] });
  } finally {
    client.close(finished);
  }
}
