// The replies of /api/v1/, as services/api defines them, and how to ask for them.

export interface Counters {
  captured: number;
  dropped: number;
  ignored: number;
  held: number;
  lost: number;
}

export interface Capture extends Counters {
  id: string;
  user: string;
  client: string;
  sink: string;
  device?: string;
  directory?: string;
  fileName?: string;
  files?: number;
  source: string;
  expression: string;
  state: "waiting" | "running" | "finished" | "interrupted" | "failed";
  reason?: string;
  startTime: number;
  endTime?: number;
  bytes: number;
  bitRate: number;
  scan?: Scan;
  empty?: string; // why there is no packet in one that has finished, unless scan says it
  forgotten?: number; // TCP packets that streamRegexp judged without what came before
}

// A Scan says what a capture from a ring looked at.
export interface Scan {
  blocks: number;
  read: number;
  bytes: number;
  packets: number;
  matched: number;
  undecided: number;
  disorder: number;
  dropped: number;
  lost: number;
  startTime?: number;
  endTime?: number;
  gaps: { startTime: number; endTime: number; reason: string }[] | null;
  empty?: string;
}

export interface Gap {
  start: number;
  end: number;
  lost: number;
  cause: string;
}

export interface Port {
  id: number;
  name: string;
  driver: string;
  link: number;
  mode: "sink" | "bridge";
  direction: string;
  state: string;
  reason?: string;
  speedMbps: number;
  duplex?: string;
  mtu: number;
  rxPackets: number;
  rxBytes: number;
  lostNic: number;
  lostKernel: number;
  ownPackets: number;
  bitRate: number;
  packetRate: number;
  gaps: Gap[];
}

export interface Protocol {
  layer: "mac" | "l4" | "l7";
  name: string;
  packets: number;
  bytes: number;
  bitRate: number;
  filter: string;
}

// A Storage is a device for captures, savefiles and rings.
export interface Storage {
  id: string;
  name: string;
  kind: "directory" | "disk";
  state: string;
  reason?: string;
  path: string;
  model?: string;
  serial?: string;
  transport?: string;
  encrypted: boolean;
  health: string;
  healthNote?: string;
  bytes: number;
  freeBytes: number;
  ringFreeBytes: number;
  ringBytes: number;
  ringShare: number;
  progress?: number;
}

export interface StoredFile {
  device?: string;
  path: string;
}

export interface FileEntry {
  name: string;
  path: string;
  escaped?: string; // the path percent-encoded, where it is not UTF-8
  type: "file" | "directory" | "link" | "other";
  bytes: number;
  modified: number;
  writing?: boolean;
}

export interface Directory {
  device: string;
  path: string;
  files: FileEntry[];
  bytes: number;
  freeBytes: number;
}

// A Slot is a place in which savefiles are analysed.
export interface Slot {
  id: number;
  state: "free" | "running" | "ready" | "failed";
  reason?: string;
  user?: string;
  files: StoredFile[];
  ring?: { name: string };
  bytes: number;
  totalBytes: number;
  packets: number;
  rate: number;
  secondsLeft: number;
  startTime?: number;
  endTime?: number;
  flows: number;
  scan?: Scan;
}

export interface RingRule {
  type: "all" | "mac" | "ip" | "port" | "l7" | "vlan" | "interface" | "sip" | "group" | "filter";
  value?: string;
  negate?: boolean;
  action: "full" | "snap" | "l2" | "l3" | "l4" | "discard";
  snapLength?: number;
}

export interface RingRequest {
  name: string;
  devices?: string[];
  sizeBytes: number;
  replication?: number;
  rules?: RingRule[];
}

