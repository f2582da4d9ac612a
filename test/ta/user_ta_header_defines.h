/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <node_optee_test_ta.h>

#define TA_UUID NODE_OPTEE_TEST_TA_UUID

/* One instance a session, so that sessions run side by side; protected memory may be passed in. */
#ifdef CFG_CACHE_API
#define TA_FLAGS (TA_FLAG_SECURE_DATA_PATH | TA_FLAG_CACHE_MAINTENANCE)
#else
#define TA_FLAGS TA_FLAG_SECURE_DATA_PATH
#endif

/* Memrefs are mapped, not copied: the heap holds a session's state alone. */
#define TA_STACK_SIZE (8 * 1024)
#define TA_DATA_SIZE (32 * 1024)

#define TA_VERSION "1.0"
#define TA_DESCRIPTION "Test TA of node-optee"

#endif
