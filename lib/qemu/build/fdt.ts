/** Flattened device trees (Devicetree Specification 0.4, chapter 5), as far as a node is to be added to one. */
import { BuildError } from './command.js';

/** A text, cells of 32 bits, or a property that says something by being there. */
export type FdtValue = string | readonly number[] | true;

export interface FdtNode {
  readonly properties: Readonly<Record<string, FdtValue>>;
  readonly children?: Readonly<Record<string, FdtNode>>;
}

const MAGIC = 0xd00dfeed;
const BEGIN_NODE = 1;
const END_NODE = 2;
const PROPERTY = 3;
const NOP = 4;

/** Of version 17, which is what QEMU writes. Ten words. */
const HEADER = 40;

/**
 * Adds a node below the root.
 * @param tree a flattened device tree; it is not changed
 * @returns the new tree
 * @throws BuildError if `tree` is none, or its root has such a node
 */
export function addNode(tree: Buffer, name: string, node: FdtNode): Buffer {
  if (tree.length < HEADER || tree.readUInt32BE(0) !== MAGIC) throw new BuildError('This is no device tree');
  const word = (at: number): number => tree.readUInt32BE(4 * at);
  const [structure, strings, reserved] = [word(2), word(3), word(4)];
  const texts = [tree.subarray(strings, strings + word(8))];
  let length = word(8);
  const nameOf = (property: string): number => {
    const text = Buffer.from(`${property}\0`);
    texts.push(text);
    length += text.length;
    return length - text.length;
  };
  const block = tree.subarray(structure, structure + word(9));
  const end = endOfRoot(block, name);
  const nodes = Buffer.concat([block.subarray(0, end), encode(name, node, nameOf), block.subarray(end)]);
  const reservations = tree.subarray(reserved, endOfReservations(tree, reserved));
  const header = Buffer.from(tree.subarray(0, HEADER));
  const atNodes = HEADER + reservations.length;
  const size = atNodes + nodes.length + length;
  for (const [at, value] of [
    [1, size],
    [2, atNodes],
    [3, atNodes + nodes.length],
    [4, HEADER],
    [8, length],
    [9, nodes.length],
  ] as const)
    header.writeUInt32BE(value, 4 * at);
  return Buffer.concat([header, reservations, nodes, ...texts], size);
}

/** Where the root's END_NODE is. */
function endOfRoot(block: Buffer, name: string): number {
  let depth = 0;
  for (let at = 0; at + 4 <= block.length;) {
    const token = block.readUInt32BE(at);
    if (token === BEGIN_NODE) {
      const end = block.indexOf(0, at + 4);
      if (depth === 1 && block.toString('latin1', at + 4, end) === name)
        throw new BuildError(`The device tree has a node ${name} already`);
      depth++;
      at = aligned(end + 1);
    } else if (token === PROPERTY) at = aligned(at + 12 + block.readUInt32BE(at + 4));
    else if (token === END_NODE && --depth === 0) return at;
    else if (token === END_NODE || token === NOP) at += 4;
    else break;
  }
  throw new BuildError('The device tree has no end');
}

/** Pairs of 64 bits, the last of zeros. */
function endOfReservations(tree: Buffer, from: number): number {
  let at = from;
  while (tree.readBigUInt64BE(at) !== 0n || tree.readBigUInt64BE(at + 8) !== 0n) at += 16;
  return at + 16;
}

function encode(name: string, node: FdtNode, nameOf: (property: string) => number): Buffer {
  const parts = [cells(BEGIN_NODE), padded(Buffer.from(`${name}\0`))];
  for (const [property, value] of Object.entries(node.properties)) {
    const bytes =
      value === true
        ? Buffer.alloc(0)
        : typeof value === 'string'
          ? Buffer.from(`${value}\0`)
          : cells(...value);
    parts.push(cells(PROPERTY, bytes.length, nameOf(property)), padded(bytes));
  }
  for (const [child, below] of Object.entries(node.children ?? {})) parts.push(encode(child, below, nameOf));
  return Buffer.concat([...parts, cells(END_NODE)]);
}

function cells(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => bytes.writeUInt32BE(value, 4 * index));
  return bytes;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes], aligned(bytes.length));
}

function aligned(at: number): number {
  return Math.ceil(at / 4) * 4;
}
