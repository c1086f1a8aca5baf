// The official Node SDK's helpers against the simulator at OPENAI_BASE_URL.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI();
const model = "gpt-4o";
const messages = [{ role: "user", content: "Say it in JSON." }];

const Tree = z.object({
  value: z.number().int().min(0).max(9),
  get children() {
    return z.array(Tree);
  },
});
const Answer = z.object({
  colour: z.enum(["red", "blue"]),
  steps: z.array(z.object({ text: z.string(), share: z.number().min(0).max(1) })).min(2),
  who: z.union([
    z.object({ kind: z.literal("person"), age: z.number().int() }),
    z.object({ kind: z.literal("firm"), name: z.string() }),
  ]),
  note: z.string().nullable(),
  tree: Tree,
});
const Weather = z.object({ city: z.string(), unit: z.enum(["celsius", "fahrenheit"]) });
const weather = zodFunction({ name: "weather", parameters: Weather });

const checks = {
  async chatParse() {
    const done = await client.chat.completions.parse({
      model, messages, response_format: zodResponseFormat(Answer, "answer"),
    });
    Answer.parse(done.choices[0].message.parsed);
  },
  async chatParseTools() {
    const done = await client.chat.completions.parse({
      model, messages, tools: [weather], tool_choice: "required",
    });
    Weather.parse(done.choices[0].message.tool_calls[0].function.parsed_arguments);
  },
  async chatStream() {
    const stream = client.chat.completions.stream({
      model, messages, response_format: zodResponseFormat(Answer, "answer"),
    });
    let deltas = 0;
    stream.on("content.delta", () => (deltas += 1));
    const done = await stream.finalChatCompletion();
    assert(deltas > 1);
    Answer.parse(done.choices[0].message.parsed);
  },
  async chatStreamTools() {
    const stream = client.chat.completions.stream({
      model, messages, tools: [weather], tool_choice: "required",
    });
    const done = await stream.finalChatCompletion();
    Weather.parse(done.choices[0].message.tool_calls[0].function.parsed_arguments);
    assert.equal(done.choices[0].finish_reason, "tool_calls");
  },
  async runTools() {
    for (const stream of [false, true]) {
      const asked = [];
      const tool = zodFunction({
        name: "weather",
        parameters: Weather,
        function: (given) => {
          asked.push(Weather.parse(given));
          return "fine";
        },
      });
      const runner = client.chat.completions.runTools({ model, messages, tools: [tool], stream });
      assert((await runner.finalContent()).length > 0);
      assert.equal(asked.length, 1);
    }
  },
  async responsesParse() {
    const done = await client.responses.parse({
      model, input: "Hi", text: { format: zodTextFormat(Answer, "answer") },
    });
    Answer.parse(done.output_parsed);
  },
  async responsesTools() {
    const done = await client.responses.parse({
      model, input: "Hi", tool_choice: "required",
      tools: [zodResponsesFunction({ name: "weather", parameters: Weather })],
    });
    Weather.parse(done.output[0].parsed_arguments);
  },
  async responsesStream() {
    const stream = client.responses.stream({
      model, input: "Hi", text: { format: zodTextFormat(Answer, "answer") },
    });
    let deltas = 0;
    stream.on("response.output_text.delta", () => (deltas += 1));
    const done = await stream.finalResponse();
    assert(deltas > 1);
    Answer.parse(done.output_parsed);
  },
  async responsesStreamTools() {
    const stream = client.responses.stream({
      model, input: "Hi", tool_choice: "required",
      tools: [zodResponsesFunction({ name: "weather", parameters: Weather })],
    });
    const done = await stream.finalResponse();
    Weather.parse(done.output[0].parsed_arguments);
  },
  async moderations() {
    const done = await client.moderations.create({ input: "hate" });
    assert(done.results[0].flagged && done.results[0].categories.hate);
  },
};

for (const [name, check] of Object.entries(checks)) {
  console.log("node", name);
  await check();
}
