/*
 * The TA's own code: a function for each command. Their prototypes, and what there is to know about their
 * arguments, are in generated/hash_and_sign_dispatch.h.
 */
#include <tee_internal_api.h>

#include "hash_and_sign_dispatch.h"

/* Each session has a key of its own. */
struct hash_and_sign_session {
  TEE_ObjectHandle key;
};

TEE_Result hash_and_sign_open(struct hash_and_sign_session *session) {
  TEE_Attribute curve;

  TEE_InitValueAttribute(&curve, TEE_ATTR_ECC_CURVE, TEE_ECC_CURVE_NIST_P256, 0);
  TEE_Result result = TEE_AllocateTransientObject(TEE_TYPE_ECDSA_KEYPAIR, 256, &session->key);
  if (result != TEE_SUCCESS) return result;
  result = TEE_GenerateKey(session->key, 256, &curve, 1);
  if (result != TEE_SUCCESS) TEE_FreeTransientObject(session->key);
  return result;
}

/* A coordinate with the zeros that it may have in front. */
static TEE_Result coordinate(TEE_ObjectHandle key, uint32_t attribute, uint8_t bytes[32]) {
  uint8_t value[32];
  size_t size = sizeof(value);
  const TEE_Result result = TEE_GetObjectBufferAttribute(key, attribute, value, &size);

  if (result != TEE_SUCCESS) return result;
  TEE_MemFill(bytes, 0, 32);
  TEE_MemMove(bytes + 32 - size, value, size);
  return TEE_SUCCESS;
}

TEE_Result hash_and_sign_public_key(struct hash_and_sign_session *session,
                                    uint8_t x[HASH_AND_SIGN_PUBLIC_KEY_X_SIZE],
                                    uint8_t y[HASH_AND_SIGN_PUBLIC_KEY_Y_SIZE]) {
  const TEE_Result result = coordinate(session->key, TEE_ATTR_ECC_PUBLIC_VALUE_X, x);

  return result == TEE_SUCCESS ? coordinate(session->key, TEE_ATTR_ECC_PUBLIC_VALUE_Y, y) : result;
}

static TEE_Result hash(const uint8_t *data, size_t data_size, uint8_t digest[32]) {
  TEE_OperationHandle operation = TEE_HANDLE_NULL;
  size_t size = 32;
  TEE_Result result = TEE_AllocateOperation(&operation, TEE_ALG_SHA256, TEE_MODE_DIGEST, 0);

  if (result != TEE_SUCCESS) return result;
  result = TEE_DigestDoFinal(operation, data, data_size, digest, &size);
  TEE_FreeOperation(operation);
  return result;
}

TEE_Result hash_and_sign_sign(struct hash_and_sign_session *session, const uint8_t *data, size_t data_size,
                              uint8_t signature[HASH_AND_SIGN_SIGN_SIGNATURE_SIZE]) {
  TEE_OperationHandle operation = TEE_HANDLE_NULL;
  uint8_t digest[32];
  size_t size = HASH_AND_SIGN_SIGN_SIGNATURE_SIZE;
  TEE_Result result = hash(data, data_size, digest);

  if (result != TEE_SUCCESS) return result;
  result = TEE_AllocateOperation(&operation, TEE_ALG_ECDSA_SHA256, TEE_MODE_SIGN, 256);
  if (result != TEE_SUCCESS) return result;
  result = TEE_SetOperationKey(operation, session->key);
  if (result == TEE_SUCCESS)
    result = TEE_AsymmetricSignDigest(operation, NULL, 0, digest, sizeof(digest), signature, &size);
  TEE_FreeOperation(operation);
  return result;
}

/* What OP-TEE calls. The dispatcher checks each call, and hands it to one of the functions above. */

TEE_Result TA_CreateEntryPoint(void) {
  return TEE_SUCCESS;
}

void TA_DestroyEntryPoint(void) {}

TEE_Result TA_OpenSessionEntryPoint(uint32_t types, TEE_Param params[TEE_NUM_PARAMS], void **context) {
  struct hash_and_sign_session *session = TEE_Malloc(sizeof(*session), TEE_MALLOC_FILL_ZERO);
  if (session == NULL) return TEE_ERROR_OUT_OF_MEMORY;

  const TEE_Result result = hash_and_sign_open_session(session, types, params);
  if (result == TEE_SUCCESS)
    *context = session;
  else
    TEE_Free(session);
  return result;
}

void TA_CloseSessionEntryPoint(void *context) {
  struct hash_and_sign_session *session = context;

  TEE_FreeTransientObject(session->key);
  TEE_Free(session);
}

TEE_Result TA_InvokeCommandEntryPoint(void *context, uint32_t command, uint32_t types,
                                      TEE_Param params[TEE_NUM_PARAMS]) {
  return hash_and_sign_invoke(context, command, types, params);
}
