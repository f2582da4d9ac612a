/* What OP-TEE wants to know of the TA. */
#ifndef USER_TA_HEADER_DEFINES_H
#define USER_TA_HEADER_DEFINES_H

#include <http_service_ta.h>

#define TA_UUID HTTP_SERVICE_UUID

/* 0: one instance for each session. TA_FLAG_SINGLE_INSTANCE | TA_FLAG_MULTI_SESSION: one for all. */
#define TA_FLAGS 0

/* Bytes. The dispatcher's copies of structs and texts are on the stack; TEE_Malloc takes from the data. */
#define TA_STACK_SIZE (4096 + HTTP_SERVICE_DISPATCH_STACK_SIZE)
#define TA_DATA_SIZE (32 * 1024)

#define TA_VERSION "0.1"
#define TA_DESCRIPTION "http-service"

#endif
