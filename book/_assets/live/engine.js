// The live page's engine: onnxruntime-web with the exported model, all from scripts beside the page, so that it also
// runs where a page may not fetch files (opened from the disk). Nothing leaves the machine.
window.addlibLive = window.addlibLive || {};
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/engine\.js.*$/, "");

  const script = (name) =>
    new Promise((done, failed) => {
      const element = document.createElement("script");
      element.src = here + name;
      element.onload = done;
      element.onerror = () => failed(new Error(`${name} did not load`));
      document.head.append(element);
    });

  // The bytes behind gzip and base64.
  const unpack = async (text) => {
    const packed = Uint8Array.fromBase64
      ? Uint8Array.fromBase64(text)
      : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  // Loads everything and returns {page, run}; page is what came with the model (workflow/live/page_data.py).
  addlibLive.start = async () => {
    await Promise.all(["ort.wasm.min.js", "runtime.js", "model.js"].map(script));
    const { runtime, model } = addlibLive;
    const page = model.page;
    const [wasm, data] = await Promise.all([unpack(runtime.wasm), unpack(model.onnx)]);
    const { wasm: settings } = ort.env;
    settings.numThreads = 1;
    settings.wasmBinary = wasm;
    settings.wasmPaths = { mjs: URL.createObjectURL(new Blob([runtime.mjs], { type: "text/javascript" })) };
    const session = await ort.InferenceSession.create(data, { executionProviders: ["wasm"] });
    delete runtime.wasm;
    delete model.onnx;

    const { n_layers: layers, n_heads: heads, n_digits: n, base } = page;
    const bools = (values, shape) => new ort.Tensor("bool", Uint8Array.from(values, Number), shape);
    const whole = (values, shape) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);

    // One question: probabilities of all digits for each answer column, and shares of attention.
    const run = async (q, off, by) => {
      const tokens = addlibLive.tokens(q, page.answer_columns);
      const here = tokens.map((_, position) => {
        const column = page.answer_columns[position - 2 * n - 1]; // made at this position
        return !off.has(`A${column}`);
      });
      const on = (name, count) => Array.from({ length: layers * count }, (_, i) => !off.has(name(i)));
      const found = await session.run({
        tokens: whole(tokens, [1, tokens.length]),
        heads: bools(on((i) => `L${Math.floor(i / heads)}H${i % heads}`, heads), [layers, heads]),
        positions: bools(here, [tokens.length]),
        mlps: bools(on((i) => `MLP${i}`, 1), [layers]),
        stand_in: whole([by], []),
      });
      const rows = (flat, count, length) =>
        Array.from({ length: count }, (_, i) => [...flat.slice(i * length, (i + 1) * length)]);
      const { logits, patterns } = found;
      return {
        probabilities: rows(logits.data, n + 1, logits.dims[2]).map((row) => {
          const top = Math.max(...row);
          const powers = row.map((logit) => Math.exp(logit - top));
          const total = powers.reduce((sum, power) => sum + power, 0);
          return powers.map((power) => power / total);
        }),
        patterns: rows(patterns.data, layers * heads, (n + 1) * tokens.length).map((flat) =>
          rows(flat, n + 1, tokens.length),
        ),
      };
    };
    return { page, run };
  };
})();
