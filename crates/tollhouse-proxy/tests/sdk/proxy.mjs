// The official Node SDK through the proxy at OPENAI_BASE_URL, its own retries on.

import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const client = new OpenAI();
const ask = { model: "gpt-4o", max_tokens: 5, messages: [{ role: "user", content: "Hi" }] };

const checks = {
  async twoHundredAtOnce() {
    const calls = Array.from({ length: 200 }, () =>
      client.chat.completions.create(ask).withResponse());
    for (const { data, response } of await Promise.all(calls)) {
      assert.equal(data.object, "chat.completion");
      assert.equal(response.headers.get("x-tollhouse-attempts"), "1");
    }
  },

  async streams() {
    let events = 0;
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 200, stream: true });
    for await (const _ of stream) events += 1;
    assert.ok(events > 2, `${events} events`);
  },

  async cancelled() {
    const stream = await client.chat.completions.create({ ...ask, max_tokens: 2000, stream: true });
    for await (const _ of stream) break;
    await client.chat.completions.create(ask);
  },

  async wrongToken() {
    const other = new OpenAI({ apiKey: "another" });
    await assert.rejects(other.models.list(), (error) => error.status === 401 && error.code === "invalid_api_key");
  },

  async uploads() {
    const file = await toFile(Buffer.alloc(300_000, "x"), "a.jsonl");
    await assert.rejects(client.files.create({ file, purpose: "batch" }), (error) =>
      error.status === 404 && error.message.includes("Invalid URL (POST /v1/files)"));
  },

  async embeddings() {
    const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"] });
    assert.equal(answer.data.length, 2);
  },
};

for (const [name, check] of Object.entries(checks)) {
  console.log("node", name);
  await check();
}
