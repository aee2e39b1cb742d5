/** Clips to files, loaded when the first is written: MP4 and WebM by the browser's encoders; GIF, APNG and, without such encoders, MP4 by our own in WASM. */

import { anObject, oneOf } from './check.js';
import { Client } from './client.js';
import { KinoraError } from './errors.js';
import { containers, type OutputFormat, type Target } from './load-containers.js';
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
  /** Of MP4 and WebM. Default: the first of those that this browser encodes. */
  codec?: VideoCodec;
  signal?: AbortSignal;
}

/** How to write a clip as a stream. */
export interface StreamOptions extends Omit<EncodeOptions, 'type'> {
  /** Default: MP4. */
  type?: 'video/mp4' | 'video/webm';
}

/** What compresses: H.264, H.265, VP9, AV1 or VP8. MP4 holds the first four, WebM the last three. */
export type VideoCodec = 'avc' | 'hevc' | 'vp9' | 'av1' | 'vp8';

type Container = NonNullable<StreamOptions['type']>;

/** What a container may hold, best supported by players first; with `hevc` an MP4 plays in few, so that it has to be asked for. */
const CODECS: Record<Container, VideoCodec[]> = { 'video/mp4': ['avc', 'vp9', 'av1'], 'video/webm': ['vp9', 'av1', 'vp8'] };
/** A clip a few frames long is judged by eye, frame by frame: bits are cheaper than blocks. */
const BITS_PER_PIXEL = { low: 0.3, medium: 0.8, high: 2.5 };
const LEAST_BITRATE = 200_000;

/** Writes `video` as a file. */
export async function encodeVideo(video: Video, setup: EncoderSetup, options: EncodeOptions | VideoType = {}): Promise<Blob> {
  const { type = 'auto', codec, ...rest }: EncodeOptions = typeof options === 'string' ? { type: options } : anObject('options', options);
  const { signal } = rest;
  checkEncoding(rest.quality, codec);
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
        const usable = await usableCodec(video, container, rest, codec);
        if (usable) return encodeFile(video, container, usable, rest);
      }
      // Ours plays everywhere; it stores what moves without compression.
      if (type !== 'video/webm' && !codec) return encodeOurselves(video, setup, 'mp4', signal);
      throw noEncoder(type, codec);
    }
    default:
      throw new KinoraError('invalid-request', `invalid type: found ${String(type)}, expected auto, video/mp4, video/webm, image/gif or image/apng`);
  }
}

/** Writes `video` into `writable` as it is encoded: pieces of a file whose parts are in the order in which they are made. */
export async function streamVideo(video: Video, writable: WritableStream<Uint8Array>, options: StreamOptions = {}): Promise<void> {
  const { type = 'video/mp4', codec, ...effort } = anObject('options', options);
  oneOf('type', type, Object.keys(CODECS));
  checkEncoding(effort.quality, codec);
  effort.signal?.throwIfAborted();
  const usable = await usableCodec(video, type, effort, codec);
  if (!usable) throw noEncoder(type, codec);
  const { Mp4OutputFormat, StreamTarget, WebMOutputFormat } = await containers();
  const format = type === 'video/mp4' ? new Mp4OutputFormat({ fastStart: 'fragmented' }) : new WebMOutputFormat({ appendOnly: true });
  const into = writable.getWriter();
  const target = new StreamTarget(new WritableStream<{ data: Uint8Array }>({ write: ({ data }) => into.write(data) }));
  try {
    await encode(video, format, target, usable, effort, type);
    await into.close();
  } finally {
    into.releaseLock();
  }
}

function checkEncoding(quality: unknown = 'high', codec: unknown = 'avc'): void {
  oneOf('quality', quality, Object.keys(BITS_PER_PIXEL));
  oneOf('codec', codec, ['avc', 'hevc', 'vp9', 'av1', 'vp8']);
}

function noEncoder(type: 'auto' | Container, codec?: VideoCodec): KinoraError {
  const container = type === 'auto' ? 'video/mp4' : type;
  const message = `this browser encodes none of ${codec ?? CODECS[container].join(', ')} for ${container}`;
  const hint = codec ? 'ask for another codec, or for none' : 'ask for a file of type video/mp4, which always works';
  return new KinoraError('no-encoder', message, { hint });
}

/** How well, and how long at most. */
type Effort = Omit<EncodeOptions, 'type' | 'codec'>;

/** The first codec that encodes a frame of this clip here. Browsers promise codecs that then fail, so one is tried. */
async function usableCodec(video: Video, container: Container, effort: Effort, asked?: VideoCodec): Promise<VideoCodec | undefined> {
  if (typeof VideoEncoder === 'undefined') return undefined;
  // If that fails, it says nothing about codecs.
  await containers();
  const quality = effort.quality ? { quality: effort.quality } : {};
  for (const codec of asked ? [asked] : CODECS[container]) {
    // That it fails is the answer.
    const file = await encodeFile(video, container, codec, quality, 1).catch(() => undefined);
    if (file?.size) return codec;
  }
  return undefined;
}

async function encodeFile(video: Video, container: Container, codec: VideoCodec, effort: Effort, numFrames?: number): Promise<Blob> {
  const { BufferTarget, Mp4OutputFormat, WebMOutputFormat } = await containers();
  const target = new BufferTarget();
  const format = container === 'video/mp4' ? new Mp4OutputFormat({ fastStart: 'in-memory' }) : new WebMOutputFormat();
  await encode(video, format, target, codec, effort, container, numFrames);
  if (!target.buffer) throw new KinoraError('encode', `${container} came out empty`);
  return new Blob([target.buffer], { type: container });
}

async function encode(
  video: Video,
  format: OutputFormat,
  target: Target,
  codec: VideoCodec,
  { quality = 'high', signal }: Effort,
  container: Container,
  numFrames = video.frameCount,
): Promise<void> {
  const { Output, VideoSample, VideoSampleSource } = await containers();
  const output = new Output({ format, target });
  const bitrate = Math.max(LEAST_BITRATE, Math.round(video.width * video.height * video.fps * BITS_PER_PIXEL[quality]));
  const source = new VideoSampleSource({ codec, bitrate, keyFrameInterval: 2 });
  try {
    output.addVideoTrack(source, { frameRate: video.fps });
    output.setMetadataTags({ title: video.metadata.prompt, comment: JSON.stringify(video.metadata) });
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
    if (cause instanceof KinoraError) throw cause;
    throw new KinoraError('encode', `${container} cannot be written: ${String(cause)}`, { cause, hint: 'ask for image/gif' });
  }
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
