/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common.h"

struct bench_case cases[64];
static size_t used;

static void add(struct bench_case bench_case, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct bench_case bench_case, const char *format, ...) {
  va_list args;

  va_start(args, format);
  vsnprintf(bench_case.name, sizeof(bench_case.name), format, args);
  va_end(args);
  cases[used++] = bench_case;
}

void make_cases(void) {
  static const size_t sizes[] = {16, 4096, 65536, 1048576};
  static const struct {
    const char *name;
    bool in;
    bool out;
  } directions[] = {
      {"in", true, false},   {"out", false, true},    {"inout", true, true},
      {"into", false, true}, {"inplace", true, true}, /* not new for C, but for JavaScript */
  };

  add((struct bench_case){.kind = KIND_INVOKE}, "empty");
  add((struct bench_case){.kind = KIND_INVOKE, .values = 1}, "value");
  add((struct bench_case){.kind = KIND_INVOKE, .values = 4}, "values4");
  for (size_t d = 0; d < sizeof(directions) / sizeof(directions[0]); d++) {
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
      add(
          (struct bench_case){
              .kind = KIND_TMP, .in = directions[d].in, .out = directions[d].out, .size = sizes[s]},
          "tmp-%s-%zu", directions[d].name, sizes[s]);
    }
  }
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
    add((struct bench_case){.kind = KIND_SHM_WHOLE, .size = sizes[s]}, "shm-whole-%zu", sizes[s]);
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
    add((struct bench_case){.kind = KIND_SHM_PART, .size = sizes[s]}, "shm-part-%zu", sizes[s]);
  for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
    add((struct bench_case){.kind = KIND_SHM_ALLOC, .size = sizes[s]}, "shm-alloc-%zu", sizes[s]);
  add((struct bench_case){.kind = KIND_DMABUF, .size = 65536}, "dmabuf-register");
  add((struct bench_case){.kind = KIND_SESSION}, "session");
}

const struct bench_case *find_case(const char *name) {
  for (size_t i = 0; i < used; i++) {
    if (!strcmp(cases[i].name, name)) return cases + i;
  }
  return NULL;
}
