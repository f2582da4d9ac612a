/* SPDX-License-Identifier: BSD-2-Clause */
/* A client in C, over libteec: one command of the test TA (test/ta). docs/guest.md says how to build and run
 * it. */
#include <stdio.h>
#include <tee_client_api.h>

static const TEEC_UUID TA = {0x346e01a1, 0x3d71, 0x4feb, {0x89, 0x4b, 0xae, 0x25, 0x2d, 0x06, 0x4b, 0xde}};
static const uint32_t VALUES = 1; /* adds 1 to a and 2 to b */

static int check(const char *function, TEEC_Result result) {
  if (result != TEEC_SUCCESS) fprintf(stderr, "%s: %#x\n", function, result);
  return result == TEEC_SUCCESS ? 0 : 1;
}

static int add(TEEC_Context *context) {
  TEEC_Session session;
  uint32_t origin;

  if (check("TEEC_OpenSession",
            TEEC_OpenSession(context, &session, &TA, TEEC_LOGIN_PUBLIC, NULL, NULL, &origin)))
    return 1;

  TEEC_Operation operation = {
      .paramTypes = TEEC_PARAM_TYPES(TEEC_VALUE_INOUT, TEEC_NONE, TEEC_NONE, TEEC_NONE),
      .params[0].value = {41, 0},
  };
  const int status = check("TEEC_InvokeCommand", TEEC_InvokeCommand(&session, VALUES, &operation, &origin));

  if (status == 0) printf("%u %u\n", operation.params[0].value.a, operation.params[0].value.b);
  TEEC_CloseSession(&session);
  return status;
}

int main(void) {
  TEEC_Context context;

  if (check("TEEC_InitializeContext", TEEC_InitializeContext(NULL, &context))) return 1;

  const int status = add(&context);

  TEEC_FinalizeContext(&context);
  return status;
}
