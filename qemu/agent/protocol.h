/*
 * What the guest's agent and the host say to each other; lib/qemu/protocol.ts is the other side.
 *
 * Both directions carry frames, all numbers little-endian:
 *
 *     u32 size of the payload | u8 type | u8 stream | u16 zero | u32 command | payload
 *
 * The host chooses the command's number. Streams are 0 (input), 1 (output), 2 (errors); 0 where a type has
 * none. Each stream has a window of WINDOW bytes: its sender has that much credit at first, spends it with
 * DATA, and gets it back with CREDIT when the receiver has passed the bytes on. So a command that does not
 * read, or a host that does not, holds up nobody else. EXIT is a command's last frame and comes after all
 * that was in its pipes when it ended; children that it left behind do not delay it. They run on, and what
 * they write goes nowhere.
 */
#ifndef NODE_OPTEE_PROTOCOL_H
#define NODE_OPTEE_PROTOCOL_H

#include <stdint.h>

enum {
  PROTOCOL_VERSION = 2,
  HEADER_SIZE = 12,
  WINDOW = 256 * 1024,
  MAX_DATA = 64 * 1024,
  MAX_EXEC = 4 * 1024 * 1024,
};

enum frame_type {
  /* Both ways */
  FRAME_DATA = 0x01,   /* bytes */
  FRAME_EOF = 0x02,    /* the stream's sender has no more */
  FRAME_CREDIT = 0x03, /* u32 bytes */
  FRAME_CLOSE = 0x04,  /* the stream's receiver takes no more */
  /* Host to guest */
  FRAME_EXEC = 0x10,
  FRAME_SIGNAL = 0x11,  /* u32 number, to the command's process group */
  FRAME_WINSIZE = 0x12, /* u16 rows, u16 columns */
  FRAME_POWEROFF = 0x13,
  FRAME_CLOCK = 0x14, /* u32 seconds since 1970, u32 nanoseconds */
  /* Guest to host */
  FRAME_HELLO = 0x20, /* u32 protocol version */
  FRAME_STARTED = 0x21,
  FRAME_EXEC_FAILED = 0x22, /* u32 errno, u32 enum stage; the command's last frame */
  FRAME_EXIT = 0x23,        /* u32 wait status, u32 errno of what could not be written to the share, or 0 */
  FRAME_ERROR = 0x24,       /* text; the protocol is broken, the machine ends */
};

/* FRAME_EXEC: u32 flags | u16 rows | u16 columns | u32 uid | u32 gid | u32 groups | u32 arguments |
 * u32 environment | u32 group[groups] | cwd, share, arguments, environment: strings, each with its NUL. What
 * was written to the file system of `share`, unless that is empty, is on the host before EXIT. With
 * EXEC_MERGED errors go where output goes. */
enum { EXEC_FIXED = 28 };
enum exec_flags { EXEC_STDIN = 1, EXEC_TTY = 2, EXEC_MERGED = 4 };

/* What could not be done when a command did not start. */
enum stage { STAGE_PREPARE, STAGE_USER, STAGE_CWD, STAGE_EXEC };

struct failure {
  uint32_t error;
  uint32_t stage;
};

#endif
