// Prints the numbers of an episode's steps as steps.py does, with the readers that Foxglove uses.
//
//     node steps.js FILE.mcap
"use strict";

const fs = require("fs");
const { McapIndexedReader } = require("@mcap/core");
const protobuf = require("protobufjs");
const descriptor = require("protobufjs/ext/descriptor");

const FIELDS = [
  "position", "velocity", "load", "current", "temperature", "sent", "achieved_goal", "desired_goal",
];

function bits(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatBE(value);
  return bytes.toString("hex");
}

function line(step) {
  const words = [String(step.tick), String(step.monotonic_ns)];
  for (const field of FIELDS) {
    for (const part of step[field]?.$type.fieldsArray ?? []) {
      if (Object.hasOwn(step[field], part.name)) {
        words.push(`${field}.${part.name}=${bits(step[field][part.name])}`);
      }
    }
  }
  return words.join(" ");
}

async function main(path) {
  const bytes = fs.readFileSync(path);
  const readable = {
    size: async () => BigInt(bytes.length),
    read: async (offset, size) => bytes.subarray(Number(offset), Number(offset + size)),
  };
  const reader = await McapIndexedReader.Initialize({ readable });
  const types = new Map();
  for (const channel of reader.channelsById.values()) {
    const schema = reader.schemasById.get(channel.schemaId);
    const set = descriptor.FileDescriptorSet.decode(schema.data);
    types.set(channel.id, protobuf.Root.fromDescriptor(set).lookupType(schema.name));
  }
  for await (const message of reader.readMessages({ topics: ["/step"] })) {
    console.log(line(types.get(message.channelId).decode(message.data)));
  }
}

main(process.argv[2]);
