// Record the microphone and make a WAV of it: mono, 16 kHz, 16 bit.

const RATE = 16000;
export const MOST_SECONDS = 29;

export class Recorder {
  constructor(onLevel) {
    this.onLevel = onLevel;
    this.blocks = [];
  }

  async start() {
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      throw new Error("Recording needs https or this machine's own address, and a recent browser.");
    }
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/static/recorder-worklet.js");
    const source = this.context.createMediaStreamSource(this.stream);
    this.node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 1 });
    this.blocks = [];
    this.node.port.onmessage = ({ data }) => {
      this.blocks.push(data);
      let sum = 0;
      for (const sample of data) sum += sample * sample;
      this.onLevel(Math.min(1, 4 * Math.sqrt(sum / data.length)));
    };
    source.connect(this.node).connect(this.context.destination);  // the node is silent; unconnected ones do not run
  }

  get seconds() {
    return this.blocks.reduce((sum, block) => sum + block.length, 0) / (this.context ? this.context.sampleRate : RATE);
  }

  async stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    const rate = this.context.sampleRate;
    await this.context.close();
    this.onLevel(0);
    const length = this.blocks.reduce((sum, block) => sum + block.length, 0);
    if (!length) throw new Error("Nothing was recorded; is the microphone on?");
    const samples = new Float32Array(length);
    let at = 0;
    for (const block of this.blocks) { samples.set(block, at); at += block.length; }
    return toWav(await resample(samples, rate));
  }
}

async function resample(samples, rate) {
  const length = Math.max(1, Math.round((samples.length * RATE) / rate));
  const offline = new OfflineAudioContext(1, length, RATE);
  const buffer = offline.createBuffer(1, samples.length, rate);
  buffer.copyToChannel(samples, 0);
  const source = offline.createBufferSource();
  source.buffer = buffer;
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

export function toWav(samples) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, RATE, 4], [28, 2 * RATE, 4], [32, 2, 2], [34, 16, 2]].forEach(
    ([at, value, size]) => (size === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true)),
  );
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => {
    const kept = Math.max(-1, Math.min(1, sample));
    view.setInt16(44 + 2 * i, Math.round(kept * 32767), true);
  });
  return new Blob([view.buffer], { type: "audio/wav" });
}