// A Ring is a packet ring buffer.
export interface Ring extends RingRequest {
  state: "creating" | "recording" | "stopped" | "waiting" | "failed";
  reason?: string;
  progress?: number;
  usableBytes: number;
  usedBytes: number;
  totalBytes: number;
  packets: number;
  discarded: number;
  dropped: Record<string, number>;
  oldest?: number;
  newest?: number;
  byteRate: number;
  deviceStates: { device: string; state: "active" | "absent" | "failed"; reason?: string; sizeBytes: number; usedBytes: number }[];
  pins: { startTime: number; endTime: number; until: number; bytes?: number }[];
  problems: string[];
}

// readable says whether there can be captures from a ring.
export const readable = (r: Ring) => r.state === "recording" || r.state === "stopped";

// A DryRun is what a capture from a ring would bring, about.
export interface DryRun {
  blocks: number;
  packets: number;
  error: number; // of packets
  bytes: number;
  seconds: number;
  sampled: number;
  exact: boolean;
  startTime?: number;
  endTime?: number;
  empty?: string; // why nothing would match
}

export interface Snapshot {
  time: number;
  ports: Port[];
  captures: Capture[];
  finished: Capture[];
  protocols: Protocol[];
  slots: Slot[];
  rings: Ring[];
  panics: number; // packets whose application protocol was not looked for, because of a fault in Galvo
}

// readSnapshot reads an event. The device writes an empty list as null, and leaves out the finished captures while they are those of the event before.
export function readSnapshot(text: string, before: Snapshot | null): Snapshot {
  const s = JSON.parse(text) as { [K in keyof Snapshot]: Snapshot[K] | null };
  return { time: s.time ?? 0, ports: s.ports ?? [], captures: s.captures ?? [], finished: s.finished ?? before?.finished ?? [], protocols: s.protocols ?? [], slots: s.slots ?? [], rings: s.rings ?? [], panics: s.panics ?? 0 };
}

export interface Status {
  name: string;
  version: string;
  state: "ok" | "degraded";
  fingerprint: string;
  network: Network;
  problems: string[] | null;
  role: "viewer" | "capture" | "admin"; // of who asks
}

export interface Network {
  addresses: string[] | null;
  confirmSeconds?: number; // left to keep changed management settings
  clock: { source: string; synced: boolean; offset: number };
}

export interface Failure {
  error: string;
  kind: string;
  pos: number;
  len: number;
  expected: string[] | null;
}

export interface FilterCheck {
  canonical: string;
  words: string;
  needsL7: boolean;
  error?: Failure;
}

export interface CaptureRequest {
  expression: string;
  undecided: string;
  snapLength: number;
  format: string;
  maxSeconds: number;
  maxBytes: number;
  maxPackets: number;
  useSingleInterface: boolean;
  comment: string;
  deviceInfo: boolean;
  fileName: string;
  source?: string;
  startTime?: number;
  endTime?: number;
  sink: { type: string; device?: string; directory?: string; splitBytes?: number; splitSeconds?: number };
}

export interface CaptureCreated {
  id: string;
  stream?: string;
}

// A Refusal is an answer of the device that is not the one asked for.
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly failure: Failure,
  ) {
    super(failure.error);
  }
}

// How long an answer may take, in ms. What changes something may take long: a disk is unlocked, a folder deleted with everything in it.
const patience = { GET: 10_000, other: 120_000 };

export async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { "X-Requested-With": "galvo" };
  const init: RequestInit = { method, headers, signal: AbortSignal.timeout(method === "GET" ? patience.GET : patience.other) };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let reply: Response;
  let text: string;
  try {
    reply = await fetch("/api/v1" + path, init);
    text = await reply.text();
  } catch {
    throw away();
  }
  if (!reply.ok) {
    throw new Refusal(reply.status, failureOf(text, reply));
  }
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

// away is the refusal of a device that does not answer.
export const away = () => new Refusal(0, { error: "The device does not answer.", kind: "unavailable", pos: 0, len: 0, expected: null });

export function failureOf(text: string, reply: Response): Failure {
  try {
    return JSON.parse(text) as Failure;
  } catch {
    return { error: `${reply.status} ${reply.statusText}`, kind: "internal", pos: 0, len: 0, expected: null };
  }
}
