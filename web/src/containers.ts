/** What is used of mediabunny, apart, so that bundlers leave out the rest and pages that write no films load nothing of it. */

export {
  BlobSource, BufferTarget, CanvasSink, Input, MP4, Mp4OutputFormat, Output, StreamTarget, VideoSample, VideoSampleSource, WEBM, WebMOutputFormat,
} from 'mediabunny';
