import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Duplex } from 'node:stream';
import { expect, test } from '@jest/globals';
import { GdbCommands, gdbCommands, taElfs } from '#lib/qemu/gdb';
import { taMounts } from '#lib/qemu/mounts';
import { gdbPort, listenToMonitor } from '#lib/qemu/monitor';
import { newFolder } from '../support/guest.js';

const UUID = '00112233-4455-6677-8899-aabbccddeeff';

test('a TA is known by its UUID as it is in memory, its file by a name that gdb splits as one', () => {
  const symbols = { linux: '/a b/vmlinux', optee: '/tee' };
  const text = gdbCommands(7, symbols, [{ uuid: UUID, elf: '/it\'s "x"\\y.elf' }]);
  expect(text).toContain('symbol-file "/a b/vmlinux"\nadd-symbol-file "/tee"\ntarget remote 127.0.0.1:7\n');
  expect(text).toContain(
    '$node_optee_uuid[0] == 0x6677445500112233 && $node_optee_uuid[1] == 0xffeeddccbbaa9988 ',
  );
  expect(text).toContain('    add-symbol-file "/it\'s \\"x\\"\\\\y.elf" -o $node_optee_base\n');
});

test('a machine without symbols, or a guest without TAs: what there is', () => {
  const lines = gdbCommands(7, undefined, [{ uuid: UUID, elf: '/x' }])
    .trimEnd()
    .split('\n');
  expect(lines.at(-1)).toBe('target remote 127.0.0.1:7');
  expect(lines.join()).not.toContain('symbol-file');
  expect(gdbCommands(7, { linux: '/l', optee: '/o' }, [])).not.toContain('break *');
});

test('TAs with an ELF beside them', () => {
  const folder = newFolder();
  const other = UUID.replace('0', '1');
  for (const name of [`${UUID}.ta`, `${UUID}.elf`, `${other}.ta`, 'odd.ta', 'odd.elf'])
    writeFileSync(join(folder, name), '');
  const [elsewhere, link] = [newFolder(), `${UUID}.elf`];
  mkdirSync(join(elsewhere, `${other}.elf`));
  expect(taElfs(taMounts([folder]), [elsewhere, folder])).toEqual([{ uuid: UUID, elf: join(folder, link) }]);
});

test('the file is for its owner alone, and goes', () => {
  const file = new GdbCommands(7, undefined, []);
  expect(statSync(file.path).mode & 0o777).toBe(0o600);
  expect(statSync(dirname(file.path)).mode & 0o777).toBe(0o700);
  file.remove();
  expect(existsSync(dirname(file.path))).toBe(false);
});

test('QEMU is asked once it has greeted, and each answer is its own', async () => {
  const sent: string[] = [];
  const socket = new Duplex({
    read() {},
    write(chunk: Buffer, _, done) {
      sent.push(chunk.toString());
      done();
    },
  });
  const events: string[] = [];
  const ask = listenToMonitor(socket, ({ event }) => events.push(event));
  const [first, second] = [ask('query-a'), ask('query-b')];
  await new Promise(setImmediate);
  expect(sent).toEqual([]);
  socket.push('{"QMP": {}}\n{"return": {}}\n');
  await new Promise(setImmediate);
  expect(sent).toEqual([
    '{"execute":"qmp_capabilities"}\n',
    '{"execute":"query-a","id":0}\n',
    '{"execute":"query-b","id":1}\n',
  ]);
  socket.push('{"return": "b", "id": 1}\n{"event": "RESUME"}\n{"return": "a", "id": 0}\n');
  expect([await first, await second]).toEqual(['a', 'b']);
  expect(events).toEqual(['RESUME']);
});

test("the port is in QEMU's answer", () => {
  const devices = [
    { label: 'kernel', filename: 'unix:' },
    { label: 'gdb', filename: 'disconnected:tcp:127.0.0.1:42095,server=on' },
  ];
  expect(gdbPort(devices)).toBe(42095);
  expect(gdbPort([{ label: 'gdb', filename: 'tcp:127.0.0.1:7,server=on <-> 127.0.0.1:9' }])).toBe(7);
  expect(gdbPort(devices.slice(0, 1))).toBeUndefined();
  expect(gdbPort(undefined)).toBeUndefined();
});
