/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

/* 8aaaf200-2450-11e4-abe2-0002a5d5c51b */
#define TA_UUID                                      \
  {                                                  \
    0x8aaaf200, 0x2450, 0x11e4, {                    \
      0xab, 0xe2, 0x00, 0x02, 0xa5, 0xd5, 0xc5, 0x1b \
    }                                                \
  }

#define TA_FLAGS 0
#define TA_STACK_SIZE (2 * 1024)
#define TA_DATA_SIZE (4 * 1024)

#define TA_VERSION "1.0"
#define TA_DESCRIPTION "The hello world TA of node-optee's guest"

#endif
