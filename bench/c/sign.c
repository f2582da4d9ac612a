/* SPDX-License-Identifier: BSD-2-Clause */
/* Signs with the first private key of slot 0, through libckteec: sign PIN SIGNATURES */
#include <pkcs11.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(const char *what, CK_RV result) {
  if (result == CKR_OK) return;
  fprintf(stderr, "%s: %#lx\n", what, (unsigned long)result);
  exit(1);
}

int main(int argc, char *argv[]) {
  if (argc != 3) {
    fprintf(stderr, "usage: sign PIN SIGNATURES\n");
    return 2;
  }
  CK_SESSION_HANDLE session;
  CK_OBJECT_HANDLE key;
  CK_ULONG found;
  CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
  CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof(class)};
  CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};

  check("C_Initialize", C_Initialize(NULL));
  check("C_OpenSession", C_OpenSession(0, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
  check("C_Login", C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)argv[1], strlen(argv[1])));
  check("C_FindObjectsInit", C_FindObjectsInit(session, &wanted, 1));
  check("C_FindObjects", C_FindObjects(session, &key, 1, &found));
  check("C_FindObjectsFinal", C_FindObjectsFinal(session));
  if (found != 1) check("no key", CKR_KEY_HANDLE_INVALID);
  for (long i = atol(argv[2]); i > 0; i--) {
    CK_BYTE digest[32] = {(CK_BYTE)i};
    CK_BYTE signature[64];
    CK_ULONG size = sizeof(signature);

    check("C_SignInit", C_SignInit(session, &mechanism, key));
    check("C_Sign", C_Sign(session, digest, sizeof(digest), signature, &size));
  }
  check("C_Finalize", C_Finalize(NULL));
  return 0;
}
