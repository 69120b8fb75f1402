// The JavaScript server SDK with its stock providers, told in lines of JSON what to do; answers each with a line.

import { createInterface } from 'node:readline';
import { FlagdProvider } from '@openfeature/flagd-provider';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';

const silent = { error() {}, warn() {}, info() {}, debug() {} };
OpenFeature.setLogger(silent);

// The SDK's four names for five kinds.
const METHODS = {
  boolean: 'getBooleanDetails',
  string: 'getStringDetails',
  integer: 'getNumberDetails',
  float: 'getNumberDetails',
  object: 'getObjectDetails',
};
const events = {};

function provider({ mode, port, url, options }) {
  if (mode === 'ofrep') return new OFREPProvider({ baseUrl: url, ...options });
  return new FlagdProvider({ host: '127.0.0.1', port, resolverType: mode, ...options }, silent);
}

async function open(command) {
  const client = OpenFeature.getClient(command.name);
  const seen = (events[command.name] = { past: [], waiting: [] });
  for (const event of Object.values(ProviderEvents)) {
    client.addHandler(event, (details) => {
      seen.past.push({ event, flags: details?.flagsChanged ?? null });
      seen.waiting.splice(0).forEach((wake) => wake());
    });
  }
  await OpenFeature.setProviderAndWait(command.name, provider(command));
  return {};
}

async function read({ name, kind, key, fallback, context }) {
  const details = await OpenFeature.getClient(name)[METHODS[kind]](key, fallback, context);
  return {
    value: details.value,
    reason: details.reason,
    variant: details.variant || null,
    error: details.errorCode ?? null,
    metadata: details.flagMetadata,
  };
}

// The next event of that name; others before it are passed over.
async function next({ name, event }) {
  const seen = events[name];
  for (;;) {
    while (seen.past.length) {
      const found = seen.past.shift();
      if (found.event === event) return found;
    }
    await new Promise((wake) => seen.waiting.push(wake));
  }
}

const operations = { open, read, next };
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await operations[command.op](command);
  } catch (error) {
    answer = { failed: String(error?.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await OpenFeature.close();
process.exit(0);
