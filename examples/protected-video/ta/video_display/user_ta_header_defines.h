/* What OP-TEE wants to know of the TA. */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <video_display_ta.h>

#define TA_UUID VIDEO_DISPLAY_UUID

/* OP-TEE gives protected memory only to a TA that has this flag. */
#define TA_FLAGS TA_FLAG_SECURE_DATA_PATH

/* Bytes. The dispatcher's copies of structs and texts are on the stack; TEE_Malloc takes from the data. */
#define TA_STACK_SIZE (4096 + VIDEO_DISPLAY_DISPATCH_STACK_SIZE)
#define TA_DATA_SIZE (32 * 1024)

#define TA_VERSION "0.1"
#define TA_DESCRIPTION "protected-video: display"

#endif
